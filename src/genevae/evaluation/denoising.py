"""Molecular cross-validation: hide half of the molecules, and ask for them back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["poisson_deviance", "thin"]


def thin(counts: sparse.csr_matrix, share: float, seed: int = 0) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Split every count in two at random: x ~ Binomial(count, share), and the rest.

    Given the cell's true expression the two parts are independent where counts are Poisson, so that one can judge what
    was made of the other.

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
