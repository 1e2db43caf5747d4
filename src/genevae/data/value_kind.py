"""What the numbers of an expression matrix are, and how that shows."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genevae.io.source import Source

__all__ = ["LEVEL", "Kind", "detect_kind", "finite", "is_whole", "probe", "sample_rows", "spread", "totals"]

_WHOLE = 1e-6
"""How far from a whole number a count may be, relative to its size."""
_LOG_LIMIT = 25.0
"""Logarithms of expression are smaller than this."""
LEVEL = 0.05
"""Totals per cell that differ by less than this share were made equal, up to the genes left out since."""
_EXACTLY_LEVEL = 1e-3
"""The same, where no genes were left out."""
_BASES = (np.e, 2.0, 10.0)
"""Of the logarithms that people take."""


class Kind(StrEnum):
    """What the numbers of an expression matrix are.

    The names are those that ``schema.json`` and the inspection print.
    """

    COUNTS = "counts"
    """Molecules or reads: whole numbers, never negative."""
    FRACTIONAL = "expected counts"
    """Estimated counts (RSEM, kallisto, ambient-corrected): like counts, but not whole."""
    NORMALISED = "normalised"
    """TPM, CPM or the like, on the linear scale: each cell has about the same total."""
    LOG = "log-normalised"
    """log(1 + normalised)."""
    SCALED = "scaled"
    """Centred or standardised per gene: negative values occur."""

    @property
    def is_count(self) -> bool:
        """Whether a count likelihood can describe such numbers."""
        return self is Kind.COUNTS


def probe(source: Source, n_cells: int = 2000, seed: int = 0) -> Kind:
    """Tell the kind of a source from a sample of its cells."""
    return detect_kind(sample_rows(source, n_cells, seed))


def sample_rows(source: Source, n_cells: int, seed: int) -> Any:
    """Read some rows, drawn at random, in order."""
    rows = np.random.default_rng(seed).choice(len(source), size=min(n_cells, len(source)), replace=False)
    return source.read(np.sort(rows).astype(np.int64))


def detect_kind(x_ng: Any) -> Kind:
    """Tell what the numbers of some rows are, dense or CSR.

    Negative values mean scaled data; nothing but whole numbers, counts. Of the rest, totals per cell that are all alike
    tell normalised data and, after undoing the logarithm, log-normalised data. So do rows whose values are whole
    multiples of their smallest: counts that were divided by the cell's size. That survives the choice of genes.
    """
    rows = finite(x_ng)
    if not rows.nnz:
        return Kind.COUNTS
    if rows.data.min() < 0:
        return Kind.SCALED
    return Kind.COUNTS if is_whole(rows.data).all() else _kind_of_fractions(rows)


def _kind_of_fractions(rows: sparse.csr_matrix) -> Kind:
    """Tell normalised, log-normalised and fractional counts apart."""
    small = rows.data.max() < _LOG_LIMIT
    bases = _BASES if small else ()
    linear, logarithmic = spread(rows), min((spread(_undo(rows, base)) for base in bases), default=np.inf)
    if linear < (_EXACTLY_LEVEL if small else LEVEL):
        return Kind.NORMALISED
    if logarithmic < LEVEL or any(_in_units(_undo(rows, base)) for base in bases):
        return Kind.LOG
    if _in_units(rows):
        return Kind.NORMALISED
    return Kind.LOG if small and is_whole(rows.data).mean() < 0.05 else Kind.FRACTIONAL


def is_whole(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which values are whole numbers, to rounding."""
    return np.abs(values - np.round(values)) <= _WHOLE * np.maximum(np.abs(values), 1)


def _undo(x: sparse.csr_matrix, base: float) -> sparse.csr_matrix:
    """Undo ``log_base(1 + x)``."""
    return sparse.csr_matrix((np.expm1(x.data * np.log(base)), x.indices, x.indptr), shape=x.shape)


def spread(x: sparse.csr_matrix) -> float:
    """Measure how unlike the totals of the cells are: from the 5 % to the 95 % quantile, over the median."""
    size_n = totals(x)
    size_n = size_n[size_n > 0]
    if len(size_n) < 5:
        return np.inf
    low, middle, high = np.quantile(size_n, [0.05, 0.5, 0.95])
    return float((high - low) / middle)


def _in_units(rows: sparse.csr_matrix) -> bool:
    """Whether in most rows the values are whole multiples of the smallest, one to fifty times."""
    sizes = np.diff(rows.indptr)
    long = sizes >= 5
    if not long.any():
        return False
    starts = rows.indptr[:-1][sizes > 0]
    unit_n = np.repeat(np.minimum.reduceat(rows.data, starts), sizes[sizes > 0])
    times = rows.data / unit_n
    fits = (np.abs(times - np.round(times)) < 0.01) | (times > 50)
    return bool(np.mean(np.add.reduceat(fits, starts)[long[sizes > 0]] >= 0.95 * sizes[long]) > 0.5)


def finite(x: Any) -> sparse.csr_matrix:
    """Copy the entries that are finite and not zero, as float64."""
    rows = sparse.csr_matrix(x, dtype=np.float64, copy=True)
    rows.data[~np.isfinite(rows.data)] = 0
    rows.eliminate_zeros()
    return rows


def totals(rows: sparse.csr_matrix) -> NDArray[np.float64]:
    """Sum each row."""
    return np.asarray(rows.sum(axis=1), dtype=np.float64).ravel()
