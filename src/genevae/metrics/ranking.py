"""Which genes respond most, and which perturbation a prediction resembles most."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.metric import Metric

__all__ = [
    "DISCRIMINATION", "TOP_OVERLAPS", "TOP_SIZES", "discrimination", "standard_error", "top_genes", "top_overlap",
]  # fmt: skip

TOP_SIZES = (20, 50, 100)
TOP_OVERLAPS = tuple(
    Metric(
        f"overlap of the top {k} genes", "higher", 1, f"Share of the {k} genes that change most that are predicted to."
    )
    for k in TOP_SIZES
)
DISCRIMINATION = Metric(
    "discrimination of perturbations", "higher", 1,
    "How much nearer a prediction is to its own perturbation than to the others; 0.5 is chance.",
    "Wu et al., arXiv 2408.10609 (2024)",
)  # fmt: skip


Distance = Literal["cityblock", "euclidean", "cosine"]


def standard_error(x_ng: ArrayLike, y_ng: ArrayLike) -> NDArray[np.float64]:
    """Return √(s²_x/n_x + s²_y/n_y) of every gene: the error of the difference of two means, as in Welch's t."""
    x, y = np.asarray(x_ng, dtype=np.float64), np.asarray(y_ng, dtype=np.float64)
    return np.asarray(np.sqrt(x.var(0, ddof=1) / len(x) + y.var(0, ddof=1) / len(y)))


def top_genes(statistic_g: ArrayLike, k: int) -> NDArray[np.int64]:
    """Return the places of the k genes with the largest absolute statistic, the largest first."""
    return np.argsort(-np.abs(np.asarray(statistic_g, dtype=np.float64)), kind="stable")[:k]


def top_overlap(predicted_g: ArrayLike, true_g: ArrayLike, k: int) -> float:
    """Return |top k of predicted ∩ top k of true| / k, by absolute value; k/g by chance.

    With fewer genes than k, their number stands for k. A prediction that has the same value for all genes, such as no
    change, ranks none and has what chance has.

    Parameters
    ----------
    predicted_g, true_g
        Shifts, or shifts over their standard errors.
    k
        How many genes.

    Examples
    --------
    >>> top_overlap([3, -2, 0, 0], [0, -5, 4, 0], k=2)
    0.5
    """
    size_g = np.abs(np.asarray(predicted_g, dtype=np.float64))
    if size_g.min() == size_g.max():
        return min(k / len(size_g), 1.0)
    return float(np.isin(top_genes(size_g, k), top_genes(true_g, k)).mean())


def discrimination(predicted_pg: ArrayLike, true_pg: ArrayLike, metric: Distance = "cityblock") -> NDArray[np.float64]:
    """Return for each perturbation how well its prediction is separated from the other perturbations, from 0 to 1.

    1 − (closer + ½ tied) / (P − 1), where ``closer`` counts the other perturbations whose true shift is nearer to the
    prediction than that of the right one, and ``tied`` those that are as near. 1 is perfect; 0.5 is chance, and also
    what a prediction gets that is the same for all perturbations, on average; NaN where there is one alone.

    Wu et al. have it the other way round (their rank is 1 minus this, ties as not closer); cell-eval, of the Virtual
    Cell Challenge, divides by P where this divides by P − 1, orders ties as they come, and leaves out the gene that is
    itself perturbed.

    Parameters
    ----------
    predicted_pg, true_pg
        Shifts of the same perturbations in the same order.
    metric
        Distance between shifts.

    References
    ----------
    Wu et al., "PerturBench", arXiv 2408.10609 (2024); Roohani et al., "Virtual Cell Challenge", Cell 188:3370 (2025).
    """
    from scipy.spatial.distance import cdist

    distance_pp: Any = cdist(np.asarray(predicted_pg, dtype=np.float64), np.asarray(true_pg, dtype=np.float64), metric)
    right_p1 = np.diagonal(distance_pp)[:, None]
    if len(distance_pp) == 1:
        return np.full(1, np.nan)
    tied_pp = np.isclose(distance_pp, right_p1, rtol=1e-12, atol=0)  # also with itself
    closer_p = ((distance_pp < right_p1) & ~tied_pp).sum(1)
    return np.asarray(1 - (closer_p + (tied_pp.sum(1) - 1) / 2) / (len(distance_pp) - 1))
