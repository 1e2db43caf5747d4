"""Encoder and decoder as files that other programs run: ONNX, or a program of ``torch.export``."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genevae.cells import Cells, Condition, ExpressionRows
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.errors import RunError, nearest
from genevae.io.overwrite import require_free
from genevae.runs.manifest import MANIFEST, write_folder
from genevae.tasks.inference import TrainedModel
from genevae.tasks.task import task

__all__ = ["FORMATS", "MAX_DIFFERENCE", "export"]

MAX_DIFFERENCE = 1e-5
"""The largest relative difference between the exported network and this package."""
N_CELLS = 64
"""Random cells that both are compared on."""
TABLES = "model.json"

Arrays = tuple[NDArray[Any], ...]


@task
def export(model: TrainedModel, *, out: str | Path, format: str = "onnx", overwrite: bool = False) -> Path:  # noqa: A002 - as the command has it
    """Write the encoder and the decoder as files that run without genevae.

    Their inputs and outputs have the values of the data: normalisation of expression, standardisation of numbers and
    their inverses are inside. What is written is run on random cells, and compared with the model here.

    Parameters
    ----------
    model
        A trained model.
    out
        The folder to write: ``encoder`` and ``decoder`` as .onnx or .pt2, ``model.json`` (genes, inputs, outputs, and
        the code of every category) and a manifest with the sha256 of each file.
    format
        "onnx", for onnxruntime and everything else that reads ONNX; or "torch", for ``torch.export.load``.
    overwrite
        Whether to replace an existing folder.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    RunError
        If the folder exists, the format is unknown, its packages are missing, or the results of the files differ from
        the model's by more than 1e-5.

    Notes
    -----
    The encoder takes the expression of all genes of the model, and returns mean and standard deviation of q(z | x, c),
    and the size of each cell. The decoder takes latents, and sizes if it returns counts, and returns the mean of
    p(x | z, c), as :func:`~genevae.tasks.decode.decode` does. Both take the covariates: int64 codes of categories and
    float64 numbers in the units of the data.
    """
    if format not in FORMATS:
        raise RunError(f"Unknown format '{format}'. {nearest(format, FORMATS)}")
    made = FORMATS[format]
    if missing := [name for name in made.packages if find_spec(name) is None]:
        raise RunError(
            f"The format {format} needs {', '.join(missing)}: pip install 'genevae[export]'. The format torch needs "
            "nothing else: --format torch."
        )
    require_free(Path(out), overwrite, [model], [MANIFEST])
    module = copy.deepcopy(model.module).cpu().eval().requires_grad_(False)
    parts = {"encoder": Encoder(module, model.schema), "decoder": Decoder(module, model.schema)}
    n_latent = model.reference.mean_nk.shape[1]
    tables, differences = _tables(model, parts, made.suffix), {}

    def writer(name: str, part: _Part) -> Callable[[Path], Any]:
        def write(path: Path) -> None:
            example = part.example(n_latent)
            with torch.no_grad(), _quiet():
                made.write(part, example, path)
                differences[name] = _difference(part, example, path, made.run)

        return write

    def write_tables(path: Path) -> None:
        content = {**tables, "largest_relative_difference": differences}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    writers = {f"{name}{made.suffix}": writer(name, part) for name, part in parts.items()}
    write_folder(Path(out), {**writers, TABLES: write_tables}, {"format": format}, overwrite)
    return Path(out)


class _Part(nn.Module):
    """A part of a model on plain tensors.

    Parameters
    ----------
    module
        The model, in evaluation mode.
    schema
        Its fields and its transform.
    """

    outputs: tuple[str, ...]

    def __init__(self, module: Any, schema: Schema) -> None:
        super().__init__()
        self.module, self.schema = module, schema

    @property
    def first(self) -> tuple[str, ...]:
        """Names of the inputs before the covariates."""
        raise NotImplementedError

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all inputs; covariates are marked, so that none has the name of another input or output."""
        return (*self.first, *(f"obs/{name}" for name in self.schema.fields))

    def example(self, n_latent: int) -> tuple[Tensor, ...]:
        """Return the inputs of random cells."""
        raise NotImplementedError

    def _covariates(self, given: Sequence[Tensor], size_n1: Tensor) -> Condition:
        n = len(self.schema.categorical)
        codes = dict(zip((c.name for c in self.schema.categorical), given[:n], strict=True))
        values = {
            c.name: ((value_n - c.mean) / c.scale).float()
            for c, value_n in zip(self.schema.continuous, given[n:], strict=True)
        }
        return Condition(size_n1, codes, values)

    def _random_covariates(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        codes = [torch.randint(c.n_codes, (N_CELLS,), generator=generator) for c in self.schema.categorical]
        shares = [torch.rand(N_CELLS, generator=generator, dtype=torch.float64) for _ in self.schema.continuous]
        values = [
            c.minimum + share_n * (c.maximum - c.minimum)
            for c, share_n in zip(self.schema.continuous, shares, strict=True)
        ]
        return (*codes, *values)


class Encoder(_Part):
    """From expression and covariates to mean and standard deviation of the latent, and the size."""

    outputs = ("mean", "scale", "size")
    first = ("expression",)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return ``mean_nk``, ``scale_nk`` and ``size_n1``."""
        x_ng = given[0]
        size_n1 = x_ng.sum(1, keepdim=True)
        condition = self._covariates(given[1:], size_n1.clamp(min=1e-6))
        x = self.schema.transform.apply(ExpressionRows.from_dense(x_ng), size_n1)
        cells = Cells(x, condition, torch.empty(0, dtype=torch.int64))
        q = self.module.posterior(cells)
        return q.mean, q.scale, self.module.sized(cells).size_n1

    def example(self, n_latent: int) -> tuple[Tensor, ...]:  # noqa: ARG002 - the decoder's
        """Return the inputs of random cells of random depth."""
        generator = torch.Generator().manual_seed(0)
        n_genes = len(self.schema.genes)
        depth_n1 = 0.1 + 2 * torch.rand(N_CELLS, 1, generator=generator)
        x_ng = torch.poisson(depth_n1 * torch.rand(n_genes, generator=generator).square() * 8, generator=generator)
        if self.schema.kind is Kind.LOG:
            x_ng = x_ng.log1p()
        return (x_ng, *self._random_covariates(generator))


class Decoder(_Part):
    """From latent and covariates to expected expression."""

    outputs = ("expression",)

    @property
    def first(self) -> tuple[str, ...]:
        """The latent, and the size where the decoder returns counts."""
        return ("latent", "size") if self.schema.output_kind.is_count else ("latent",)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return ``x_ng``."""
        z_nk, covariates = given[0], given[len(self.first) :]
        size_n1 = given[1] if len(self.first) > 1 else torch.ones_like(z_nk[:, :1])
        condition = self._covariates(covariates, size_n1)
        mean_ng = self.module.likelihood(z_nk, condition).mean
        return (self.schema.transform.invert(mean_ng, size_n1),)

    def example(self, n_latent: int) -> tuple[Tensor, ...]:
        """Return random latents, of sizes from 100 to 10,100."""
        generator = torch.Generator().manual_seed(1)
        z_nk = torch.randn(N_CELLS, n_latent, generator=generator)
        size_n1 = 100 + 1e4 * torch.rand(N_CELLS, 1, generator=generator)
        return (z_nk, *([size_n1] if len(self.first) > 1 else []), *self._random_covariates(generator))


@dataclass(frozen=True)
class Written:
    """A format of networks.

    Parameters
    ----------
    suffix
        Of its files.
    packages
        What it needs.
    write
        Writes a part, given random cells.
    run
        Runs a file on named inputs.
    """

    suffix: str
    packages: tuple[str, ...]
    write: Callable[[_Part, tuple[Tensor, ...], Path], None]
    run: Callable[[Path, dict[str, Tensor]], Arrays]


def _program(part: _Part, example: tuple[Tensor, ...]) -> Any:
    cells = torch.export.Dim("cells")
    return torch.export.export(part, example, dynamic_shapes=(tuple({0: cells} for _ in example),))


def _write_torch(part: _Part, example: tuple[Tensor, ...], path: Path) -> None:
    torch.export.save(_program(part, example), path)


def _run_torch(path: Path, inputs: dict[str, Tensor]) -> Arrays:
    found = torch.export.load(path).module()(*inputs.values())
    return tuple(each.numpy() for each in found)


def _write_onnx(part: _Part, example: tuple[Tensor, ...], path: Path) -> None:
    program = torch.onnx.export(
        _program(part, example), input_names=list(part.inputs), output_names=list(part.outputs), verbose=False
    )
    if program is None:
        raise RunError("This version of torch cannot export to ONNX: pip install -U torch.")
    program.save(path, external_data=False)


def _run_onnx(path: Path, inputs: dict[str, Tensor]) -> Arrays:
    session = import_module("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    known = {each.name for each in session.get_inputs()}
    return tuple(session.run(None, {name: each.numpy() for name, each in inputs.items() if name in known}))


FORMATS = {
    "onnx": Written(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _run_onnx),
    "torch": Written(".pt2", (), _write_torch, _run_torch),
}
"""The formats, by name."""


def _difference(
    part: _Part, example: tuple[Tensor, ...], path: Path, run: Callable[[Path, dict[str, Tensor]], Arrays]
) -> float:
    """Return the largest difference of a file from the model, relative to the value, or the mean if that is larger.

    The mean is that of the gene, or over all dimensions of a latent, whose origin is no less arbitrary than its axes.

    Raises
    ------
    RunError
        If it is above 1e-5.
    """
    found = []
    whole = [each.double().numpy() for each in part(*example)]
    means = [np.abs(x).mean(0 if name == "expression" else None) for name, x in zip(part.outputs, whole, strict=True)]
    least = [np.maximum(np.abs(x), mean) + np.finfo(np.float32).tiny for x, mean in zip(whole, means, strict=True)]
    for n in (N_CELLS, 1):
        theirs = run(path, {name: each[:n] for name, each in zip(part.inputs, example, strict=True)})
        for name, our, their, least_nm in zip(part.outputs, whole, theirs, least, strict=True):
            difference = float((np.abs(their - our[:n]) / least_nm[:n]).max())
            if not difference <= MAX_DIFFERENCE:
                raise RunError(
                    f"{path.name} would not be the model: its {name} differs by {difference:.2g} of the value, and at "
                    f"most {MAX_DIFFERENCE:g} is rounding. Nothing was written. Try the other format."
                )
            found.append(difference)
    return max(found)


def _tables(model: Any, parts: dict[str, _Part], suffix: str) -> dict[str, Any]:
    """Return what users of the files must know, as JSON values."""
    schema: Schema = model.schema
    n_latent = model.reference.mean_nk.shape[1]
    width = {"expression": len(schema.genes), "latent": n_latent, "mean": n_latent, "scale": n_latent, "size": 1}

    def shaped(name: str) -> dict[str, Any]:
        if name in width:
            return {"name": name, "type": "float32", "shape": ["cells", width[name]]}
        is_code = name.removeprefix("obs/") in schema.n_codes
        return {"name": name, "type": "int64" if is_code else "float64", "shape": ["cells"]}

    return {
        "recipe": getattr(getattr(model, "recipe", None), "name", "unknown"),
        "expression": {"encoder": schema.kind.value, "decoder": schema.output_kind.value},
        **{
            name: {
                "file": f"{name}{suffix}",
                "inputs": [shaped(each) for each in part.inputs],
                "outputs": [shaped(each) for each in part.outputs],
            }
            for name, part in parts.items()
        },
        "categories": {c.name: {label: code for code, label in enumerate(c.labels)} for c in schema.categorical},
        "controls": {c.name: c.control for c in schema.categorical if c.control is not None},
        "numbers": {c.name: {"minimum": c.minimum, "maximum": c.maximum} for c in schema.continuous},
        "genes": list(schema.genes),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters print and warn of away from the user, who can do nothing about it."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
