"""The files of a run that keep its responses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from genevae.data.schema import Schema
from genevae.io.bounded import read_json
from genevae.responses.answer import Responses
from genevae.responses.profiles import Profiles
from genevae.runs.manifest import write_tensors

__all__ = ["RESPONSES", "responses_files", "responses_in"]

RESPONSES, STATES = "responses.safetensors", "states.json"


def responses_files(responses: Responses) -> dict[str, Callable[[Path], Any]]:
    """Return a writer for each file: numbers as safetensors, and the names of states as JSON."""
    arrays = {f"profiles/{name}": x for name, x in responses.profiles.to_arrays().items()}
    for number, found in enumerate(responses.left_out.values()):
        arrays |= {f"left_out/{number}/{name}": x.astype(np.float32) for name, x in found.items()}
    content = {
        **responses.profiles.to_json(),
        "control": dict(responses.control),
        "left_out_fields": list(responses.left_out_fields),
        "left_out": [list(key) for key in responses.left_out],
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in arrays.items()}
    return {
        RESPONSES: lambda file: write_tensors(file, tensors),
        STATES: lambda file: file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8"),
    }


def responses_in(folder: Path, schema: Schema) -> Responses:
    """Read the responses of a run.

    Raises
    ------
    ValueError
        If they do not fit the schema.
    """
    content, arrays = read_json(folder / STATES), load_file(folder / RESPONSES)
    numbers = {name.removeprefix("profiles/"): x for name, x in arrays.items() if name.startswith("profiles/")}
    profiles = Profiles.restore(content, numbers)
    if profiles.mean_mg.shape[1:] != (len(schema.genes),) or profiles.variance_mg.shape != profiles.mean_mg.shape:
        raise ValueError(f"{RESPONSES} has other genes than schema.json.")
    left_out: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, key in enumerate(content["left_out"]):
        prefix = f"left_out/{number}/"
        left_out[tuple(map(str, key))] = {
            name.removeprefix(prefix): x.astype(np.float64) for name, x in arrays.items() if name.startswith(prefix)
        }
    control = {str(name): str(level) for name, level in content["control"].items()}
    return Responses(profiles, control, tuple(map(str, content["left_out_fields"])), left_out)
