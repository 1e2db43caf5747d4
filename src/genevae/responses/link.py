"""Mean counts from mean log-normalised counts, and back."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import gamma

from genevae.metrics.response import LOG_SIZE

__all__ = ["mean_after_shift"]

Numbers = NDArray[np.float64]

THETAS = np.geomspace(0.03, 1e4, 14)
N_MEANS, N_NODES = 160, 64
CLEAR, LEAST_CLEAR = 0.5, 10
"""Mean counts of a gene that say what its θ is, and genes at least that have so many."""
MANY = 200.0
"""Counts above which the mean of a logarithm is that of a normal distribution, to second order."""


def mean_after_shift(level_g: Numbers, log_mean_g: Numbers, shift_g: Numbers) -> Numbers:
    """Return the mean counts of cells whose mean log-normalised counts are shifted.

    Let h(μ, θ) be the mean of log(1 + 10⁴ x / s) for x ~ NB(μ, θ) in cells of size s = Σ level. For each gene θ is such
    that h(level, θ) is the measured mean; genes with few counts, which say little of θ, have that of the median gene.
    The result μ' solves h(μ', θ) = h(level, θ) + shift; it is zero where that is not above zero.

    Parameters
    ----------
    level_g
        The mean counts of the cells.
    log_mean_g
        The mean of their log-normalised counts.
    shift_g
        The shift of it.
    """
    size = max(float(level_g.sum()), 1.0)
    mean_m, log_tm = _table(round(float(np.log10(size)), 2))
    place_m = np.log(mean_m)
    level = np.log(np.maximum(level_g, mean_m[0]))
    below_g = np.minimum(level_g / mean_m[0], 1)  # h is a line through zero below the lowest mean
    at_tg = np.stack([np.interp(level, place_m, row) for row in log_tm]) * below_g
    theta_g = _thetas(np.abs(at_tg - log_mean_g).argmin(0), level_g)
    wanted_g = at_tg[theta_g, np.arange(len(theta_g))] + shift_g
    after_g = np.zeros_like(level_g)
    for t, row in enumerate(log_tm):
        here = theta_g == t
        after_g[here] = np.exp(np.interp(wanted_g[here], row, place_m)) * np.clip(wanted_g[here] / row[0], 0, 1)
    return np.asarray(np.where(shift_g == 0, level_g, after_g))


def _thetas(theta_g: NDArray[np.int64], level_g: Numbers) -> NDArray[np.int64]:
    """Return the number of θ of each gene, where those of genes with few counts are that of the others' median."""
    clear_g = level_g >= CLEAR
    typical = int(np.median(theta_g[clear_g])) if clear_g.sum() >= LEAST_CLEAR else int(np.abs(THETAS - 1).argmin())
    return np.where(clear_g, theta_g, typical)


@lru_cache(maxsize=64)
def _table(log_size: float) -> tuple[Numbers, Numbers]:
    """Return means, and h of each for every θ; sizes are rounded to steps of 2 %."""
    size = 10.0**log_size
    mean_m = np.geomspace(1e-6 * size, 1.05 * size, N_MEANS)  # one gene alone may be above a rounded size
    rate_r = np.geomspace(1e-12 * size, 100 * size, 400)
    of_rate_r = _of_poisson(rate_r, LOG_SIZE / size)
    nodes = (np.arange(N_NODES) + 0.5) / N_NODES
    rows = []
    for theta in THETAS:
        unit_u = gamma.ppf(nodes, theta) / theta
        unit_u /= unit_u.mean()
        rate_mu = np.maximum(mean_m[:, None] * unit_u, rate_r[0])
        rows.append(np.interp(np.log(rate_mu), np.log(rate_r), of_rate_r).mean(1))
    return mean_m, np.maximum.accumulate(np.stack(rows), axis=1)


def _of_poisson(rate_r: Numbers, per_count: float) -> Numbers:
    """Return the mean of log(1 + c x) for x ~ Poisson(rate)."""
    x = np.arange(int(MANY + 12 * np.sqrt(MANY)))
    few = np.minimum(rate_r, MANY)
    log_p_rx = x * np.log(few[:, None]) - few[:, None] - gammaln(x + 1)
    exact = np.exp(log_p_rx) @ np.log1p(per_count * x)
    normal = np.log1p(per_count * rate_r) - rate_r / 2 * np.square(per_count / (1 + per_count * rate_r))
    return np.asarray(np.where(rate_r < MANY, exact, normal))
