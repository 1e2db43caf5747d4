"""Pseudobulk: sums or means over the cells of every donor × cell type, and random mixtures of cell types."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from genevae.errors import CategoryError, DataError, nearest
from genevae.io.formats import open_source
from genevae.io.read_options import ReadOptions
from genevae.io.source import Source
from genevae.preprocessing.groups import (
    add_constant_columns,
    number_groups,
    require_measured,
    sorted_categories,
    sums_to_anndata,
)
from genevae.preprocessing.map_chunks import GroupSums, map_chunks, sum_groups

__all__ = ["mixtures", "pseudobulk"]

_CHUNK = 4096
"""Cells that are read at once: part of what is promised, since the order of adding up follows from it."""

_Floats = NDArray[np.float64]
_Rows = NDArray[np.int64]


def pseudobulk(
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    by: Sequence[str],
    how: Literal["sum", "mean"] = "sum",
    min_cells: int = 1,
    layer: str | None = None,
    executor: Executor | None = None,
) -> AnnData:
    """Add up, or average, all cells of each combination of obs columns, such as donor × cell type.

    The cells are read once, in chunks; memory is that of groups × genes in float64. Sums of counts are exact up to
    2⁵³, and the result is the same, to the last bit, whoever adds up.

    Parameters
    ----------
    data
        The cells: whatever :func:`~genevae.io.formats.open_source` takes.
    by
        The obs columns whose combinations are the groups.
    how
        Sums, or means: sums divided by the number of cells.
    min_cells
        Groups of fewer cells are left out.
    layer
        The layer that holds the expression; ``X`` by default.
    executor
        Who reads and adds up: a pool of threads or of processes, or anything with that interface; this thread by
        default.

    Returns
    -------
    groups
        One row per group, named like ``donor|cell_type`` and sorted by the ``by`` columns in turn. ``X`` is dense:
        float32 where that holds every value exactly, else float64. ``obs`` holds the ``by`` columns (categorical),
        ``n_cells``, and each other column that is constant within every group.

    Raises
    ------
    CategoryError
        If a column is unknown or has missing values, or no group has ``min_cells`` cells.
    DataError
        If the data cannot be read, or some genes were not measured in some cells.
    """
    by = [by] if isinstance(by, str) else list(dict.fromkeys(by))
    source = open_source(data, layer)
    if how not in ("sum", "mean"):
        raise DataError(f"Cells cannot be put together by '{how}'. {nearest(how, ('sum', 'mean'))}")
    if not by or "n_cells" in by:
        raise CategoryError("Name the obs columns that make the groups: at least one, and none called 'n_cells'.")
    require_measured(source)
    columns = [sorted_categories(source, name) for name in by]
    group_n, code_bk = number_groups(columns, source.name, min_cells)
    rows = np.flatnonzero(group_n >= 0)
    total_bg = _sum_by_group(source, rows, group_n[rows], len(code_bk), executor)
    n_cells_b = np.bincount(group_n[rows])
    if how == "mean":
        total_bg /= n_cells_b[:, None]
    obs = pd.DataFrame(
        {c.name: pd.Categorical.from_codes(k, c.cat.categories) for c, k in zip(columns, code_bk.T, strict=True)}
    )
    obs.index = pd.Index(obs.astype(str).agg("|".join, axis=1), dtype=object)
    obs["n_cells"] = n_cells_b
    add_constant_columns(obs, source.obs.iloc[rows], group_n[rows])
    return sums_to_anndata(source, total_bg, obs, {"pseudobulk": how, "by": np.array(by, dtype=object)})


def _sum_by_group(source: Source, rows: _Rows, group_n: _Rows, n_groups: int, executor: Executor | None) -> _Floats:
    total_bg = np.zeros((n_groups, len(source.genes)))
    for sums in map_chunks(sum_groups, source, rows, group_n.__getitem__, _CHUNK, executor):
        sums.add_to(total_bg)
    return total_bg


def mixtures(
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    by: str,
    n: int,
    cells: int = 500,
    concentration: float = 1.0,
    group: str | None = None,
    layer: str | None = None,
    seed: int = 0,
    executor: Executor | None = None,
) -> AnnData:
    """Mix cells of several types at random, and add up their counts.

    Each mixture draws proportions ``p ~ Dirichlet(concentration, …)`` over the categories of ``by``, numbers of cells
    ``k ~ Multinomial(cells, p)``, and ``k`` cells of each category with replacement. The cells that any mixture has
    drawn are read once, in the order of their rows. Mixture ``i`` depends on ``seed`` and ``i`` alone, not on ``n``.

    Parameters
    ----------
    data
        The cells: whatever :func:`~genevae.io.formats.open_source` takes.
    by
        The obs column of types to mix.
    n
        How many mixtures.
    cells
        How many cells each adds up.
    concentration
        Of the Dirichlet: below 1, few types dominate a mixture; far above, all are alike.
    group
        An obs column, such as the donor, within one random level of which each mixture stays: it has the types of
        that level only. Levels of a single type are left out.
    layer
        The layer that holds the expression; ``X`` by default.
    seed
        Same seed, same mixtures.
    executor
        Who reads and adds up, as for :func:`pseudobulk`.

    Returns
    -------
    mixed
        One row per mixture. ``obsm["proportions"]`` says which share of its cells is of each category, and
        ``obsm["proportions_drawn"]`` which share the Dirichlet gave it; ``obs`` holds ``n_cells`` and the ``group``.

    Raises
    ------
    CategoryError
        If a column is unknown or has missing values, or there are no two types to mix.
    DataError
        If a number makes no sense, the data cannot be read, or some genes were not measured in some cells.
    """
    if n < 1 or cells < 1 or not (np.isfinite(concentration) and concentration > 0):
        raise DataError(f"n={n}, cells={cells} and concentration={concentration} must be positive numbers.")
    source = open_source(data, layer)
    require_measured(source)
    type_n = sorted_categories(source, by)
    level_n = None if group is None else sorted_categories(source, group)
    pools = _pools(source.name, type_n, level_n)
    draws = [_draw(np.random.default_rng([seed, at]), pools, cells, concentration) for at in range(n)]
    obs = pd.DataFrame({"n_cells": np.full(n, cells)}, index=[f"mixture{at}" for at in range(n)])
    if level_n is not None:
        categories = level_n.cat.categories
        obs[group] = pd.Categorical.from_codes([draw.level for draw in draws], categories).remove_unused_categories()
    total_mg = _sum_draws(source, [draw.rows for draw in draws], executor)
    facts = {"mixtures": "sum", "by": by, "cells": cells, "concentration": concentration, "seed": seed}
    mixed = sums_to_anndata(source, total_mg, obs, facts | ({"group": group} if group else {}))
    names = type_n.cat.categories.astype(str)
    for key, shares in (("proportions", [d.share_t for d in draws]), ("proportions_drawn", [d.drawn_t for d in draws])):
        mixed.obsm[key] = pd.DataFrame(np.stack(shares), index=mixed.obs_names, columns=names)
    return mixed


@dataclass(frozen=True)
class _Pool:
    """The cells that one mixture may draw from: the types of a level that has several, and the rows of each."""

    level: int
    type_t: _Rows
    rows_t: list[_Rows]
    n_types: int


@dataclass(frozen=True)
class _Draw:
    """The rows of one mixture, in the order drawn, and the shares of all types."""

    level: int
    rows: _Rows
    share_t: _Floats
    drawn_t: _Floats


def _pools(name: str, type_n: pd.Series[Any], level_n: pd.Series[Any] | None) -> list[_Pool]:
    """Sort the rows by level and type."""
    code_n = type_n.cat.codes.to_numpy(np.int64)
    levels = np.zeros(len(code_n), np.int64) if level_n is None else level_n.cat.codes.to_numpy(np.int64)
    pools = []
    for level in np.unique(levels):
        rows = np.flatnonzero(levels == level)
        types = np.unique(code_n[rows])
        if len(types) > 1:
            pools.append(_Pool(int(level), types, [rows[code_n[rows] == t] for t in types], len(type_n.cat.categories)))
    if not pools:
        where = "" if level_n is None else f" in any '{level_n.name}'"
        raise CategoryError(
            f"{name} has no two categories of '{type_n.name}' to mix{where}: give a column with more of them."
        )
    return pools


def _draw(random: np.random.Generator, pools: Sequence[_Pool], cells: int, concentration: float) -> _Draw:
    """Draw one mixture."""
    pool = pools[int(random.integers(len(pools)))]
    drawn = random.dirichlet(np.full(len(pool.type_t), concentration))
    number_t = random.multinomial(cells, drawn)
    rows = [rows[random.integers(len(rows), size=k)] for rows, k in zip(pool.rows_t, number_t, strict=True)]
    share_t, drawn_t = np.zeros((2, pool.n_types))
    share_t[pool.type_t], drawn_t[pool.type_t] = number_t / cells, drawn
    return _Draw(pool.level, np.concatenate(rows), share_t, drawn_t)


def _sum_draws(source: Source, drawn_mk: Sequence[_Rows], executor: Executor | None) -> _Floats:
    """Add up the cells of each mixture, reading every cell that was drawn once."""
    rows, place_k = np.unique(np.concatenate(drawn_mk), return_inverse=True)
    mixture_k = np.repeat(np.arange(len(drawn_mk)), [len(drawn) for drawn in drawn_mk])
    times_mn = sparse.csc_matrix((np.ones(len(place_k)), (mixture_k, place_k)), shape=(len(drawn_mk), len(rows)))
    total_mg = np.zeros((len(drawn_mk), len(source.genes)))
    for sums in map_chunks(_weigh, source, rows, lambda at: times_mn[:, at].tocsr(), _CHUNK, executor):
        sums.add_to(total_mg)
    return total_mg


def _weigh(x: Any, times_mn: sparse.csr_matrix) -> GroupSums:
    """Add up the rows that each mixture has drawn, as often as it has."""
    mixture_m = np.flatnonzero(np.diff(times_mn.indptr))
    return GroupSums(mixture_m, times_mn[mixture_m] @ x)
