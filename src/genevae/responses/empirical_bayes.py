"""The change of each gene, given a measured difference and its noise: an empirical Bayes posterior.

Measured y_g ~ N(β_g + c, s_g²), where c is the change of a typical gene, of which a change of composition is the usual
reason. The prior of the true change β_g is a mixture of no change and of normal distributions of several widths, whose
weights are fitted to all genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr

__all__ = ["ChangePosterior", "change_posterior", "expected_false_share"]

Numbers = NDArray[np.float64]

N_WIDTHS = 10
"""Widths in the prior, each √2 times the one before."""
NULL_GENES = 10.0
"""Genes without change that are added, so that the prior leans to none."""
ROUNDS, TOLERANCE = 300, 1e-6
"""Of expectation and maximisation."""
CENTRINGS = 3
"""Times that the typical change is found, each time with less weight of genes that change."""


@dataclass(frozen=True)
class ChangePosterior:
    """p(β | y) of each gene: a mixture of normal distributions, and of no change.

    Parameters
    ----------
    weight_gk, mean_gk, sd_gk
        Of each component; the first is no change, whose standard deviation is zero.
    centre
        The change of a typical gene, which is not counted as one.
    """

    weight_gk: Numbers
    mean_gk: Numbers
    sd_gk: Numbers
    centre: float

    @property
    def mean_g(self) -> Numbers:
        """The expected change."""
        return np.asarray((self.weight_gk * self.mean_gk).sum(1))

    def probability_g(self, least: float) -> Numbers:
        """Return P(|β| > least)."""
        return np.clip(1 - (self._below(least) - self._below(-least, strictly=True)), 0, 1)

    def quantile_g(self, level: float) -> Numbers:
        """Return the quantile, by bisection."""
        reach_g = (np.abs(self.mean_gk) + 8 * self.sd_gk).max(1) + 1e-9
        low_g, high_g = -reach_g, reach_g
        for _ in range(40):
            middle_g = (low_g + high_g) / 2
            is_below_g = self._below(middle_g) < level
            low_g, high_g = np.where(is_below_g, middle_g, low_g), np.where(is_below_g, high_g, middle_g)
        return np.where(np.abs(high_g) < 1e-6, 0.0, high_g)

    def _below(self, value: float | Numbers, *, strictly: bool = False) -> Numbers:
        """Return P(β ≤ value), or P(β < value)."""
        value_g1 = np.broadcast_to(np.asarray(value, dtype=np.float64), len(self.mean_gk))[:, None]
        spread_gk = np.where(self.sd_gk > 0, self.sd_gk, 1.0)
        at_point_gk = value_g1 > self.mean_gk if strictly else value_g1 >= self.mean_gk
        below_gk = np.where(self.sd_gk > 0, ndtr((value_g1 - self.mean_gk) / spread_gk), at_point_gk)
        return np.asarray((self.weight_gk * below_gk).sum(1))


def change_posterior(change_g: Numbers, error_g: Numbers) -> ChangePosterior:
    """Return the posterior of the change of each gene.

    Parameters
    ----------
    change_g, error_g
        Measured changes and their standard errors, infinite for genes that were not measured.

    References
    ----------
    Stephens, Biostatistics 18:275 (2017), for the mixture with a point mass, fitted to all genes.
    """
    known_g = np.isfinite(error_g)
    y_g, s_g = np.where(known_g, change_g, 0.0), np.where(known_g, error_g, 1e6)
    weight_g, found = known_g / s_g**2, None
    for _ in range(CENTRINGS):
        centre = _weighted_median(y_g, weight_g) if known_g.any() else 0.0
        found = _posterior(y_g - centre, s_g, known_g, centre)
        weight_g = known_g / s_g**2 * found.weight_gk[:, 0]
    assert found is not None  # noqa: S101 - there is a round at least
    return found


def _weighted_median(y_g: Numbers, weight_g: Numbers) -> float:
    order = np.argsort(y_g)
    below = np.cumsum(weight_g[order])
    return float(y_g[order][np.searchsorted(below, below[-1] / 2)])


def _posterior(y_g: Numbers, s_g: Numbers, known_g: NDArray[np.bool_], centre: float) -> ChangePosterior:
    """Fit the prior, and return the posterior; the prior where nothing is known."""
    largest = 2 * np.sqrt(max(float(np.max((y_g**2 - s_g**2)[known_g], initial=0.0)), 0.01))
    width_k = np.concatenate([[0.0], largest / 2.0 ** (np.arange(N_WIDTHS)[::-1] / 2)])
    variance_gk = s_g[:, None] ** 2 + width_k**2
    log_gk = -0.5 * (y_g[:, None] ** 2 / variance_gk + np.log(variance_gk))
    with np.errstate(divide="ignore"):
        log_gk = log_gk + np.log(_weights(log_gk[known_g]))
    kept_gk = width_k**2 / variance_gk
    weight_gk = np.exp(log_gk - logsumexp(log_gk, axis=1, keepdims=True))
    return ChangePosterior(weight_gk, kept_gk * y_g[:, None], s_g[:, None] * np.sqrt(kept_gk), centre)


def _weights(log_gk: Numbers) -> Numbers:
    """Maximise the likelihood of the weights of the prior, with some more genes that do not change."""
    density_gk = np.exp(log_gk - log_gk.max(1, keepdims=True))
    weight_k = np.full(density_gk.shape[1], 0.5 / N_WIDTHS)
    weight_k[0] = 0.5
    for _ in range(ROUNDS):
        share_gk = density_gk * weight_k
        new_k = (share_gk / share_gk.sum(1, keepdims=True)).sum(0)
        new_k[0] += NULL_GENES
        new_k /= new_k.sum()
        if np.abs(new_k - weight_k).max() < TOLERANCE:
            break
        weight_k = new_k
    return weight_k


def expected_false_share(probability_g: Numbers) -> Numbers:
    """Return, for each gene, the expected share of false ones among all that are at least as probable.

    It is the mean of 1 − p over them.

    >>> expected_false_share(np.array([0.5, 1.0, 0.9])).round(3).tolist()
    [0.2, 0.0, 0.05]
    """
    order = np.argsort(-probability_g, kind="stable")
    share_g = np.empty(len(order))
    share_g[order] = np.cumsum(1 - probability_g[order]) / np.arange(1, len(order) + 1)
    return share_g
