"""How far two groups of cells lie apart, as distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.metric import Metric

__all__ = ["E_DISTANCE", "MMD", "SIMULATED_MMD", "e_distance", "median_distance", "mmd", "nearest_distances"]

E_DISTANCE = Metric(
    "E-distance to the true cells", "lower", 0,
    "Energy distance of predicted and true cells, in principal components.",
    "Székely and Rizzo, Journal of Statistical Planning and Inference 143:1249 (2013)",
)  # fmt: skip
MMD = Metric(
    "MMD to the true cells", "lower", 0,
    "Maximum mean discrepancy of predicted and true cells: a distance of whole distributions.",
    "Gretton et al., Journal of Machine Learning Research 13:723 (2012)",
)  # fmt: skip
SIMULATED_MMD = Metric(
    "MMD to real cells", "lower", 0, "Maximum mean discrepancy of simulated and real cells; 0 where they are alike.",
    "Gretton et al., Journal of Machine Learning Research 13:723 (2012)",
)  # fmt: skip


def e_distance(x_nk: ArrayLike, y_nk: ArrayLike) -> float:
    """Energy distance 2·E|X − Y| − E|X − X'| − E|Y − Y'|: zero for one distribution, above zero for two.

    Euclidean norm; X' is another cell than X, so that the expected value for two samples of one distribution is zero
    (and single values may be a little below). Peidli et al. take squared norms in their software (scPerturb, pertpy):
    that is twice the squared distance of the means, and blind to all else; the norm itself, which is Székely's, sees
    spread and shape too. cell-eval counts a cell's distance to itself, which adds E|X − X'|/n_x + E|Y − Y'|/n_y.

    Parameters
    ----------
    x_nk, y_nk
        Cells in the same space, such as principal components; two at least in either group.

    References
    ----------
    Székely and Rizzo, Journal of Statistical Planning and Inference 143:1249 (2013); Peidli et al., Nature Methods
    21:531 (2024).
    """
    from scipy.spatial.distance import cdist, pdist

    x, y = np.asarray(x_nk, dtype=np.float64), np.asarray(y_nk, dtype=np.float64)
    return float(2 * cdist(x, y).mean() - pdist(x).mean() - pdist(y).mean())


def mmd(x_nk: ArrayLike, y_nk: ArrayLike, width: float | None = None) -> float:
    """Squared maximum mean discrepancy with the kernel k(x, y) = exp(−|x − y|² / (2·width²)).

    E k(X, X') + E k(Y, Y') − 2·E k(X, Y), over pairs of distinct cells: zero in expectation for one distribution, and
    then a little below zero as often as above.

    Parameters
    ----------
    x_nk, y_nk
        Cells in the same space; two at least in either group. The first are the real ones.
    width
        Of the kernel; by default the median distance between cells of the first group, so that all that is compared
        with the same real cells is measured by one kernel. (Gretton et al. take the median of both groups together.)

    References
    ----------
    Gretton et al., Journal of Machine Learning Research 13:723 (2012), equation 3.
    """
    from scipy.spatial.distance import cdist, pdist

    x, y = np.asarray(x_nk, dtype=np.float64), np.asarray(y_nk, dtype=np.float64)
    scale = 2 * (median_distance(x) if width is None else width) ** 2

    def kernel(squared: Any) -> float:
        return float(np.exp(-squared / scale).mean())

    within = kernel(pdist(x, "sqeuclidean")) + kernel(pdist(y, "sqeuclidean"))
    return within - 2 * kernel(cdist(x, y, "sqeuclidean"))


def median_distance(x_nk: ArrayLike) -> float:
    """Return the median distance between two cells; one where they all are the same."""
    from scipy.spatial.distance import pdist

    return float(np.median(pdist(np.asarray(x_nk, dtype=np.float64)))) or 1.0


def nearest_distances(x_nk: ArrayLike, to_mk: ArrayLike) -> NDArray[np.float64]:
    """Return the distance of every cell to the nearest of others."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=1).fit(np.asarray(to_mk)).kneighbors(np.asarray(x_nk))[0]
    return np.asarray(found[:, 0], dtype=np.float64)
