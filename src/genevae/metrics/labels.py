"""How well labels were told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Reliability", "accuracy", "auroc", "confusion", "expected_calibration_error", "macro_f1", "majority_accuracy",
    "reliability", "risk_coverage", "risk_coverage_area",
]  # fmt: skip


class Reliability(NamedTuple):
    """What was promised, and what was kept, in each bin of probabilities that has cells.

    Parameters
    ----------
    said, right
        Mean probability, and share of the labels that are right.
    n
        Cells.
    """

    said: NDArray[np.float64]
    right: NDArray[np.float64]
    n: NDArray[np.int64]


def accuracy(true_n: ArrayLike, predicted_n: ArrayLike) -> float:
    """Share of cells whose label was told right.

    >>> accuracy(["B", "T", "T"], ["B", "T", "B"])
    0.6666666666666666
    """
    return float(np.mean(np.asarray(true_n) == np.asarray(predicted_n)))


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
    bins = reliability(right_n, probability_n, n_bins)
    return float(np.sum(bins.n * np.abs(bins.right - bins.said)) / bins.n.sum())


def reliability(right_n: ArrayLike, probability_n: ArrayLike, n_bins: int = 10) -> Reliability:
    """Compare the probability that labels were given with how often they are right, in equal-width bins.

    Parameters
    ----------
    right_n, probability_n, n_bins
        As for :func:`expected_calibration_error`.

    References
    ----------
    DeGroot and Fienberg, The Statistician 32:12 (1983).
    """
    right: Any = np.asarray(right_n, dtype=float)
    probability: Any = np.asarray(probability_n, dtype=float)
    bin_n = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    n = np.bincount(bin_n, minlength=n_bins)
    said, kept = (np.bincount(bin_n, values, n_bins)[n > 0] / n[n > 0] for values in (probability, right))
    return Reliability(said, kept, n[n > 0])


def confusion(true_n: ArrayLike, predicted_n: ArrayLike, labels: Sequence[str]) -> NDArray[np.int64]:
    """Count the cells of each true label (rows) that were told each label (columns).

    Parameters
    ----------
    true_n, predicted_n
        Labels, all among ``labels``.
    labels
        In the order of rows and columns.

    Examples
    --------
    >>> confusion(["B", "T", "T"], ["B", "T", "B"], ["B", "T"])
    array([[1, 0],
           [1, 1]])
    """
    place = {label: number for number, label in enumerate(labels)}
    row_n, column_n = ([place[label] for label in np.asarray(given)] for given in (true_n, predicted_n))
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(counts, (row_n, column_n), 1)
    return counts


def macro_f1(true_n: ArrayLike, predicted_n: ArrayLike) -> float:
    """Return the mean over labels of F1 = 2·right / (cells of the label + cells told it), rare labels as common ones.

    The labels are all that a cell has or was told.

    References
    ----------
    Van Rijsbergen, *Information Retrieval*, 2nd ed. (1979).
    """
    true, told = np.asarray(true_n), np.asarray(predicted_n)
    pairs = [(true == label, told == label) for label in np.union1d(true, told)]
    return float(np.mean([2 * np.sum(has & gets) / (has.sum() + gets.sum()) for has, gets in pairs]))


def risk_coverage(right_n: ArrayLike, probability_n: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the share of wrong labels among the surest cells, for every share of cells that is labelled.

    Cells that are equally sure are labelled in any order: the risk is that expected.

    Parameters
    ----------
    right_n
        Whether each cell's label is right.
    probability_n
        How sure it was.

    Returns
    -------
    tuple
        Coverage, from one cell to all; and risk.

    References
    ----------
    Geifman and El-Yaniv, NeurIPS (2017).
    """
    wrong: Any = 1 - np.asarray(right_n, dtype=float)
    _, level_n, n_level = np.unique(-np.asarray(probability_n, dtype=float), return_inverse=True, return_counts=True)
    mean_level = np.bincount(level_n, wrong) / n_level
    count = np.arange(1, len(wrong) + 1)
    return count / len(wrong), np.cumsum(np.repeat(mean_level, n_level)) / count


def risk_coverage_area(right_n: ArrayLike, probability_n: ArrayLike) -> float:
    """Return the area under the risk-coverage curve, the mean of its risks: lower is better.

    It is the share of wrong labels where probabilities tell nothing, and little where the wrong ones come last.

    References
    ----------
    Geifman, Uziel and El-Yaniv, ICLR (2019).

    Examples
    --------
    >>> risk_coverage_area([True, True, False, False], [0.9, 0.8, 0.7, 0.6])
    0.20833333333333331
    """
    return float(risk_coverage(right_n, probability_n)[1].mean())


def auroc(positive_n: ArrayLike, score_n: ArrayLike) -> float:
    """Return the chance that a positive cell has a higher score than a negative one, ties counting half.

    For how well a classifier notices cells of a kind that it was never shown: they are the positives, and the score is
    1 − the probability of the best label, or −bound. NaN where all cells are of one sort.

    References
    ----------
    Hanley and McNeil, Radiology 143:29 (1982).

    Examples
    --------
    >>> auroc([True, False, False], [0.5, 0.5, 0.1])
    0.75
    """
    from scipy.stats import rankdata

    positive = np.asarray(positive_n, dtype=bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    ranks = rankdata(np.asarray(score_n, dtype=np.float64))
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
