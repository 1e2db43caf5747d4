"""One distribution per gene and nothing else: the baseline of every model of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["GeneWise", "GeneWiseNB", "GeneWiseNormal"]

LOWEST, HIGHEST = -7.0, 9.0
"""The logarithm of θ is searched between these: from far more variable than counts are, to Poisson."""
N_STEPS = 20
"""Of the search, each of which leaves 62 % of the rest: 0.1 % of θ in the end."""
GOLDEN = (np.sqrt(5) - 1) / 2
TINY = 1e-10

Numbers = NDArray[np.float64]


class GeneWise(Protocol):
    """A distribution per gene, given the size of each cell."""

    def mean_ng(self, size_n: ArrayLike) -> Numbers:
        """Return the mean of each entry."""

    def variance_ng(self, size_n: ArrayLike) -> Numbers:
        """Return the variance of each entry."""

    def log_prob_n(self, x_ng: ArrayLike, size_n: ArrayLike) -> Numbers:
        """Return log p(x) of each cell, in nats."""

    def cdf_ng(self, x_ng: ArrayLike, size_n: ArrayLike) -> Numbers:
        """Return P(X ≤ x) of each entry."""

    def draw_sng(self, size_n: ArrayLike, n_draws: int, seed: int) -> Numbers:
        """Draw cells of these sizes."""

    def of(self, genes: NDArray[Any]) -> Self:
        """Take some genes."""


@dataclass(frozen=True, eq=False)
class GeneWiseNB:
    """x ~ NB(size · share_g, θ_g), with variance μ + μ²/θ.

    Parameters
    ----------
    share_g
        Each gene's share of the counts.
    theta_g
        Inverse dispersion.
    """

    share_g: Numbers
    theta_g: Numbers

    @classmethod
    def fit(cls, x_ng: ArrayLike, size_n: ArrayLike) -> Self:
        """Fit the shares of all counts, and by maximum likelihood given these, θ of each gene."""
        x: Any = np.asarray(x_ng, dtype=np.float64)
        size: Any = np.asarray(size_n, dtype=np.float64)
        share_g = np.maximum(x.sum(0) / size.sum(), TINY)
        return cls(share_g, np.exp(_best_log_theta(x, size[:, None] * share_g)))

    def mean_ng(self, size_n: ArrayLike) -> Numbers:
        """Return size · share."""
        return np.multiply.outer(np.asarray(size_n, dtype=np.float64), self.share_g)

    def variance_ng(self, size_n: ArrayLike) -> Numbers:
        """Return μ + μ²/θ."""
        mean_ng = self.mean_ng(size_n)
        return np.asarray(mean_ng + np.square(mean_ng) / self.theta_g)

    def log_prob_n(self, x_ng: ArrayLike, size_n: ArrayLike) -> Numbers:
        """Return the sum over genes of log p(x), in nats."""
        x: Any = np.asarray(x_ng, dtype=np.float64)
        return _Counts.of(x, self.mean_ng(size_n)).log_prob(self.theta_g, over_cells=False)

    def cdf_ng(self, x_ng: ArrayLike, size_n: ArrayLike) -> Numbers:
        """Return P(X ≤ x) of each entry; zero below zero."""
        from scipy.special import betainc

        x: Any = np.asarray(x_ng, dtype=np.float64)
        return np.asarray(
            betainc(self.theta_g, np.maximum(x, 0) + 1, self.theta_g / (self.theta_g + self.mean_ng(size_n))) * (x >= 0)
        )

    def draw_sng(self, size_n: ArrayLike, n_draws: int, seed: int) -> Numbers:
        """Draw counts through the gamma mixture of Poissons."""
        rng, mean_ng = np.random.default_rng(seed), self.mean_ng(size_n)
        rate = rng.gamma(self.theta_g, mean_ng / self.theta_g, (n_draws, *mean_ng.shape))
        return rng.poisson(rate).astype(np.float64)

    def of(self, genes: NDArray[Any]) -> Self:
        """Take some genes."""
        return type(self)(self.share_g[genes], self.theta_g[genes])


@dataclass(frozen=True, eq=False)
class GeneWiseNormal:
    """x ~ Normal(μ_g, σ_g), whatever the size.

    Parameters
    ----------
    mean_g, scale_g
        Mean and standard deviation.
    """

    mean_g: Numbers
    scale_g: Numbers

    @classmethod
    def fit(cls, x_ng: ArrayLike, smallest: float = 1e-2) -> Self:
        """Fit mean and standard deviation; the latter has a lower limit, as a gene may be constant."""
        x: Any = np.asarray(x_ng, dtype=np.float64)
        return cls(x.mean(0), np.maximum(x.std(0), smallest))

    def mean_ng(self, size_n: ArrayLike) -> Numbers:
        """Return the mean of the gene."""
        return np.tile(self.mean_g, (len(np.asarray(size_n)), 1))

    def variance_ng(self, size_n: ArrayLike) -> Numbers:
        """Return the variance of the gene."""
        return np.tile(np.square(self.scale_g), (len(np.asarray(size_n)), 1))

    def log_prob_n(self, x_ng: ArrayLike, size_n: ArrayLike) -> Numbers:  # noqa: ARG002 - the protocol's signature
        """Return the sum over genes of log p(x), in nats."""
        standard: Any = (np.asarray(x_ng, dtype=np.float64) - self.mean_g) / self.scale_g
        return np.asarray((-0.5 * np.square(standard) - np.log(self.scale_g * np.sqrt(2 * np.pi))).sum(1))

    def cdf_ng(self, x_ng: ArrayLike, size_n: ArrayLike) -> Numbers:  # noqa: ARG002 - the protocol's signature
        """Return Φ((x − μ)/σ)."""
        from scipy.special import ndtr

        return np.asarray(ndtr((np.asarray(x_ng, dtype=np.float64) - self.mean_g) / self.scale_g))

    def draw_sng(self, size_n: ArrayLike, n_draws: int, seed: int) -> Numbers:
        """Draw values."""
        noise = np.random.default_rng(seed).standard_normal((n_draws, len(np.asarray(size_n)), len(self.mean_g)))
        return self.mean_g + self.scale_g * noise

    def of(self, genes: NDArray[Any]) -> Self:
        """Take some genes."""
        return type(self)(self.mean_g[genes], self.scale_g[genes])


@dataclass(frozen=True, eq=False)
class _Counts:
    """Counts and their means; where counts are zero, most of log p(x) vanishes, and is not computed."""

    x_e: Numbers
    mean_e: Numbers
    mean_ng: Numbers
    cell_e: NDArray[np.int64]
    gene_e: NDArray[np.int64]

    @classmethod
    def of(cls, x_ng: Numbers, mean_ng: Numbers) -> Self:
        cell_e, gene_e = np.nonzero(x_ng)
        return cls(x_ng[cell_e, gene_e], mean_ng[cell_e, gene_e], mean_ng, cell_e, gene_e)

    def log_prob(self, theta_g: Numbers, over_cells: bool) -> Numbers:
        """Sum log p(x) over the cells of each gene, or over the genes of each cell."""
        from scipy.special import gammaln

        x, mean, theta = self.x_e, self.mean_e, theta_g[self.gene_e]
        ratio_e = gammaln(x + theta) - gammaln(theta) - gammaln(x + 1) + x * np.log(mean / (theta + mean))
        odds_ng = self.mean_ng / theta_g
        np.log1p(odds_ng, out=odds_ng)
        zero = -theta_g * odds_ng.sum(0) if over_cells else -(odds_ng @ theta_g)
        return np.asarray(zero + np.bincount(self.gene_e if over_cells else self.cell_e, ratio_e, minlength=len(zero)))


def _best_log_theta(x_ng: Numbers, mean_ng: Numbers) -> Numbers:
    """Find the most likely log θ of every gene at once, by golden section: its likelihood has one maximum."""
    low, high = np.full(x_ng.shape[1], LOWEST), np.full(x_ng.shape[1], HIGHEST)
    counts = _Counts.of(x_ng, mean_ng)

    def likelihood_g(log_theta: Numbers) -> Numbers:
        return counts.log_prob(np.exp(log_theta), over_cells=True)

    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = likelihood_g(left), likelihood_g(right)
    for _ in range(N_STEPS):
        rises = at_left < at_right
        low, high = np.where(rises, left, low), np.where(rises, high, right)
        middle = np.where(rises, low + GOLDEN * (high - low), high - GOLDEN * (high - low))
        left, right = np.where(rises, right, middle), np.where(rises, middle, left)
        found = likelihood_g(middle)
        at_left, at_right = np.where(rises, at_right, found), np.where(rises, found, at_left)
    return np.asarray((low + high) / 2)
