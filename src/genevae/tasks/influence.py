"""What every field and category of the condition adds to expression, for models that are sums of heads."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genevae.errors import DataError
from genevae.models.additive import Additive
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells
from genevae.tasks.output import numbers

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["contributions", "influence"]

BASE, ALL = "base", "all"
"""What the base is called among the fields, and all known cells of a field among its categories."""


def influence(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    layer: str | None = None,
    batch_size: int = 512,
) -> pd.DataFrame:
    """Measure how much every field and category adds to expression.

    Influence = ‖what the head adds‖ / ‖the sum of all heads‖, L2 norms over cells and genes. A category is measured in
    its own cells.

    Parameters
    ----------
    model
        A trained model that is a sum of heads, such as one of the recipe cycle.
    data
        Cells with the model's genes and conditions.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.

    Returns
    -------
    DataFrame
        One row for the base (all cells), for every field (``all`` its cells), and for each of its categories:
        ``cells``, ``added`` and ``whole`` (the two norms, per cell: root mean square), and ``influence``, their ratio.

    Raises
    ------
    DataError
        If the model is no sum of heads, or genes, columns or categories do not fit it.
    """
    rows: list[tuple[Any, ...]] = []
    for name, (categories, sums_cm) in _sums(model, data, layer, batch_size, _energies).items():
        groups = [(ALL, sums_cm.sum(0)), *(zip(categories, sums_cm, strict=True) if name != BASE else [])]
        for category, (n, added, whole) in groups:
            size = np.sqrt(np.array([added, whole]) / max(n, 1))
            rows.append((name, category, int(n), *size, np.sqrt(added / whole) if whole > 0 else np.nan))
    return pd.DataFrame(rows, columns=["field", "category", "cells", "added", "whole", "influence"]).set_index("field")


def contributions(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    top: int = 50,
    layer: str | None = None,
    batch_size: int = 512,
) -> pd.DataFrame:
    """List the genes that every category adds most to.

    Parameters
    ----------
    model
        A trained model that is a sum of heads, such as one of the recipe cycle.
    data
        Cells with the model's genes and conditions.
    top
        Genes of each category; 0 lists all.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.

    Returns
    -------
    DataFrame
        Ranked genes of the base and of every category: ``contribution``, the mean over the category's cells of what its
        head adds; ``share``, the same over the mean of the sum of all heads; and ``excess``, the contribution less the
        mean of those of the field's categories, by which genes are ranked.

    Raises
    ------
    DataError
        If the model is no sum of heads, or genes, columns or categories do not fit it.
    """
    if top < 0:
        raise DataError(f"top is a number of genes, or 0 for all, and cannot be {top}.")
    genes = np.array(model.schema.genes)
    tables = []
    for name, (categories, sums_cm) in _sums(model, data, layer, batch_size, _profiles).items():
        seen = sums_cm[:, 0] > 0
        added_cg, whole_cg = np.split(sums_cm[seen, 1:] / sums_cm[seen, :1], 2, axis=1)
        excess_cg = added_cg - (added_cg.mean(0) if seen.sum() > 1 else 0)
        known = itertools.compress(categories, seen)
        tables += [
            _ranked(name, category, genes, added_g, excess_g, whole_g)[: top or None]
            for category, added_g, excess_g, whole_g in zip(known, added_cg, excess_cg, whole_cg, strict=True)
        ]
    return pd.concat(tables).set_index("field")


def _ranked(field: str, category: str, genes: Any, added_g: Any, excess_g: Any, whole_g: Any) -> pd.DataFrame:
    order = np.argsort(-excess_g, kind="stable")
    columns = {"gene": genes, "contribution": added_g, "share": _share(added_g, whole_g), "excess": excess_g}
    table = pd.DataFrame({"field": field, "category": category, "rank": np.arange(1, len(order) + 1)})
    return table.assign(**{name: values[order] for name, values in columns.items()})


def _share(part: Any, whole: Any) -> Any:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _energies(added_ng: Tensor, whole_ng: Tensor) -> Tensor:
    """Return one, and the squared norms, of each cell."""
    added_n = added_ng.double().square().sum(-1)
    return torch.stack([torch.ones_like(added_n), added_n, whole_ng.double().square().sum(-1)], -1)


def _profiles(added_ng: Tensor, whole_ng: Tensor) -> Tensor:
    """Return one, and the values of every gene, of each cell."""
    return torch.cat([added_ng.new_ones(len(added_ng), 1), added_ng, whole_ng], -1).double()


def _sums(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    layer: str | None,
    batch_size: int,
    measure: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Add up, for every head and category, what is measured of the category's cells; unknown ones are left out."""
    if not isinstance(model.module, Additive):
        raise DataError(
            "This model is no sum of heads, of which one could say what each adds. Train one: --recipe cycle."
        )
    cells = open_cells(model, data, layer, batch_size)
    categories = {BASE: (ALL,), **{field.name: field.categories for field in model.schema.categorical}}
    sums = {name: np.zeros(0) for name in categories}
    with evaluation_mode(model) as module:
        for minibatch in on_device(module, cells):
            codes = minibatch.condition.codes
            added = cast("Additive", module).heads.contributions(module.posterior(minibatch).mean, codes)
            whole_ng = torch.stack(list(added.values())).sum(0)
            for name, added_ng in added.items():
                code_n = codes.get(name, torch.zeros_like(minibatch.row_n))
                numbers_nm = measure(added_ng, whole_ng)
                sums_cm = numbers_nm.new_zeros(len(categories[name]) + 1, numbers_nm.shape[1])
                known_cm = numbers(sums_cm.index_add_(0, code_n, numbers_nm)[:-1])
                sums[name] = known_cm if not len(sums[name]) else sums[name] + known_cm
    return {name: (categories[name], sums[name]) for name in categories}
