"""How well expected expression agrees with what was measured, gene by gene."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.metric import Metric

__all__ = [
    "R2_PER_GENE", "VARIANCE_ERROR", "ZERO_FRACTION_ERROR", "r2_g", "variance_error", "zero_fraction_error",
]  # fmt: skip

R2_PER_GENE = Metric(
    "R² per gene, median", "higher", 1, "Share of a gene's variance over cells that the expectation explains; median."
)
VARIANCE_ERROR = Metric(
    "error of variance, doublings", "lower", 0,
    "By how many doublings the expected variance of a gene misses the measured one, on average.",
)  # fmt: skip
ZERO_FRACTION_ERROR = Metric(
    "error of the share of zeros", "lower", 0,
    "Mean gap between a gene's expected and measured share of cells without a count.",
)  # fmt: skip


def r2_g(true_ng: ArrayLike, expected_ng: ArrayLike) -> NDArray[np.float64]:
    """Return the share of each gene's variance that is explained: 1 − Σ(x − x̂)² / Σ(x − x̄)².

    A gene's own mean has 0, and what is worse than that is below. NaN where a gene does not vary.

    Parameters
    ----------
    true_ng, expected_ng
        Expression of the same cells in the same units.
    """
    x: Any = np.asarray(true_ng, dtype=np.float64)
    error_g = np.square(x - np.asarray(expected_ng, dtype=np.float64)).sum(0)
    total_g = np.square(x - x.mean(0)).sum(0)
    return np.asarray(1 - np.divide(error_g, total_g, out=np.full(total_g.shape, np.nan), where=total_g > 0))


def zero_fraction_error(true_ng: ArrayLike, p_zero_ng: ArrayLike) -> float:
    """Return the mean over genes of |share of cells at zero − mean probability of zero|.

    Parameters
    ----------
    true_ng
        Counts.
    p_zero_ng
        The probability of zero that a model gives each entry; or one row, for all cells.
    """
    share_g = np.mean(np.asarray(true_ng) == 0, axis=0)
    return float(np.mean(np.abs(share_g - np.mean(np.asarray(p_zero_ng, dtype=np.float64), axis=0))))


def variance_error(true_ng: ArrayLike, mean_ng: ArrayLike, variance_ng: ArrayLike) -> float:
    """Return the mean over genes of |log2(predicted variance / variance)|: 1 is a factor of two, either way.

    The predicted variance over cells is that of the means, and the mean of the variances: Var(μ) + E(σ²). Genes that do
    not vary do not count.

    Parameters
    ----------
    true_ng
        Expression.
    mean_ng, variance_ng
        Of the distribution that a model gives each entry, in the same units.
    """
    true_g = np.var(np.asarray(true_ng, dtype=np.float64), axis=0)
    means: Any = np.asarray(mean_ng, dtype=np.float64)
    predicted_g = np.var(means, axis=0) + np.mean(np.asarray(variance_ng, dtype=np.float64), axis=0)
    varies = (true_g > 0) & (predicted_g > 0)
    return float(np.mean(np.abs(np.log2(predicted_g[varies] / true_g[varies])))) if varies.any() else float("nan")
