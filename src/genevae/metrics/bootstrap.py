"""How uncertain a number is, given the cells that it was computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Paired", "interval", "paired"]


class Paired(NamedTuple):
    """How much higher one number is than another on the same cells.

    Parameters
    ----------
    difference
        Mean of the first less mean of the second.
    low, high
        Ends of its interval.
    share_above
        Share of the draws in which it was above zero.
    """

    difference: float
    low: float
    high: float
    share_above: float


def interval(
    values_n: ArrayLike,
    statistic: Callable[[Any], Any] = np.mean,
    seed: int = 0,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    n_draws: int = 500,
) -> tuple[float, float]:
    """Percentile interval of a statistic, by drawing the cells again with replacement.

    From the (1 − level)/2 to the (1 + level)/2 quantile of statistic(values of drawn cells).

    Parameters
    ----------
    values_n
        One number, or one row of numbers, per cell.
    statistic
        Makes one number of the values of some cells.
    seed
        Of the draws.
    groups
        A label per cell, such as its donor. Whole groups are then drawn, since cells of one donor are alike and hold
        less information than as many cells of many donors.
    level
        The share of experiments in which such an interval is to hold the truth.
    n_draws
        How often cells are drawn.

    References
    ----------
    Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13.

    Examples
    --------
    >>> interval([3.0, 3.0, 3.0])
    (3.0, 3.0)
    """
    values: NDArray[Any] = np.asarray(values_n)
    found = [float(statistic(values[rows])) for rows in _draws(len(values), groups, seed, n_draws)]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired(
    a_n: ArrayLike,
    b_n: ArrayLike,
    seed: int = 0,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    n_draws: int = 500,
) -> Paired:
    """Compare two numbers per cell: the mean of a − b, its bootstrap interval, and how often it was above zero.

    What makes a cell hard for both drops out of the difference, so that this can separate what two intervals cannot.

    Parameters
    ----------
    a_n, b_n
        One number per cell, of the same cells.
    seed, groups, level, n_draws
        As for :func:`interval`.

    Examples
    --------
    >>> paired([2.0, 3.0], [1.0, 2.0])
    Paired(difference=1.0, low=1.0, high=1.0, share_above=1.0)
    """
    gap_n: NDArray[Any] = np.asarray(a_n, dtype=np.float64) - np.asarray(b_n, dtype=np.float64)
    found = np.array([gap_n[rows].mean() for rows in _draws(len(gap_n), groups, seed, n_draws)])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Paired(float(gap_n.mean()), float(low), float(high), float(np.mean(found > 0)))


def _draws(n_cells: int, groups: ArrayLike | None, seed: int, n_draws: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each draw: cells, or all cells of drawn groups."""
    rng = np.random.default_rng(seed)
    if groups is None:
        for _ in range(n_draws):
            yield rng.integers(n_cells, size=n_cells)
        return
    _, group_n = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(group_n == group) for group in range(group_n.max() + 1)]
    for _ in range(n_draws):
        yield np.concatenate([members[group] for group in rng.integers(len(members), size=len(members))])
