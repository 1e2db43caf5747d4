"""How well labels are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.metric import Metric

__all__ = [
    "ACCURACY", "CALIBRATION_ERROR", "MACRO_F1", "RISK_COVERAGE_AREA", "SET_COVERAGE", "UNSEEN_AUROC", "Majority",
    "Reliability", "accuracy", "auroc", "confusion", "expected_calibration_error", "macro_f1", "majority",
    "majority_accuracy", "reliability", "risk_coverage", "risk_coverage_area",
]  # fmt: skip

ACCURACY = Metric("accuracy", "higher", 1, "Share of the cells whose label is predicted right.")
MACRO_F1 = Metric(
    "macro-F1", "higher", 1, "Harmonic mean of precision and recall; rare labels count as much as others.",
    "Van Rijsbergen, Information Retrieval, 2nd ed. (1979)",
)  # fmt: skip
CALIBRATION_ERROR = Metric(
    "calibration error", "lower", 0, "Mean gap between the probability of labels and how often they are right.",
    "Naeini, Cooper and Hauskrecht, AAAI (2015)",
)  # fmt: skip
RISK_COVERAGE_AREA = Metric(
    "area under risk-coverage", "lower", 0,
    "Mean share of wrong labels among the most certain cells, over all shares of cells.",
    "Geifman, Uziel and El-Yaniv, ICLR (2019)",
)  # fmt: skip
SET_COVERAGE = Metric(
    "coverage of label sets", "closer", 0.9, "Share of the cells whose set of plausible labels has the true one.",
    "Sadinle, Lei and Wasserman, JASA 114:223 (2019)",
)  # fmt: skip
UNSEEN_AUROC = Metric(
    "AUROC of labels never seen", "higher", 1,
    "How well a low probability, or a large distance, identifies cells of a label that was left out of training.",
    "Hanley and McNeil, Radiology 143:29 (1982)",
)  # fmt: skip


class Reliability(NamedTuple):
    """Predicted and observed shares of right labels, in each bin of probabilities that has cells.

    Parameters
    ----------
    predicted, right
        Mean probability, and share of the labels that are right.
    n
        Cells.
    """

    predicted: NDArray[np.float64]
    right: NDArray[np.float64]
    n: NDArray[np.int64]


def accuracy(true_n: ArrayLike, predicted_n: ArrayLike) -> float:
    """Share of cells whose label is predicted right.

    >>> accuracy(["B", "T", "T"], ["B", "T", "B"])
    0.6666666666666666
    """
    return float(np.mean(np.asarray(true_n) == np.asarray(predicted_n)))


class Majority(NamedTuple):
    """The commonest label, and the share of the cells that have it: the baseline of every classifier."""

    label: Any
    share: float


def majority(label_n: ArrayLike) -> Majority:
    """Return the commonest label; of those that are equally common, the first in order.

    >>> majority(["a", "b", "b", "b"])
    Majority(label='b', share=0.75)
    """
    labels, counts = np.unique(np.asarray(label_n), return_counts=True)
    return Majority(labels.tolist()[counts.argmax()], float(counts.max() / counts.sum()))


def majority_accuracy(train_n: ArrayLike, true_n: ArrayLike) -> float:
    """Return the accuracy of giving every cell the commonest training label."""
    return float(np.mean(np.asarray(true_n) == majority(train_n).label))


def expected_calibration_error(right_n: ArrayLike, probability_n: ArrayLike, n_bins: int = 10) -> float:
    """Mean gap between how often labels are right and their probability.

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
    return float(np.sum(bins.n * np.abs(bins.right - bins.predicted)) / bins.n.sum())


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
    predicted, right_share = (np.bincount(bin_n, values, n_bins)[n > 0] / n[n > 0] for values in (probability, right))
    return Reliability(predicted, right_share, n[n > 0])


def confusion(true_n: ArrayLike, predicted_n: ArrayLike, labels: Sequence[str]) -> NDArray[np.int64]:
    """Count the cells of each true label (rows) that were given each label (columns).

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
    """Return the mean over labels of F1 = 2·right / (cells of the label + cells given it), rare labels as common ones.

    The labels are all that a cell has or was given.

    References
    ----------
    Van Rijsbergen, *Information Retrieval*, 2nd ed. (1979).
    """
    true, predicted = np.asarray(true_n), np.asarray(predicted_n)
    pairs = [(true == label, predicted == label) for label in np.union1d(true, predicted)]
    return float(np.mean([2 * np.sum(has & gets) / (has.sum() + gets.sum()) for has, gets in pairs]))


def risk_coverage(right_n: ArrayLike, probability_n: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the share of wrong labels among the most certain cells, for every share of cells that is labelled.

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

    It is the share of wrong labels where probabilities are uninformative, and little where the wrong ones come last.

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
