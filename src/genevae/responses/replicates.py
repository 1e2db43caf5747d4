"""Tests of a shift against the variation between replicates, such as donors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import false_discovery_control, norm
from scipy.stats import t as student

__all__ = ["ReplicateTest", "paired_test", "unpaired_test"]

Numbers = NDArray[np.float64]


class ReplicateTest(NamedTuple):
    """Result of a test for each gene.

    Parameters
    ----------
    p_value_g, fdr_g
        Two-sided p-values, and false discovery rates (Benjamini and Hochberg).
    n_replicates
        The number of replicates, of both sides together where they are not paired.
    shift_g, error_g
        The shift, and the standard error with which a normal distribution gives the same p-value.
    """

    p_value_g: Numbers
    fdr_g: Numbers
    n_replicates: int
    shift_g: Numbers
    error_g: Numbers


def paired_test(shift_rg: Numbers) -> ReplicateTest | None:
    """Test whether the mean of shifts, one of each replicate, differs from zero; None with fewer than two.

    t = mean / √(s̃² / r), where s̃² is the variance between replicates, moderated over genes.

    References
    ----------
    Smyth, Statistical Applications in Genetics and Molecular Biology 3:3 (2004).
    """
    n = len(shift_rg)
    if n < 2:
        return None
    return _tested(shift_rg.mean(0), shift_rg.var(0, ddof=1), 1 / n, n - 1, n)


def unpaired_test(before_rg: Numbers, after_rg: Numbers) -> ReplicateTest | None:
    """Test whether two groups of replicates differ; None with fewer than two in either.

    Parameters
    ----------
    before_rg, after_rg
        The profile of each replicate.

    References
    ----------
    Smyth, Statistical Applications in Genetics and Molecular Biology 3:3 (2004).
    """
    n, m = len(before_rg), len(after_rg)
    if min(n, m) < 2:
        return None
    square_g = before_rg.var(0) * n + after_rg.var(0) * m
    return _tested(after_rg.mean(0) - before_rg.mean(0), square_g / (n + m - 2), 1 / n + 1 / m, n + m - 2, n + m)


def _tested(shift_g: Numbers, variance_g: Numbers, scale: float, df: int, n: int) -> ReplicateTest:
    prior_variance, prior_df = _prior(variance_g, df)
    if np.isinf(prior_df):
        moderated_g, total = np.full_like(variance_g, prior_variance), np.inf
    else:
        moderated_g = (prior_df * prior_variance + df * variance_g) / (prior_df + df)
        total = prior_df + df
    error_g = np.sqrt(np.maximum(moderated_g, np.finfo(np.float64).tiny) * scale)
    p_g = 2 * student.sf(np.abs(shift_g) / error_g, total)
    p_g = np.where((shift_g == 0) & (variance_g == 0), 1.0, p_g)
    t_g = np.maximum(np.abs(shift_g) / error_g, 1e-3)
    normal_g = error_g * t_g / np.maximum(norm.isf(student.sf(t_g, total)), 1e-4)
    return ReplicateTest(p_g, np.asarray(false_discovery_control(p_g)), n, shift_g, normal_g)


def _prior(variance_g: Numbers, df: int) -> tuple[float, float]:
    """Return the scale and the degrees of freedom of the distribution of variances over genes.

    With s² ~ s₀² F(df, d₀): the variance of log s² is ψ'(df/2) + ψ'(d₀/2), and its mean gives s₀².
    """
    positive_g = variance_g[variance_g > 0]
    if len(positive_g) < 3:
        return float(variance_g.mean()), np.inf
    log_g = np.log(positive_g)
    excess = float(log_g.var(ddof=1)) - float(polygamma(1, df / 2))
    centre = float(log_g.mean()) - float(digamma(df / 2)) + np.log(df / 2)
    if excess <= float(polygamma(1, 1e6)):
        return float(np.exp(centre)), np.inf
    prior_df = 2 * brentq(lambda x: float(polygamma(1, x)) - excess, 1e-6, 1e7)
    return float(np.exp(centre + digamma(prior_df / 2) - np.log(prior_df / 2))), float(prior_df)
