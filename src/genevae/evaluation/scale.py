"""Cells in the units that a run answers in, so that what it says can be laid beside what is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from genevae.data.value_kind import Kind
from genevae.metrics.response import log_normalised
from genevae.runs.trained import Trained
from genevae.tasks.inference import open_cells

__all__ = ["Expression", "in_units_of", "log_scale", "logged", "units"]

Expression = NDArray[np.float32]


def in_units_of(run: Trained, adata: AnnData) -> Expression:
    """Return cells as the run would have answered, had it been right: its genes, in the units of its answers."""
    schema = run.schema
    fields = [*schema.n_categories, *([schema.group.name] if schema.group else [])]  # their values do not matter here
    rows = [
        schema.transform.invert(cells.x.dense(), cells.condition.size_n1)
        for cells in open_cells(run, adata, None, 1024, fields)
    ]
    x_ng = torch.cat(rows).numpy().astype(np.float32)
    return np.rint(x_ng) if schema.output_kind.is_count else x_ng


def logged(run: Trained, answers_ng: Any) -> Expression:
    """Bring a run's answers, or cells in their units, to a log scale: counts are log-normalised, the rest are so."""
    if run.schema.output_kind.is_count:
        return log_normalised(answers_ng).astype(np.float32)
    return np.asarray(answers_ng.toarray() if hasattr(answers_ng, "toarray") else answers_ng, dtype=np.float32)


def units(run: Trained) -> tuple[object, ...]:
    """Return what two runs must share to be judged by the same numbers: genes, kind of answers, and their scale."""
    transform: Any = run.schema.transform
    target = getattr(getattr(transform, "inner", transform), "target", None)
    return run.schema.genes, run.schema.output_kind, target


LINEAR = {Kind.COUNTS, Kind.FRACTIONAL, Kind.NORMALISED}
"""Values of which logarithms are to be taken."""


def log_scale(x_ng: Any, kind: Kind) -> Any:
    """Return log(1 + x · 10⁴ / size), sparse where x is; values that are logarithms already, or scaled, as they are.

    Parameters
    ----------
    x_ng
        Cells × genes, dense or sparse.
    kind
        What the numbers are.
    """
    if kind not in LINEAR:
        return x_ng
    if sparse.issparse(x_ng):
        size_n1 = np.maximum(np.asarray(x_ng.sum(1), dtype=np.float64).reshape(-1, 1), 1e-6)
        return sparse.csr_matrix(x_ng).multiply(1e4 / size_n1).tocsr().log1p().astype(np.float32)
    return log_normalised(x_ng).astype(np.float32)
