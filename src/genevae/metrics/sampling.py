"""Some of many rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["subsample"]


def subsample(which_n: ArrayLike, n_most: int, seed: int) -> NDArray[np.int64]:
    """Return the rows that are marked, in order; ``n_most`` of them at random where there are more.

    >>> subsample([True, False, True], 5, seed=0)
    array([0, 2])
    """
    rows = np.flatnonzero(which_n)
    if len(rows) > n_most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, n_most, replace=False))
    return rows
