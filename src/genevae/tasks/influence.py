"""Contribution of every covariate and category to expression, for additive models."""

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
from genevae.models.protocols import HasContributions
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells
from genevae.tasks.output import to_numpy
from genevae.tasks.task import task

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["contributions", "influence"]

BASE, ALL = "base", "all"
"""The base in the column ``field``, and all cells with a known category in the column ``category``."""


@task
def influence(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    layer: str | None = None,
    batch_size: int = 512,
) -> pd.DataFrame:
    """Measure how much every covariate and category contributes to expression.

    Influence = ‖contribution of the head‖ / ‖sum of all heads‖, with L2 norms over cells and genes. For a category, the
    norms are over its cells.

    Parameters
    ----------
    model
        A trained additive model, such as one of the recipe cycle.
    data
        Cells with the model's genes and conditions.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.

    Returns
    -------
    DataFrame
        One row for the base (all cells), for every field (category ``all``), and for each of its categories:
        ``cells``, ``added`` (the norm of the contribution), ``whole`` (the norm of the sum of all heads), both as root
        mean square over cells, and ``influence``, their ratio.

    Raises
    ------
    DataError
        If the model is not additive, or genes, columns or categories do not fit it.
    """
    rows: list[tuple[Any, ...]] = []
    for name, (categories, sums_cm) in _sums(model, data, layer, batch_size, _squared_norms).items():
        groups = [(ALL, sums_cm.sum(0)), *(zip(categories, sums_cm, strict=True) if name != BASE else [])]
        for category, (n, added, total) in groups:
            rms = np.sqrt(np.array([added, total]) / max(n, 1))
            rows.append((name, category, int(n), *rms, np.sqrt(added / total) if total > 0 else np.nan))
    return pd.DataFrame(rows, columns=["field", "category", "cells", "added", "whole", "influence"]).set_index("field")


@task
def contributions(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    top: int = 50,
    layer: str | None = None,
    batch_size: int = 512,
) -> pd.DataFrame:
    """List the genes to which every category contributes most.

    Parameters
    ----------
    model
        A trained additive model, such as one of the recipe cycle.
    data
        Cells with the model's genes and conditions.
    top
        Genes per category; 0 lists all.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.

    Returns
    -------
    DataFrame
        Ranked genes of the base and of every category. ``contribution``: the mean over the category's cells of its
        head's output. ``share``: the contribution divided by the mean of the sum of all heads. ``excess``: the
        contribution minus its mean over the field's categories, by which genes are ranked.

    Raises
    ------
    DataError
        If ``top`` is negative, the model is not additive, or genes, columns or categories do not fit it.
    """
    if top < 0:
        raise DataError(f"top must be a number of genes, or 0 for all, not {top}.")
    genes = np.array(model.schema.genes)
    tables = []
    for name, (categories, sums_cm) in _sums(model, data, layer, batch_size, _profiles).items():
        has_cells_c = sums_cm[:, 0] > 0
        added_cg, total_cg = np.split(sums_cm[has_cells_c, 1:] / sums_cm[has_cells_c, :1], 2, axis=1)
        excess_cg = added_cg - (added_cg.mean(0) if has_cells_c.sum() > 1 else 0)
        with_cells = itertools.compress(categories, has_cells_c)
        tables += [
            _ranked(name, category, genes, added_g, excess_g, total_g)[: top or None]
            for category, added_g, excess_g, total_g in zip(with_cells, added_cg, excess_cg, total_cg, strict=True)
        ]
    return pd.concat(tables).set_index("field")


def _ranked(field: str, category: str, genes: Any, added_g: Any, excess_g: Any, total_g: Any) -> pd.DataFrame:
    order = np.argsort(-excess_g, kind="stable")
    share_g = np.divide(added_g, total_g, out=np.zeros_like(added_g), where=total_g > 0)
    columns = {"gene": genes, "contribution": added_g, "share": share_g, "excess": excess_g}
    table = pd.DataFrame({"field": field, "category": category, "rank": np.arange(1, len(order) + 1)})
    return table.assign(**{name: values[order] for name, values in columns.items()})


def _squared_norms(added_ng: Tensor, total_ng: Tensor) -> Tensor:
    """Return 1 and the two squared norms, for each cell."""
    added_n = added_ng.double().square().sum(-1)
    return torch.stack([torch.ones_like(added_n), added_n, total_ng.double().square().sum(-1)], -1)


def _profiles(added_ng: Tensor, total_ng: Tensor) -> Tensor:
    """Return 1 and the two profiles, for each cell."""
    return torch.cat([added_ng.new_ones(len(added_ng), 1), added_ng, total_ng], -1).double()


def _sums(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    layer: str | None,
    batch_size: int,
    measure: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Sum a measure over the cells of every category of every head. Cells of unknown category are left out."""
    if not isinstance(model.module, HasContributions):
        raise DataError("This model is not a sum of heads, so it has no contributions. Train one with --recipe cycle.")
    cells = open_cells(model, data, layer, batch_size)
    categories = {BASE: (ALL,), **{field.name: field.categories for field in model.schema.categorical}}
    sums = {name: np.zeros(0) for name in categories}
    with evaluation_mode(model) as module:
        for minibatch in on_device(module, cells):
            codes = minibatch.condition.codes
            z_nk = module.posterior(minibatch).mean
            added = cast("HasContributions", module).contributions(z_nk, minibatch.condition)
            total_ng = torch.stack(list(added.values())).sum(0)
            for name, added_ng in added.items():
                code_n = codes.get(name, torch.zeros_like(minibatch.row_n))
                measure_nm = measure(added_ng, total_ng)
                sums_cm = measure_nm.new_zeros(len(categories[name]) + 1, measure_nm.shape[1])
                known_cm = to_numpy(sums_cm.index_add_(0, code_n, measure_nm)[:-1])
                sums[name] = known_cm if not len(sums[name]) else sums[name] + known_cm
    return {name: (categories[name], sums[name]) for name in categories}
