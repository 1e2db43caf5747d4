"""`genevae export`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import genevae as gv
from genevae.cli.options import Force, Run, say

__all__ = ["export"]


def export(
    run: Run,
    *,
    out: Path,
    form: Annotated[Literal["onnx", "torch"], Parameter(name="--format")] = "onnx",
    force: Force = False,
) -> None:
    """Write the encoder and the decoder as files that run without genevae, and compare them with the model.

    Parameters
    ----------
    out
        The folder to write: encoder, decoder and model.json, which has the genes and the code of every category.
    form
        onnx, for onnxruntime and all else that reads ONNX; torch, for torch.export.load.
    """
    folder = gv.export(run, out=out, format=form, overwrite=force)
    say("Wrote:", *_lines(folder))


def _lines(folder: Path) -> Iterator[str]:
    """Say what was exported."""
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    for name in ("encoder", "decoder"):
        part, difference = content[name], content["largest_relative_difference"][name]
        inputs = ", ".join(each["name"] for each in part["inputs"])
        yield f"{folder / part['file']}: {inputs} → {', '.join(each['name'] for each in part['outputs'])}"
        yield f"  largest relative difference from the model, on random cells: {difference:.1g}"
    yield f"{folder / 'model.json'}: genes, and the code of each category."
