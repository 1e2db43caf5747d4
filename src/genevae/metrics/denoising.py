"""Molecular cross-validation: hide half of the molecules, and predict them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genevae.metrics.metric import Metric
from genevae.metrics.response import log_normalised

__all__ = ["NORMALISED_ERROR", "POISSON_DEVIANCE", "normalised_error", "poisson_deviance", "thin"]

POISSON_DEVIANCE = Metric(
    "hidden molecules, Poisson deviance", "lower", 0,
    "Half of each cell's molecules are hidden and predicted from the other half; Poisson deviance of the prediction.",
    "Batson, Royer and Webber, bioRxiv 786269 (2019)",
)  # fmt: skip
NORMALISED_ERROR = Metric(
    "hidden molecules, squared error of logarithms", "lower", 0,
    "Half of each cell's molecules are hidden and predicted; squared error of log-normalised expression.",
    "Luecken et al., Nature Biotechnology 43:1035 (2025)",
)  # fmt: skip


def thin(counts: sparse.csr_matrix, share: float, seed: int = 0) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Split every count in two at random: x ~ Binomial(count, share), and the rest.

    Given the cell's true expression the two parts are independent where counts are Poisson, so that one can
    score what was predicted from the other.

    Parameters
    ----------
    counts
        Whole numbers, cells × genes.
    share
        Share of the molecules in the first part.
    seed
        Of the draws.

    References
    ----------
    Batson, Royer and Webber, bioRxiv 786269 (2019).
    """
    first = counts.copy()
    first.data = np.random.default_rng(seed).binomial(counts.data.astype(np.int64), share).astype(counts.data.dtype)
    second = (counts - first).tocsr()
    first.eliminate_zeros()
    second.eliminate_zeros()
    return first, second


def poisson_deviance(counts: sparse.csr_matrix, mean_ng: NDArray[np.float64]) -> float:
    """Mean over entries of 2·(x·log(x/μ) − x + μ): zero when every mean is its count, and lower is better.

    Parameters
    ----------
    counts
        Whole numbers, cells × genes.
    mean_ng
        Expected counts; zeros are lifted to 1e-6.
    """
    mean: Any = np.maximum(np.asarray(mean_ng, dtype=np.float64), 1e-6)
    x: Any = counts.toarray().astype(np.float64)
    log_ratio = np.log(np.divide(x, mean, out=np.ones_like(x), where=x > 0))
    return float(2 * np.mean(x * log_ratio - x + mean))


def normalised_error(counts: sparse.csr_matrix, mean_ng: NDArray[np.float64], target: float = 1e4) -> float:
    """Mean over entries of (log(1 + x · target / size) − log(1 + μ · target / Σμ))²: lower is better.

    The logarithm lets rare genes count beside common ones. What is smallest under it is not quite the mean: the
    logarithm of a mean is above the mean of logarithms.

    Parameters
    ----------
    counts
        Whole numbers, cells × genes.
    mean_ng
        Expected counts, of cells of any size.
    target
        The size that every cell is scaled to.

    References
    ----------
    Luecken et al., Nature Biotechnology 43:1035 (2025), the task of denoising; after Batson, Royer and Webber (2019).
    """
    gap_ng = log_normalised(counts, target) - log_normalised(np.asarray(mean_ng, dtype=np.float64), target)
    return float(np.mean(np.square(gap_ng)))
