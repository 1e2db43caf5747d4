"""How well labels were told."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["accuracy", "expected_calibration_error", "majority_accuracy"]


def accuracy(true_n: ArrayLike, told_n: ArrayLike) -> float:
    """Share of cells whose label was told right.

    >>> accuracy(["B", "T", "T"], ["B", "T", "B"])
    0.6666666666666666
    """
    return float(np.mean(np.asarray(true_n) == np.asarray(told_n)))


def majority_accuracy(train_n: ArrayLike, true_n: ArrayLike) -> float:
    """Accuracy of calling every cell by the commonest training label: the baseline of every classifier."""
    labels, counts = np.unique(np.asarray(train_n), return_counts=True)
    return float(np.mean(np.asarray(true_n) == labels[counts.argmax()]))


def expected_calibration_error(right_n: ArrayLike, probability_n: ArrayLike, n_bins: int = 10) -> float:
    """Mean gap between how often labels are right and how probable they were said to be.

    Σ_bins (cells in the bin / all cells) · |share that is right − mean probability|, over equal-width bins.

    Parameters
    ----------
    right_n
        Whether each cell's label was right.
    probability_n
        The probability that was given to it.
    n_bins
        Bins between 0 and 1.

    References
    ----------
    Naeini, Cooper and Hauskrecht, AAAI (2015).

    Examples
    --------
    >>> expected_calibration_error([True, False], [1.0, 1.0])
    0.5
    """
    right: Any = np.asarray(right_n, dtype=float)
    probability: Any = np.asarray(probability_n, dtype=float)
    bins = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    gaps = [abs((right - probability)[bins == b].sum()) for b in range(n_bins)]
    return float(np.sum(gaps) / len(right))
