"""`genevae export`."""

from __future__ import annotations

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
    from genevae.runs.export import lines

    folder = gv.export(run, out=out, format=form, overwrite=force)
    say("Wrote:", *lines(folder))
