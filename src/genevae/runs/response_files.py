"""The files of a run that keep its responses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from genevae.data.schema import Schema
from genevae.io.bounded import read_json
from genevae.responses.answer import MODEL_MEMBERS, Responses
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


def responses_in(folder: Path, schema: Schema, n_latent: int) -> Responses:
    """Read the responses of a run.

    Parameters
    ----------
    folder
        The run.
    schema, n_latent
        Its schema, and the number of its latent dimensions.

    Raises
    ------
    ValueError
        If they do not fit the schema.
    """
    content, arrays = read_json(folder / STATES), load_file(folder / RESPONSES)
    numbers = {name.removeprefix("profiles/"): x for name, x in arrays.items() if name.startswith("profiles/")}
    profiles = Profiles.restore(content, numbers)
    _require_profiles(profiles, len(schema.genes), n_latent)
    left_out: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, key in enumerate(content["left_out"]):
        prefix = f"left_out/{number}/"
        left_out[tuple(map(str, key))] = {
            name.removeprefix(prefix): x.astype(np.float64) for name, x in arrays.items() if name.startswith(prefix)
        }
    fields = tuple(map(str, content["left_out_fields"]))
    _require_left_out(left_out, len(fields), len(schema.genes))
    control = {str(name): str(level) for name, level in content["control"].items()}
    return Responses(profiles, control, fields, left_out, schema.vectors_by_category)


def _require_profiles(profiles: Profiles, n_genes: int, n_latent: int) -> None:
    """Check that profiles are finite, and those of the genes and the latent of the model."""
    n_states = len(profiles.keys)
    shapes = {"n_m": (n_states,), "mean_mg": (n_states, n_genes), "variance_mg": (n_states, n_genes)}
    for name, shape in {**shapes, "latent_mk": (n_states, n_latent)}.items():
        found = getattr(profiles, name)
        if found.shape != shape:
            raise ValueError(f"{RESPONSES} does not fit schema.json: {name} has the shape {found.shape}, not {shape}.")
        if not np.isfinite(found).all():
            raise ValueError(f"{RESPONSES} has values in {name} that are not finite.")
    if not n_states or profiles.n_m.min() < 1 or (n_genes and profiles.variance_mg.min() < 0):
        raise ValueError(f"{RESPONSES} has states without cells, or variances below zero.")


def _require_left_out(left_out: Mapping[tuple[str, ...], Mapping[str, Any]], n_fields: int, n_genes: int) -> None:
    """Check that each state that a model was trained without has its categories, and shifts of all genes."""
    for key, found in left_out.items():
        if len(key) != n_fields or MODEL_MEMBERS[0] not in found or not set(found) <= set(MODEL_MEMBERS):
            raise ValueError(f"{STATES} and {RESPONSES} do not fit each other: see the state {', '.join(key)}.")
        if any(x.shape != (n_genes,) or not np.isfinite(x).all() for x in found.values()):
            raise ValueError(f"{RESPONSES} has shifts of {', '.join(key)} that are not one finite number per gene.")
