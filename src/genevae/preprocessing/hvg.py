"""Highly variable genes, with the methods of scanpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from genevae.calls import public
from genevae.data.covariates import obs_column
from genevae.data.value_kind import probe
from genevae.engine import Workers, engine
from genevae.errors import DataError, GeneError, nearest
from genevae.io.formats import open_source
from genevae.io.read_options import ReadOptions
from genevae.io.source import Source
from genevae.preprocessing.loess import loess
from genevae.preprocessing.map_chunks import GroupSums, as_array, map_chunks, sum_groups

__all__ = ["highly_variable"]

_Floats = NDArray[np.float64]
_Rows = NDArray[np.int64]


@public
def highly_variable(
    data: AnnData | Source | ReadOptions | str | Path,
    n_genes: int = 2000,
    batch: ArrayLike | str | None = None,
    rows: _Rows | None = None,
    chunk: int = 4096,
    flavor: Literal["seurat_v3", "seurat"] | None = None,
    layer: str | None = None,
    executor: Workers | None = None,
) -> list[str]:
    """Select highly variable genes as scanpy does, without loading the matrix.

    ``seurat_v3`` is for counts: loess of log variance on log mean gives the expected standard deviation of a gene.
    Counts are standardised by it and clipped at √n, and genes are ranked by the variance of the result. ``seurat`` is
    for log-normalised data: genes are ranked by variance / mean on the linear scale, standardised within bins of genes
    with a similar mean.

    Parameters
    ----------
    data
        The cells, as for :func:`~genevae.io.formats.open_source`: counts or, for ``seurat``, natural logarithms of one
        plus normalised values.
    n_genes
        Number of genes to select.
    batch
        The technical batch of each cell of the source. Genes are ranked within each batch, and the ranks are combined.
        Batches of one cell, which have no variance, are left out.
    rows
        The cells to use, such as the training cells; all by default.
    chunk
        Number of cells to read at a time. Memory is that of genes × batches, and of one chunk per worker.
    flavor
        The method.
    executor
        Where the cells are read: "processes:4", "dask:ADDRESS", "submitit:PARTITION", a pool of Python, a ``Client`` of
        Dask or an executor of submitit; by default the current thread. The result does not depend on it.

    Returns
    -------
    genes
        Gene names, in the order of the source.

    Raises
    ------
    DataError
        If values are negative, missing or infinite, the batches do not match the cells, or there are too few cells.
    GeneError
        If ``n_genes`` is not positive.

    References
    ----------
    Stuart, Butler et al. (2019), Comprehensive integration of single-cell data, Cell 177:1888. Satija et al. (2015),
    Spatial reconstruction of single-cell gene expression data, Nature Biotechnology 33:495.
    """
    source = open_source(data, layer)
    flavor = flavor or ("seurat_v3" if probe(source).is_count else "seurat")
    if isinstance(batch, str):
        batch = obs_column(source.obs, batch)
    if n_genes < 1:
        raise GeneError(f"n_genes must be a positive number, not {n_genes}.")
    if flavor not in _FLAVORS:
        raise DataError(f"Unknown flavor '{flavor}' of highly variable genes. {nearest(flavor, _FLAVORS)}")
    used = range(len(source)) if rows is None else np.sort(np.asarray(rows, dtype=np.int64))
    numbers = _batch_numbers(source, used, batch)
    with engine(executor) as workers:
        cells = _without_single(_Cells(source, used, numbers, max(chunk, 1), workers))
        order = _FLAVORS[flavor](cells, n_genes)
    return [source.genes[gene] for gene in np.sort(order[:n_genes])]


@dataclass(frozen=True)
class _Cells:
    """The cells to use, the batch of each, and how to read them."""

    source: Source
    rows: _Rows | range
    batch_n: NDArray[np.int32]
    chunk: int
    workers: Workers | None

    def sums_bg(self, change: _Change) -> tuple[_Floats, _Floats]:
        """Sum transformed values, and their squares, over the cells of each batch, in one pass."""
        sum_bg, square_bg = np.zeros((2, int(self.batch_n.max()) + 1, len(self.source.genes)))
        parts = map_chunks(change, self.source, self.rows, self.batch_n.__getitem__, self.chunk, self.workers)
        for sums, squares in parts:
            sums.add_to(sum_bg)
            squares.add_to(square_bg)
        return sum_bg, square_bg

    def numbers_bg(self) -> _Floats:
        """Return the number of cells of each batch in which each gene was measured (b × 1 if all were); at least 1."""
        panels = self.source.panels
        if panels is None:
            return np.bincount(self.batch_n)[:, None].astype(np.float64)
        shape = (int(self.batch_n.max()) + 1, len(panels.measured_pg))
        cell = np.ravel_multi_index((self.batch_n, panels.panel_n[as_array(self.rows)]), shape)
        number_bp = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
        return np.maximum(number_bp @ panels.measured_pg, 1)

    def moments_bg(self, undo: np.ufunc) -> tuple[_Floats, _Floats, _Floats]:
        """Return the number of cells of each batch, and every gene's mean and unbiased variance in it."""
        n_bg = self.numbers_bg()
        sum_bg, square_bg = self.sums_bg(_Change(self.source.name, undo))
        mean_bg = sum_bg / n_bg
        return n_bg, mean_bg, np.maximum(square_bg / n_bg - mean_bg**2, 0) * n_bg / np.maximum(n_bg - 1, 1)


@dataclass(frozen=True)
class _Change:
    """Sums of transformed values, and of their squares, over the cells of each batch in a chunk; zero maps to zero."""

    name: str
    undo: np.ufunc
    limit_bg: _Floats | None = None

    def __call__(self, x: Any, batch_n: NDArray[np.int32]) -> tuple[GroupSums, GroupSums]:
        """Check the values of a chunk, transform them, and sum."""
        values = x.data if sparse.issparse(x) else x
        if values.size and not (np.isfinite(values).all() and values.min() >= 0):
            raise DataError(
                f"{self.name} has negative, missing or infinite values, so variable genes cannot be selected. "
                "Give the layer that holds counts or log-normalised values, or a list of genes."
            )
        with np.errstate(over="ignore"):  # the caller checks the sums
            new = self.undo(values, dtype=np.float64)
            if self.limit_bg is not None:
                index = (np.repeat(batch_n, np.diff(x.indptr)), x.indices) if sparse.issparse(x) else batch_n
                new = np.minimum(new, self.limit_bg[index])
            return sum_groups(_with_values(x, new), batch_n), sum_groups(_with_values(x, new**2), batch_n)


def _with_values(x: Any, values: _Floats) -> Any:
    return sparse.csr_matrix((values, x.indices, x.indptr), shape=x.shape) if sparse.issparse(x) else values


def _batch_numbers(source: Source, cells: _Rows | range, batch: ArrayLike | None) -> NDArray[np.int32]:
    """Return the number of each cell's batch, in the order of batch names."""
    if batch is None:
        return np.broadcast_to(np.int32(0), len(cells))  # takes no memory
    labels = np.asarray(batch).astype(str)
    if len(labels) != len(source):
        raise DataError(
            f"There are {len(labels)} batch labels for the {len(source)} cells of {source.name}. Give one per cell."
        )
    return np.unique(labels[as_array(cells)], return_inverse=True)[1].astype(np.int32)


def _without_single(cells: _Cells) -> _Cells:
    """Leave out batches of one cell, which have no variance."""
    size_b = np.bincount(cells.batch_n, minlength=1)
    if not (size_b > 1).any():
        raise DataError(
            f"{len(cells.rows)} cells of {cells.source.name} are too few to select variable genes, because no batch "
            "has two. Give more cells, a coarser batch column, or a list of genes."
        )
    if not (size_b == 1).any():
        return cells
    kept = size_b[cells.batch_n] > 1
    batch_n = np.unique(cells.batch_n[kept], return_inverse=True)[1].astype(np.int32)
    return replace(cells, rows=as_array(cells.rows)[kept], batch_n=batch_n)


def _order_by_clipped_variance(cells: _Cells, n_genes: int) -> NDArray[np.int64]:
    """Order genes by the variance of standardised, clipped counts (seurat_v3)."""
    n_bg, mean_bg, variance_bg = cells.moments_bg(np.positive)
    expected_sd_bg = np.stack([_expected_sd(m, v) for m, v in zip(mean_bg, variance_bg, strict=True)])
    limit_bg = mean_bg + expected_sd_bg * np.sqrt(n_bg)
    sum_bg, square_bg = cells.sums_bg(_Change(cells.source.name, np.positive, limit_bg))
    score_bg = (n_bg * mean_bg**2 + square_bg - 2 * sum_bg * mean_bg) / (np.maximum(n_bg - 1, 1) * expected_sd_bg**2)
    rank_bg = np.argsort(np.argsort(-score_bg, axis=1, kind="stable"), axis=1, kind="stable").astype(np.float64)
    chosen_bg = rank_bg < n_genes
    return np.lexsort((-chosen_bg.sum(axis=0), _median_g(rank_bg, chosen_bg)))


def _expected_sd(mean_g: _Floats, variance_g: _Floats) -> _Floats:
    """Return the standard deviation expected from a gene's mean, or one for constant genes."""
    varies = variance_g > 0
    expected_g = np.ones_like(mean_g)
    expected_g[varies] = np.sqrt(10 ** loess(np.log10(mean_g[varies]), np.log10(variance_g[varies])))
    return expected_g


def _median_g(rank_bg: _Floats, chosen_bg: NDArray[np.bool_]) -> _Floats:
    """Return the median of each gene's ranks over the batches that selected it, or infinity if none did."""
    ordered_bg = np.sort(np.where(chosen_bg, rank_bg, np.inf), axis=0)
    number_g = chosen_bg.sum(axis=0)
    low_g, high_g = np.maximum((number_g - 1) // 2, 0), np.minimum(number_g // 2, len(rank_bg) - 1)
    gene = np.arange(rank_bg.shape[1])
    return np.where(number_g > 0, (ordered_bg[low_g, gene] + ordered_bg[high_g, gene]) / 2, np.inf)


def _order_by_dispersion(cells: _Cells, n_genes: int) -> NDArray[np.int64]:
    """Order genes by dispersion, standardised within bins of genes with similar means (seurat)."""
    with np.errstate(over="ignore", invalid="ignore"):
        _, mean_bg, variance_bg = cells.moments_bg(np.expm1)
    if not np.isfinite(variance_bg).all():
        raise DataError(
            f"{cells.source.name} has values that are too large for logarithms. Flavor 'seurat' is for log-normalised "
            "data: use 'seurat_v3' for counts, or take logarithms first."
        )
    one = len(mean_bg) == 1
    score_bg = np.stack([_dispersion(m, v, keep_zero=one) for m, v in zip(mean_bg, variance_bg, strict=True)])
    chosen_bg = _highest(np.where(mean_bg > 0, score_bg, np.nan), n_genes)
    number_g = (~np.isnan(score_bg)).sum(axis=0)
    mean_score_g = np.where(number_g > 0, np.nansum(score_bg, axis=0) / np.maximum(number_g, 1), -np.inf)
    return np.lexsort((-mean_score_g, -chosen_bg.sum(axis=0)))


def _highest(score_bg: _Floats, n: int) -> NDArray[np.bool_]:
    """Return which genes of each batch have one of the n highest scores, including ties."""
    ordered_bg = np.sort(-score_bg, axis=1)  # NaN is last
    last_b = np.minimum(n, (~np.isnan(score_bg)).sum(axis=1)) - 1
    limit_b1 = -np.take_along_axis(ordered_bg, np.maximum(last_b, 0)[:, None], axis=1)
    return np.asarray(score_bg >= limit_b1)


def _dispersion(mean_g: _Floats, variance_g: _Floats, keep_zero: bool, n_bins: int = 20) -> _Floats:
    """Standardise log(variance / mean) among the genes of each bin of log(1 + mean); NaN where it is undefined."""
    expressed = np.ones(len(mean_g), dtype=bool) if keep_zero else mean_g > 0
    mean, variance = np.where(mean_g[expressed] > 0, mean_g[expressed], 1e-12), variance_g[expressed]
    with np.errstate(divide="ignore"):
        log_dispersion = pd.Series(np.where(variance > 0, np.log(variance / mean), np.nan))
    bins = log_dispersion.groupby(pd.cut(np.log1p(mean), bins=n_bins, labels=False))
    centre, spread = bins.transform("mean"), bins.transform("std")
    single = spread.isna()
    score_g = np.zeros(len(mean_g))
    score_g[expressed] = ((log_dispersion - centre.mask(single, 0.0)) / spread.mask(single, centre)).to_numpy()
    return score_g


_FLAVORS: dict[str, Callable[[_Cells, int], NDArray[np.int64]]] = {
    "seurat_v3": _order_by_clipped_variance,
    "seurat": _order_by_dispersion,
}
