"""Genes: those a model knows, those that vary, and those that a file lists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from genevae.data.loess import loess
from genevae.data.sources.source import MemorySource, Source
from genevae.errors import DataError, GeneError, nearest, shorten

__all__ = ["GeneView", "highly_variable", "match_genes", "read_gene_list"]

_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?(_PAR_Y)?", re.IGNORECASE)
_VERSION = re.compile(r"\.\d+$")

_Floats = NDArray[np.float64]
_Rows = NDArray[np.int64]
_Change = Callable[[_Floats, NDArray[np.int64] | slice, int], _Floats]
"""Values, their columns and their batch → other values."""


# --- matching ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GeneView:
    """Some genes of a source, in another order, chosen as rows are read.

    Parameters
    ----------
    source
        Where the rows come from.
    genes
        The name of each column of the view.
    place_g
        Of each column of the source its column in the view, or −1.
    """

    source: Source
    genes: tuple[str, ...]
    place_g: NDArray[np.int64] = field(repr=False)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.source.name

    @property
    def obs(self) -> pd.DataFrame:
        """One row of metadata per cell."""
        return self.source.obs

    def __len__(self) -> int:
        return len(self.source)

    def read(self, rows: _Rows) -> sparse.csr_matrix | NDArray[np.float32]:
        """Read these rows, in this order."""
        placed: sparse.csr_matrix | NDArray[np.float32] = _place(self.source.read(rows), self.place_g, len(self.genes))
        return placed


def match_genes(source: Source, genes: Sequence[str], allow_missing: bool = False) -> Source:
    """Give a source the columns of a model, in the model's order.

    Parameters
    ----------
    source
        The data. In memory, the columns are copied; otherwise they are chosen as rows are read.
    genes
        The model's genes.
    allow_missing
        Whether genes that the data lack are read as zero, as long as any is there.

    Raises
    ------
    GeneError
        If genes are missing, with the reason where it can be told; or if one comes twice.
    """
    genes = tuple(map(str, genes))
    if genes == source.genes:
        return source
    _require_single("the list of genes asked for", genes, set(genes))
    _require_single(source.name, source.genes, set(genes))
    missing = sorted(set(genes) - set(source.genes))
    if missing and (not allow_missing or len(missing) == len(genes)):
        raise GeneError(_why_missing(source, genes, missing))
    place = {gene: at for at, gene in enumerate(genes)}
    place_g = np.array([place.get(gene, -1) for gene in source.genes], dtype=np.int64)
    if isinstance(source, MemorySource):
        return MemorySource(source.name, _place(source.x_ng, place_g, len(genes)), genes, source.obs)
    return GeneView(source, genes, place_g)


def _place(x: Any, place_g: NDArray[np.int64], n_genes: int) -> Any:
    """Put each column in its place, and leave out those without one."""
    if isinstance(x, np.ndarray):
        placed = np.zeros((x.shape[0], n_genes), dtype=x.dtype)
        placed[:, place_g[place_g >= 0]] = x[:, place_g >= 0]
        return placed
    gene_e = place_g[x.indices]
    kept = gene_e >= 0
    indptr = np.concatenate([[0], np.cumsum(kept)])[x.indptr]
    rows = sparse.csr_matrix((x.data[kept], gene_e[kept], indptr), shape=(x.shape[0], n_genes))
    rows.sort_indices()
    return rows


def _require_single(name: str, genes: Sequence[str], asked: set[str]) -> None:
    """Raise where a gene that is asked for comes more than once."""
    twice = [f"{gene} ({times} times)" for gene, times in Counter(genes).items() if times > 1 and gene in asked]
    if twice:
        raise GeneError(
            f"In {name}, {len(twice)} of the genes come more than once: {shorten(twice)}. Keep one column of each, "
            "for example after adata.var_names_make_unique(), or add them up."
        )


def _why_missing(source: Source, genes: tuple[str, ...], missing: list[str]) -> str:
    """Say which genes are missing, why as far as names tell, and what to do."""
    return (
        f"{source.name} lacks {len(missing):,} of the {len(genes):,} genes asked for: {shorten(missing)}. "
        f"{_hint(missing, source.genes)}"
    )


def _hint(missing: list[str], present: tuple[str, ...]) -> str:
    """Explain missing genes by case, version suffix or namespace."""
    changes: tuple[tuple[str, str, Callable[[str], str]], ...] = (
        ("without the version suffix", "strip it from var_names and from the list", _without_version),
        ("in another case", "is this another species? Map its genes to their orthologues", str.casefold),
    )
    for how, mend, change in changes:
        known = {change(gene): gene for gene in present}
        pairs = [(gene, known[change(gene)]) for gene in missing if change(gene) in known]
        if len(pairs) * 2 > len(missing):
            return f"{len(pairs):,} of them are there {how} ({pairs[0][0]} as {pairs[0][1]}): {mend}."
    if _are_ensembl(missing) != _are_ensembl(present):
        words = ("Ensembl ids", "gene symbols")
        asked, given = words if _are_ensembl(missing) else words[::-1]
        return f"Asked for are {asked}, and the data have {given}: put the {asked} into var_names (look in adata.var)."
    return f"The data have {shorten(present, 3)}. Give data that hold these genes, or allow missing ones, read as zero."


def _without_version(gene: str) -> str:
    return _VERSION.sub("", gene) if _ENSEMBL.fullmatch(gene) else gene


def _are_ensembl(genes: Sequence[str]) -> bool:
    """Whether most names are Ensembl ids."""
    return sum(_ENSEMBL.fullmatch(gene) is not None for gene in genes) * 2 > len(genes)


def read_gene_list(path: str | Path) -> list[str]:
    """Read gene names from a text file, one per line; blank lines and what follows ``#`` are ignored.

    A gene that comes twice is kept once.

    Raises
    ------
    GeneError
        If there is no such file, it is not text, or it names no gene.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        beside = [entry.name for entry in path.absolute().parent.glob("*")]
        raise GeneError(f"There is no gene list {path}. {nearest(path.name, sorted(beside))}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise GeneError(
            f"The gene list {path} cannot be read ({error}): give a text file, one gene per line."
        ) from error
    genes = dict.fromkeys(line.split("#", 1)[0].strip() for line in text.splitlines())
    genes.pop("", None)
    if not genes:
        raise GeneError(f"The gene list {path} names no gene: write one per line.")
    return list(genes)


# --- highly variable genes --------------------------------------------------------------------------------------------


def highly_variable(
    source: Source,
    n_genes: int,
    batch: ArrayLike | None = None,
    rows: _Rows | None = None,
    chunk: int = 4096,
    flavor: Literal["seurat_v3", "seurat"] = "seurat_v3",
) -> list[str]:
    """Choose the genes that vary most, as scanpy does, without holding the matrix.

    ``seurat_v3`` is for counts: a curve through log variance over log mean says how much a gene of that mean varies;
    counts are standardised by it and clipped at √n, and the variance of what results ranks the genes. ``seurat`` is for
    log-normalised data: variance over mean, undone of the logarithm, standardised among the genes of like mean.

    Parameters
    ----------
    source
        The data: counts or, for ``seurat``, natural logarithms of one plus normalised values.
    n_genes
        How many genes to choose; all, where there are no more.
    batch
        The technical batch of each cell of the source. Genes are ranked within each batch, and the ranks are joined.
        A batch of one cell, which has no variance, is left out.
    rows
        The cells to look at, such as the training cells; all by default.
    chunk
        How many cells are read at a time. Memory does not depend on the number of cells.
    flavor
        Which method.

    Returns
    -------
    genes
        Their names, in the source's order.

    Raises
    ------
    DataError
        If values are negative, missing or infinite; if the batches do not fit the cells; if there are too few cells.
    GeneError
        If ``n_genes`` is not positive.

    References
    ----------
    Stuart, Butler et al. (2019), Comprehensive integration of single-cell data, Cell 177:1888. Satija et al. (2015),
    Spatial reconstruction of single-cell gene expression data, Nature Biotechnology 33:495.
    """
    if n_genes < 1:
        raise GeneError(f"n_genes={n_genes} chooses no gene: give a positive number.")
    if flavor not in _FLAVORS:
        raise DataError(f"There is no flavor '{flavor}' of highly variable genes. {nearest(flavor, _FLAVORS)}")
    cells = np.arange(len(source)) if rows is None else np.sort(np.asarray(rows, dtype=np.int64))
    chunks = _Chunks(source, cells, _batch_codes(source, cells, batch), max(chunk, 1))
    order = _FLAVORS[flavor](chunks, n_genes)
    return [source.genes[gene] for gene in np.sort(order[:n_genes])]


@dataclass(frozen=True)
class _Chunks:
    """Rows, a bounded number at a time, and the batch of each."""

    source: Source
    rows: _Rows
    code_n: NDArray[np.int64]
    length: int

    def sums_bg(self, change: _Change) -> tuple[_Floats, _Floats]:
        """Add up changed values, and their squares, over the cells of each batch, in one pass; zero must stay zero."""
        sum_bg, square_bg = np.zeros((2, int(self.code_n.max()) + 1, len(self.source.genes)))
        for x, code_n in self:
            for batch in np.unique(code_n):
                sum_g, square_g = _sums_g(x[code_n == batch], change, int(batch))
                sum_bg[batch] += sum_g
                square_bg[batch] += square_g
        return sum_bg, square_bg

    def __iter__(self) -> Iterator[tuple[Any, NDArray[np.int64]]]:
        for start in range(0, len(self.rows), self.length):
            x = self.source.read(self.rows[start : start + self.length])
            values = x if isinstance(x, np.ndarray) else x.data
            if values.size and not (np.isfinite(values).all() and values.min() >= 0):
                raise DataError(
                    f"{self.source.name} holds negative, missing or infinite values, so variable genes cannot be "
                    "chosen: give the layer that holds counts or log-normalised values, or a list of genes."
                )
            yield x, self.code_n[start : start + self.length]

    def moments_bg(self, undo: Callable[[_Floats], _Floats]) -> tuple[_Floats, _Floats, _Floats]:
        """Return the number of cells of each batch (b × 1), and every gene's mean and unbiased variance in it."""
        n_b1 = np.bincount(self.code_n)[:, None].astype(np.float64)
        sum_bg, square_bg = self.sums_bg(lambda values, *_: undo(values))
        mean_bg = sum_bg / n_b1
        return n_b1, mean_bg, np.maximum(square_bg / n_b1 - mean_bg**2, 0) * n_b1 / (n_b1 - 1)


def _sums_g(x: Any, change: _Change, batch: int) -> tuple[_Floats, _Floats]:
    """Add up changed values, and their squares, over rows."""
    if isinstance(x, np.ndarray):
        changed = change(x.astype(np.float64), slice(None), batch)
        return changed.sum(axis=0), np.square(changed).sum(axis=0)
    changed = change(x.data.astype(np.float64), x.indices, batch)
    n_genes = x.shape[1]
    sum_g = np.bincount(x.indices, changed, n_genes).astype(np.float64)
    return sum_g, np.bincount(x.indices, np.square(changed), n_genes).astype(np.float64)


def _batch_codes(source: Source, cells: _Rows, batch: ArrayLike | None) -> NDArray[np.int64]:
    """Give each batch a number, in the order of their names."""
    if batch is None:
        return np.zeros(len(cells), dtype=np.int64)
    labels = np.asarray(batch).astype(str)
    if len(labels) != len(source):
        raise DataError(
            f"There are {len(labels)} batch labels for the {len(source)} cells of {source.name}: give one each."
        )
    return np.asarray(np.unique(labels[cells], return_inverse=True)[1], dtype=np.int64)


def _without_single(chunks: _Chunks) -> _Chunks:
    """Leave out batches of one cell, which have no variance."""
    kept = np.bincount(chunks.code_n, minlength=1)[chunks.code_n] > 1
    if not kept.any():
        raise DataError(
            f"{len(chunks.rows)} cells of {chunks.source.name} are too few to choose variable genes: "
            "no batch has two. Give more cells, a coarser batch column, or a list of genes."
        )
    code_n = np.unique(chunks.code_n[kept], return_inverse=True)[1]
    return _Chunks(chunks.source, chunks.rows[kept], np.asarray(code_n, dtype=np.int64), chunks.length)


def _order_by_clipped_variance(chunks: _Chunks, n_genes: int) -> NDArray[np.int64]:
    """Order genes by the variance of standardised, clipped counts (seurat_v3)."""
    chunks = _without_single(chunks)
    n_b1, mean_bg, variance_bg = chunks.moments_bg(np.positive)
    usual_bg = np.stack([_usual_deviation(m, v) for m, v in zip(mean_bg, variance_bg, strict=True)])
    limit_bg = mean_bg + usual_bg * np.sqrt(n_b1)
    sum_bg, square_bg = chunks.sums_bg(lambda values, genes, batch: np.minimum(values, limit_bg[batch, genes]))
    score_bg = (n_b1 * mean_bg**2 + square_bg - 2 * sum_bg * mean_bg) / ((n_b1 - 1) * usual_bg**2)
    rank_bg = np.argsort(np.argsort(-score_bg, axis=1, kind="stable"), axis=1, kind="stable").astype(np.float64)
    chosen_bg = rank_bg < n_genes
    return np.lexsort((-chosen_bg.sum(axis=0), _median_g(rank_bg, chosen_bg)))


def _usual_deviation(mean_g: _Floats, variance_g: _Floats) -> _Floats:
    """Return the standard deviation that genes of such a mean have; one, where a gene does not vary."""
    varies = variance_g > 0
    usual_g = np.ones_like(mean_g)
    usual_g[varies] = np.sqrt(10 ** loess(np.log10(mean_g[varies]), np.log10(variance_g[varies])))
    return usual_g


def _median_g(rank_bg: _Floats, chosen_bg: NDArray[np.bool_]) -> _Floats:
    """Take the median of each gene's ranks over the batches that chose it; infinite where none did."""
    ordered_bg = np.sort(np.where(chosen_bg, rank_bg, np.inf), axis=0)
    number_g = chosen_bg.sum(axis=0)
    low_g, high_g = np.maximum((number_g - 1) // 2, 0), np.minimum(number_g // 2, len(rank_bg) - 1)
    gene = np.arange(rank_bg.shape[1])
    return np.where(number_g > 0, (ordered_bg[low_g, gene] + ordered_bg[high_g, gene]) / 2, np.inf)


def _order_by_dispersion(chunks: _Chunks, n_genes: int) -> NDArray[np.int64]:
    """Order genes by dispersion, standardised among genes of like mean (seurat)."""
    chunks = _without_single(chunks)
    with np.errstate(over="ignore", invalid="ignore"):
        _, mean_bg, variance_bg = chunks.moments_bg(np.expm1)
    if not np.isfinite(variance_bg).all():
        raise DataError(
            f"{chunks.source.name} holds values too large for logarithms; flavor 'seurat' takes log-normalised data: "
            "use 'seurat_v3' for counts, or take logarithms first."
        )
    one = len(mean_bg) == 1
    score_bg = np.stack([_dispersion(m, v, keep_zero=one) for m, v in zip(mean_bg, variance_bg, strict=True)])
    chosen_bg = np.argsort(np.argsort(-np.nan_to_num(score_bg, nan=-np.inf), axis=1, kind="stable"), axis=1) < n_genes
    number_g = (~np.isnan(score_bg)).sum(axis=0)
    mean_score_g = np.where(number_g > 0, np.nansum(score_bg, axis=0) / np.maximum(number_g, 1), -np.inf)
    return np.lexsort((-mean_score_g, -(chosen_bg & ~np.isnan(score_bg)).sum(axis=0)))


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


_FLAVORS: dict[str, Callable[[_Chunks, int], NDArray[np.int64]]] = {
    "seurat_v3": _order_by_clipped_variance,
    "seurat": _order_by_dispersion,
}
