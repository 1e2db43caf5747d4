"""Cells in the units that a model answers in, so that predicted and observed cells can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray

from genevae.data.value_kind import Kind
from genevae.evaluation.model import EvaluatedModel, dense
from genevae.metrics.response import log_normalised
from genevae.tasks.inference import open_cells

__all__ = ["Expression", "in_units_of", "log_scale", "logged", "units"]

Expression = NDArray[np.float32]


def in_units_of(model: EvaluatedModel, adata: AnnData) -> Expression:
    """Return cells as a perfect model would return them: its genes, in the units of its answers."""
    schema = model.schema
    source: Any = model  # of which the schema is read
    fields = [*schema.n_categories, *(c.name for c in (schema.group, schema.view) if c)]  # their values do not matter
    rows = [
        schema.transform.invert(cells.x.dense(), cells.condition.size_n1)
        for cells in open_cells(source, adata, None, 1024, fields)
    ]
    x_ng = torch.cat(rows).numpy().astype(np.float32)
    return np.rint(x_ng) if schema.output_kind.is_count else x_ng


def logged(model: EvaluatedModel, answers_ng: Any) -> Expression:
    """Bring a model's answers, or cells in their units, to a log scale: counts are log-normalised."""
    if model.schema.output_kind.is_count:
        return np.asarray(log_normalised(answers_ng), dtype=np.float32)
    return dense(answers_ng).astype(np.float32)


def units(model: EvaluatedModel) -> tuple[object, ...]:
    """Return what two models must share to be compared in the same numbers: genes, kind of answers, and their scale."""
    transform: Any = model.schema.transform
    target = getattr(getattr(transform, "inner", transform), "target", None)
    return model.schema.genes, model.schema.output_kind, target


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
    return log_normalised(x_ng, keep_sparse=True).astype(np.float32) if kind in LINEAR else x_ng
