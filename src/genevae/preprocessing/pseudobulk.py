"""Pseudobulk: sums or means over groups of cells, such as donor × cell type, and random mixtures of cell types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from genevae.calls import public
from genevae.engine import Workers
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
"""Cells to read at once. It affects the order of summation, so changing it changes results by rounding."""

_Floats = NDArray[np.float64]
_Rows = NDArray[np.int64]


@public
def pseudobulk(
    data: AnnData | Source | ReadOptions | str | Path,
    by: str | Sequence[str],
    *,
    how: Literal["sum", "mean"] = "sum",
    min_cells: int = 1,
    layer: str | None = None,
    executor: Workers | None = None,
) -> AnnData:
    """Sum or average all cells of each combination of obs columns, such as donor × cell type.

    The cells are read once, in chunks. Memory is that of groups × genes in float64. Sums of counts are exact up to 2⁵³,
    and the result is the same, to the last bit, with any executor.

    Parameters
    ----------
    data
        The cells, as for :func:`~genevae.io.formats.open_source`.
    by
        The obs column, or columns, whose combinations are the groups.
    how
        Sums, or means: sums divided by the number of cells.
    min_cells
        Groups with fewer cells are left out.
    layer
        The layer that holds the expression; ``X`` by default.
    executor
        Where the cells are read, as for :func:`~genevae.preprocessing.hvg.highly_variable`; by default the current
        thread.

    Returns
    -------
    groups
        One row per group, named like ``donor|cell_type`` and sorted by the ``by`` columns. ``X`` is dense: float32 if
        that is exact, otherwise float64. ``obs`` has the ``by`` columns (categorical), ``n_cells``, and all other
        columns that are constant within every group.

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
        raise DataError(f"how cannot be '{how}'. {nearest(how, ('sum', 'mean'))}")
    if not by or "n_cells" in by:
        raise CategoryError("Give the obs columns of the groups (--by): at least one, and none called 'n_cells'.")
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


def _sum_by_group(source: Source, rows: _Rows, group_n: _Rows, n_groups: int, executor: Workers | None) -> _Floats:
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
    executor: Workers | None = None,
) -> AnnData:
    """Simulate random mixtures of cell types: sums over randomly sampled cells.

    For each mixture, proportions ``p ~ Dirichlet(concentration, …)`` over the categories of ``by``, numbers of cells
    ``k ~ Multinomial(cells, p)``, and ``k`` cells of each category are sampled, with replacement. Every sampled cell is
    read once, in the order of rows. Mixture ``i`` depends on ``seed`` and ``i`` alone, not on ``n``.

    Parameters
    ----------
    data
        The cells, as for :func:`~genevae.io.formats.open_source`.
    by
        The obs column of types to mix.
    n
        Number of mixtures.
    cells
        Number of cells in each mixture.
    concentration
        Concentration of the Dirichlet distribution: below 1, few types dominate a mixture; far above 1, proportions are
        similar.
    group
        An obs column, such as the donor. Each mixture then has the cells of one random level of it. Levels with a
        single type are left out.
    layer
        The layer that holds the expression; ``X`` by default.
    seed
        Seed of the mixtures.
    executor
        As for :func:`pseudobulk`.

    Returns
    -------
    mixed
        One row per mixture. ``obsm["proportions"]`` has the share of each category among its cells, and
        ``obsm["proportions_drawn"]`` the sample of the Dirichlet distribution. ``obs`` has ``n_cells`` and ``group``.

    Raises
    ------
    CategoryError
        If a column is unknown or has missing values, or there are fewer than two types to mix.
    DataError
        If a number is not positive, the data cannot be read, or some genes were not measured in some cells.
    """
    if n < 1 or cells < 1 or not (np.isfinite(concentration) and concentration > 0):
        raise DataError(f"n={n}, cells={cells} and concentration={concentration} must be positive numbers.")
    source = open_source(data, layer)
    require_measured(source)
    type_n = sorted_categories(source, by)
    level_n = None if group is None else sorted_categories(source, group)
    pools = _pools(source.name, type_n, level_n)
    samples = [_sample(np.random.default_rng([seed, at]), pools, cells, concentration) for at in range(n)]
    obs = pd.DataFrame({"n_cells": np.full(n, cells)}, index=[f"mixture{at}" for at in range(n)])
    if level_n is not None:
        categories = level_n.cat.categories
        obs[group] = pd.Categorical.from_codes([s.level for s in samples], categories).remove_unused_categories()
    total_mg = _sum_samples(source, [sample.rows for sample in samples], executor)
    facts = {"mixtures": "sum", "by": by, "cells": cells, "concentration": concentration, "seed": seed}
    mixed = sums_to_anndata(source, total_mg, obs, facts | ({"group": group} if group else {}))
    names = type_n.cat.categories.astype(str)
    shares = {"proportions": [s.share_t for s in samples], "proportions_drawn": [s.dirichlet_t for s in samples]}
    for key, share_mt in shares.items():
        mixed.obsm[key] = pd.DataFrame(np.stack(share_mt), index=mixed.obs_names, columns=names)
    return mixed


@dataclass(frozen=True)
class _Pool:
    """The cells that a mixture is sampled from: the types of a level, and the rows of each."""

    level: int
    type_t: _Rows
    rows_t: list[_Rows]
    n_types: int


@dataclass(frozen=True)
class _Sample:
    """The rows of one mixture, in the order of sampling, and the shares of all types."""

    level: int
    rows: _Rows
    share_t: _Floats
    dirichlet_t: _Floats


def _pools(name: str, type_n: pd.Series[Any], level_n: pd.Series[Any] | None) -> list[_Pool]:
    """Group the rows by level and type."""
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
            f"{name} has fewer than two categories of '{type_n.name}' to mix{where}. Give a column with more of them."
        )
    return pools


def _sample(random: np.random.Generator, pools: Sequence[_Pool], cells: int, concentration: float) -> _Sample:
    """Sample one mixture."""
    pool = pools[int(random.integers(len(pools)))]
    proportions = random.dirichlet(np.full(len(pool.type_t), concentration))
    number_t = random.multinomial(cells, proportions)
    rows = [rows[random.integers(len(rows), size=k)] for rows, k in zip(pool.rows_t, number_t, strict=True)]
    share_t, dirichlet_t = np.zeros((2, pool.n_types))
    share_t[pool.type_t], dirichlet_t[pool.type_t] = number_t / cells, proportions
    return _Sample(pool.level, np.concatenate(rows), share_t, dirichlet_t)


def _sum_samples(source: Source, row_mk: Sequence[_Rows], executor: Workers | None) -> _Floats:
    """Sum the cells of each mixture, reading every sampled cell once."""
    rows, index_k = np.unique(np.concatenate(row_mk), return_inverse=True)
    mixture_k = np.repeat(np.arange(len(row_mk)), [len(row_k) for row_k in row_mk])
    times_mn = sparse.csc_matrix((np.ones(len(index_k)), (mixture_k, index_k)), shape=(len(row_mk), len(rows)))
    total_mg = np.zeros((len(row_mk), len(source.genes)))
    for sums in map_chunks(_weighted_sums, source, rows, lambda at: times_mn[:, at].tocsr(), _CHUNK, executor):
        sums.add_to(total_mg)
    return total_mg


def _weighted_sums(x: Any, times_mn: sparse.csr_matrix) -> GroupSums:
    """Sum the rows of each mixture, each as often as it was sampled."""
    mixture_m = np.flatnonzero(np.diff(times_mn.indptr))
    return GroupSums(mixture_m, times_mn[mixture_m] @ x)
