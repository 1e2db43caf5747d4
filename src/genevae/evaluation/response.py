"""How well a change of expression was predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Shift", "mean_shift", "pearson", "profile"]

Shift = NDArray[np.float64]
"""A change of every gene's profile, on the log scale."""


def profile(counts_ng: Any, target: float = 1e4) -> NDArray[np.float64]:
    """Return the mean profile of some cells: log(1 + mean over cells of counts · target / size), per gene.

    Parameters
    ----------
    counts_ng
        Counts or expected counts, dense or sparse; cells × genes.
    target
        The size that every cell is scaled to.
    """
    size_n = np.asarray(counts_ng.sum(1), dtype=np.float64).ravel()
    weight_n = np.divide(target, size_n, out=np.zeros_like(size_n), where=size_n > 0)
    return np.log1p(np.asarray(weight_n @ counts_ng, dtype=np.float64).ravel() / len(size_n))


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation; zero where either side does not vary, since it then tells nothing.

    >>> pearson([1, 2, 3], [2, 4, 6.0])
    1.0
    >>> pearson([1, 2, 3], [0, 0, 0])
    0.0
    """
    x: Any = np.asarray(a, dtype=np.float64) - np.mean(np.asarray(a, dtype=np.float64))
    y: Any = np.asarray(b, dtype=np.float64) - np.mean(np.asarray(b, dtype=np.float64))
    norm = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / norm) if norm > 0 else 0.0


def mean_shift(before: Mapping[str, Any], after: Mapping[str, Any]) -> Shift:
    """Return the mean over contexts of their shifts: the baseline that says every context responds alike.

    Parameters
    ----------
    before, after
        For each context (such as a cell type), its profile in either condition.
    """
    shifts = np.stack([np.asarray(after[name]) - np.asarray(before[name]) for name in before])
    return np.asarray(shifts.mean(0), dtype=np.float64)
