"""The kind of the values of an expression matrix (counts, log-normalised, …): how to detect it, and to compare it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genevae.errors import DataError, warn
from genevae.io.source import Source

__all__ = [
    "LEVEL",
    "Kind",
    "detect_kind",
    "finite",
    "is_integer",
    "probe",
    "require_same_values",
    "sample_rows",
    "spread",
    "totals",
    "typical_total",
]

_WHOLE = 1e-6
"""Largest distance of a count from an integer, relative to its size."""
_LOG_LIMIT = 25.0
"""Logarithms of expression are below this."""
LEVEL = 0.05
"""If the totals of cells differ by less than this share, they were normalised, perhaps before genes were removed."""
_EXACTLY_LEVEL = 1e-3
"""The same, if no genes were removed."""
_BASES = (np.e, 2.0, 10.0)
"""Usual bases of the logarithm."""
_TOLERANCE = 3.0
"""Largest ratio of the typical totals of two sets of cells that were log-normalised alike."""


class Kind(StrEnum):
    """The kind of the values of an expression matrix.

    The values of this enumeration are used in ``schema.json`` and printed by ``inspect``.
    """

    COUNTS = "counts"
    """Molecules or reads: non-negative integers."""
    FRACTIONAL = "expected counts"
    """Estimated counts (RSEM, kallisto, ambient-corrected): like counts, but not integers."""
    NORMALISED = "normalised"
    """TPM, CPM or similar, on the linear scale: all cells have about the same total."""
    LOG = "log-normalised"
    """log(1 + normalised)."""
    SCALED = "scaled"
    """Centred or standardised per gene: negative values occur."""

    @property
    def is_count(self) -> bool:
        """Whether a likelihood of counts can model these values."""
        return self is Kind.COUNTS


_FITTING = {
    Kind.COUNTS: {Kind.COUNTS},
    Kind.FRACTIONAL: {Kind.FRACTIONAL, Kind.COUNTS, Kind.NORMALISED},
    Kind.NORMALISED: {Kind.NORMALISED, Kind.FRACTIONAL},
    Kind.LOG: {Kind.LOG},
    Kind.SCALED: {Kind.SCALED},
}
"""The kinds that a model of each kind can be given: estimated counts may be whole, and normalised ones are scaled."""


def probe(source: Source, n_cells: int = 2000, seed: int = 0) -> Kind:
    """Detect the kind of a source's values from a sample of its cells."""
    return detect_kind(sample_rows(source, n_cells, seed))


def typical_total(x_ng: Any, kind: Kind) -> float | None:
    """Return the median over cells of Σ_g x_ng, of the values without their logarithm; None for centred values.

    Cells that were log-normalised in two ways (base, total) differ in it, by far more than biology does.
    """
    rows = finite(x_ng)
    if kind is Kind.SCALED or not rows.nnz:
        return None
    with np.errstate(over="ignore"):  # of values that are no logarithms
        size_n = totals(_undo(rows, np.e) if kind is Kind.LOG else rows)
    return float(np.median(size_n[size_n > 0]))


def require_same_values(source: Source, kind: Kind, total: float | None) -> None:
    """Check that values are of the kind that a model was trained on; cells without expression fit every model.

    Parameters
    ----------
    source
        The data, with the model's genes.
    kind
        What the model was trained on.
    total
        The typical total of its training cells, where it is known.

    Raises
    ------
    DataError
        If the kind differs. If logarithms were taken in another way, a warning says so.
    """
    rows = finite(sample_rows(source, 2000, 0))
    if not rows.nnz:
        return
    found, here = detect_kind(rows), typical_total(rows, kind)
    alike = total is None or here is None or 1 / _TOLERANCE < here / total < _TOLERANCE
    if found not in _FITTING[kind] and not ({found, kind} == {Kind.LOG, Kind.FRACTIONAL} and alike):
        raise DataError(
            f"{source.name} contains {_noun(found)}, but this model was trained on {_noun(kind)}. "
            f"Give the same kind of values, perhaps from another layer (--layer){_remedy(found, kind)}."
        )
    if kind is Kind.LOG and not alike and source.panels is None:
        warn(
            f"{source.name} was log-normalised in another way than the training data: without the logarithm, the "
            f"typical cell adds up to {here:,.0f} over the model's genes, and to {total:,.0f} in training. The total "
            "or the base of the logarithm differs. Normalise both alike."
        )


def _noun(kind: Kind) -> str:
    return kind.value if "counts" in kind.value else f"{kind} values"


def _remedy(found: Kind, kind: Kind) -> str:
    """Say how to make the values that a model needs from those that were found."""
    if kind is Kind.LOG and found in (Kind.COUNTS, Kind.FRACTIONAL, Kind.NORMALISED):
        return ", or log-normalise them as for training (sc.pp.normalize_total, then sc.pp.log1p)"
    if kind is Kind.SCALED:
        return ", or scale them with the means and standard deviations of the training data"
    return ""


def sample_rows(source: Source, n_cells: int, seed: int) -> Any:
    """Read a random sample of rows, in order."""
    rows = np.random.default_rng(seed).choice(len(source), size=min(n_cells, len(source)), replace=False)
    return source.read(np.sort(rows).astype(np.int64))


def detect_kind(x_ng: Any) -> Kind:
    """Detect the kind of the values of rows, dense or CSR.

    Negative values mean scaled data, and integers alone mean counts. Otherwise, equal totals of all cells mean
    normalised data or, if they are equal after undoing the logarithm, log-normalised data. So do rows whose values are
    integer multiples of their smallest value (counts divided by the cell's size), also for a subset of the genes.
    """
    rows = finite(x_ng)
    if not rows.nnz:
        return Kind.COUNTS
    if rows.data.min() < 0:
        return Kind.SCALED
    return Kind.COUNTS if is_integer(rows.data).all() else _kind_of_fractions(rows)


def _kind_of_fractions(rows: sparse.csr_matrix) -> Kind:
    """Distinguish normalised values, log-normalised values and fractional counts."""
    small = rows.data.max() < _LOG_LIMIT
    bases = _BASES if small else ()
    linear, logarithmic = spread(rows), min((spread(_undo(rows, base)) for base in bases), default=np.inf)
    if linear < (_EXACTLY_LEVEL if small else LEVEL):
        return Kind.NORMALISED
    if logarithmic < LEVEL or any(_are_multiples(_undo(rows, base)) for base in bases):
        return Kind.LOG
    if _are_multiples(rows):
        return Kind.NORMALISED
    return Kind.LOG if small and is_integer(rows.data).mean() < 0.05 else Kind.FRACTIONAL


def is_integer(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which values are integers up to rounding."""
    return np.abs(values - np.round(values)) <= _WHOLE * np.maximum(np.abs(values), 1)


def _undo(x: sparse.csr_matrix, base: float) -> sparse.csr_matrix:
    """Undo ``log_base(1 + x)``."""
    return sparse.csr_matrix((np.expm1(x.data * np.log(base)), x.indices, x.indptr), shape=x.shape)


def spread(x: sparse.csr_matrix) -> float:
    """Return the relative spread of the cells' totals: (95 % quantile − 5 % quantile) / median."""
    size_n = totals(x)
    size_n = size_n[size_n > 0]
    if len(size_n) < 5:
        return np.inf
    low, middle, high = np.quantile(size_n, [0.05, 0.5, 0.95])
    return float((high - low) / middle)


def _are_multiples(rows: sparse.csr_matrix) -> bool:
    """Return whether in most rows the values are integer multiples, 1 to 50, of the smallest value."""
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
    """Return a copy with the entries that are finite and non-zero, as float64."""
    rows = sparse.csr_matrix(x, dtype=np.float64, copy=True)
    rows.data[~np.isfinite(rows.data)] = 0
    rows.eliminate_zeros()
    return rows


def totals(rows: sparse.csr_matrix) -> NDArray[np.float64]:
    """Sum each row."""
    return np.asarray(rows.sum(axis=1), dtype=np.float64).ravel()
