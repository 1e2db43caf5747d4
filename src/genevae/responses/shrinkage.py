"""Adaptive shrinkage of many estimates, most of which may be zero."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

__all__ = ["Shrunken", "shrink"]

N_SCALES, N_STEPS = 12, 60
NULL_COUNT = 10.0
"""How many genes without a change are added, so that a change needs evidence."""


class Shrunken(NamedTuple):
    """Posterior of each estimate.

    Parameters
    ----------
    mean_g, variance_g
        Its mean and variance.
    """

    mean_g: NDArray[np.float64]
    variance_g: NDArray[np.float64]


def shrink(estimate_g: NDArray[np.float64], noise_g: NDArray[np.float64]) -> Shrunken:
    """Return the posterior of true values, given estimates with normal noise of known variance.

    The prior is Σ_k π_k N(0, σ_k²) over a grid of σ from far below the noise to the largest estimate, with weights that
    maximise the likelihood of all estimates together, by expectation–maximisation.

    Parameters
    ----------
    estimate_g
        Estimates, such as the shift of every gene.
    noise_g
        The variance of the noise of each.

    References
    ----------
    Stephens, False discovery rates: a new deal, Biostatistics 18:275 (2017).
    """
    noise_g = np.maximum(noise_g, 1e-12)
    low = np.sqrt(np.median(noise_g)) / 30
    high = max(2 * np.sqrt(max(float(np.max(np.square(estimate_g) - noise_g, initial=0)), 0)), 4 * low)
    sigma_k = np.geomspace(low, high, N_SCALES)
    total_gk = noise_g[:, None] + np.square(sigma_k)
    log_gk = norm.logpdf(estimate_g[:, None], 0, np.sqrt(total_gk))
    log_gk -= log_gk.max(1, keepdims=True)
    likelihood_gk = np.exp(log_gk)
    pi_k = np.full(N_SCALES, 1 / N_SCALES)
    for _ in range(N_STEPS):
        weight_gk = pi_k * likelihood_gk
        weight_gk /= weight_gk.sum(1, keepdims=True)
        count_k = weight_gk.sum(0)
        count_k[0] += NULL_COUNT
        pi_k = count_k / count_k.sum()
    weight_gk = pi_k * likelihood_gk
    weight_gk /= weight_gk.sum(1, keepdims=True)
    share_gk = np.square(sigma_k) / total_gk
    mean_gk, variance_gk = share_gk * estimate_g[:, None], share_gk * noise_g[:, None]
    mean_g = (weight_gk * mean_gk).sum(1)
    second_g = (weight_gk * (variance_gk + np.square(mean_gk))).sum(1)
    return Shrunken(mean_g, np.maximum(second_g - np.square(mean_g), 0))
