"""Weights of the members of an answer, fitted to states that each member predicted without having seen them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import ndtri, stdtrit

__all__ = ["OutOfFold", "Residuals", "Stack"]

Shift = NDArray[np.float64]

PRIOR_STATES = 3.0
"""How many states the prior of the weights counts as."""
PRIOR_OF_SUMS: Mapping[str, float] = {"model": 0.5, "linear latent": 1.0, "additive": 1.0, "matching mean": 1.0}
"""The same for combinations: the matching mean is half their sum, where they are two and profiles are measured."""
PRIOR_OF_UNSEEN: Mapping[str, float] = {"perturbed mean": 2.0, "embedding ridge": 1.0}
"""The same for levels that were never seen, and are known by a vector alone."""
PRIOR_OF_DOSES: Mapping[str, float] = {"monotone curve": 2.0, "line on log dose": 1.0}
"""The same for doses of a drug of which others were measured in the same context."""
STATES_OF_DOSES = 30.0
"""How many states that prior counts as: weights that fit the neighbours of a dose are no guide to it. Chosen on
`dose_bpaf_mcf7_bulk`, on doses that were left out among those of training."""
PRIOR: Mapping[str, float] = {
    "model": 1.0,
    "latent arithmetic": 2.0,
    "weighted shift": 1.0,
    "slope": 1.0,
    "ratio": 1.0,
    "saturation": 1.0,
    "linear latent": 0.5,
}
"""Prior weights of the members, in proportion. Chosen on Kang et al. 2018 (`kang_merged`), types held out in turn."""
LAST_RESORT = ("mean shift", "matching mean", "perturbed mean", "no change")
"""The first of these that there is has the prior weight where no other member has any."""
TOP_AMPLITUDE = 1.0
PRIOR_DF = 4.0
"""Degrees of freedom of the prior of residual variances."""
LEAST_STATES = 3
"""States at least, to say what intervals must be multiplied by to hold the shifts of left-out states."""


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """A state of the training cells: its true shift, and what every member predicts from the other states.

    Parameters
    ----------
    members
        The predictions.
    true_g
        The shift that was observed.
    noise_g, target_noise_g
        The sampling variance of that shift, and the part of it that is of the perturbed cells.
    level
        The level of the perturbation.
    """

    members: Mapping[str, Shift]
    true_g: Shift
    noise_g: Shift
    target_noise_g: Shift
    level: str = ""


@dataclass(frozen=True, eq=False)
class Residuals:
    """How far predictions were from shifts that were observed.

    Parameters
    ----------
    variance_g
        The variance of the residual of each gene beyond sampling noise.
    df
        Its degrees of freedom.
    factor
        What a standard error is multiplied by so that intervals held the true shifts of the states that were left out.
    target_noise_g
        The sampling variance of the mean of the perturbed cells in such a state; the median over states.
    """

    variance_g: Shift
    df: float
    factor: float
    target_noise_g: Shift

    def half_width_g(self, noise_g: Shift, interval: float) -> Shift:
        """Return half the width of an interval of a shift that is observed with this sampling variance.

        √(t² variance + z² noise) · factor, with t and z the quantiles of Student's t and of the normal distribution:
        the variance of residuals is an estimate from few states, that of the noise is known.
        """
        return self.factor * _half_width_g(self.variance_g, noise_g, self.df, interval)


@dataclass(frozen=True, eq=False)
class Stack:
    """Weights of members that sum to one, and the amplitude of their sum.

    Parameters
    ----------
    weights
        The weight of every member; absent ones have none.
    amplitude
        What the weighted sum is multiplied by, at most one.
    """

    weights: Mapping[str, float]
    amplitude: float

    @classmethod
    def fit(
        cls, states: Sequence[OutOfFold], names: Sequence[str], nearness_q: NDArray[np.float64] | None = None
    ) -> Stack:
        """Fit to states that were left out in turn.

        With P_q the predictions of the members for a state q, y_q its true shift and s_q the mean of y_q²:
        min Σ_q |y_q − P_qᵀ w|² / (G s_q) + λ |w − w₀|², w ≥ 0, Σ w = 1, where w₀ is the prior, and λ is such that it
        counts as three states (thirty for doses). The amplitude is then the slope of the true shifts on the predicted
        ones, over all states, drawn towards one by the same prior, and at most one.

        Parameters
        ----------
        states
            The states; each has at least the members that are named.
        names
            The members of the state that is to be predicted.
        nearness_q
            How near each state is to the one that is to be predicted, where that is known: the sum is weighted by it,
            and s_q is √(s_q · mean s) instead, since states with a weak response say little of those with a strong one.
        """
        prior_k, n_prior = _prior(names)
        if not states:
            return cls(dict(zip(names, prior_k.tolist(), strict=True)), 1.0)
        gram_kk, product_k = np.zeros((len(names), len(names))), np.zeros(len(names))
        scale_q = np.array([np.square(one.true_g).sum() for one in states]).clip(min=np.finfo(np.float64).tiny)
        if nearness_q is not None:
            scale_q = np.sqrt(scale_q * scale_q.mean()) / (nearness_q / nearness_q.mean()).clip(min=1e-12)
        for one, scale in zip(states, scale_q.tolist(), strict=True):
            p_kg = np.stack([one.members[name] for name in names])
            gram_kk += p_kg @ p_kg.T / scale
            product_k += p_kg @ one.true_g / scale
        if not gram_kk.any():  # no member predicts a change
            return cls(dict(zip(names, prior_k.tolist(), strict=True)), 1.0)
        weight_k = _simplex(gram_kk, product_k, prior_k, n_prior * np.trace(gram_kk) / len(names) / len(states))
        power, agreement = float(weight_k @ gram_kk @ weight_k), float(weight_k @ product_k)
        added = n_prior * power / len(states)
        amplitude = (agreement + added) / (power + added) if power > 0 else 1.0
        return cls(dict(zip(names, weight_k.tolist(), strict=True)), float(np.clip(amplitude, 0, TOP_AMPLITUDE)))

    def shift_g(self, members: Mapping[str, Shift]) -> Shift:
        """Return the weighted mean of the members that there are."""
        there = {name: weight for name, weight in self.weights.items() if weight and name in members}
        total = sum(weight * np.asarray(members[name]) for name, weight in there.items())
        return np.asarray(self.amplitude * total / sum(there.values()))

    def answers(self, one: OutOfFold) -> bool:
        """Return whether a state has one of the members that count."""
        return any(weight and name in one.members for name, weight in self.weights.items())

    def residuals(self, states: Sequence[OutOfFold], interval: float = 0.9) -> Residuals | None:
        """Return how far this stack was from the states that were left out; None without any.

        The variance of a gene is max(Σ_q (r² − noise) / Q, 0), moderated by a prior that is proportional to the mean
        over genes with a similar predicted shift (Smyth 2004, with fixed degrees of freedom).
        """
        states = [one for one in states if self.answers(one)]
        if not states:
            return None
        predicted_qg = np.stack([self.shift_g(one.members) for one in states])
        true_qg, noise_qg = (
            np.stack([one.true_g for one in states]),
            np.stack([one.noise_g for one in states]),
        )
        square_qg = np.square(true_qg - predicted_qg)
        excess_g = (square_qg - noise_qg).mean(0)
        level_g = np.sqrt(np.square(predicted_qg).mean(0) + noise_qg.mean(0))
        df = PRIOR_DF + len(states)
        variance_g = _moderated(excess_g, level_g, len(states))
        target_g = np.median(np.stack([one.target_noise_g for one in states]), axis=0)
        if len(states) < LEAST_STATES:
            return Residuals(variance_g * (1 + 1 / len(states)), df, 1.0, target_g)
        ratio_qg = np.empty_like(square_qg)
        tiny = np.finfo(np.float64).tiny
        for q in range(len(states)):  # each state against the variance of the others, as a new state would be
            others = np.arange(len(states)) != q
            rest_g = (square_qg[others] - noise_qg[others]).mean(0)
            half_g = _half_width_g(_moderated(rest_g, level_g, len(states) - 1), noise_qg[q], df, interval)
            ratio_qg[q] = np.sqrt(square_qg[q]) / np.maximum(half_g, tiny)
        return Residuals(variance_g, df, float(np.quantile(ratio_qg, interval)), target_g)


def _half_width_g(variance_g: Shift, noise_g: Shift, df: float, interval: float) -> Shift:
    at = (1 + interval) / 2
    return np.asarray(np.sqrt(stdtrit(df, at) ** 2 * variance_g + ndtri(at) ** 2 * noise_g))


def _moderated(excess_g: Shift, level_g: Shift, n_states: int) -> Shift:
    """Return variances that are drawn towards the mean of genes at a similar level.

    That mean is of the differences as they are: without the negative ones, noise alone would look like variance.
    """
    level_g, gene_g = _by_level(excess_g, level_g).clip(min=0), excess_g.clip(min=0)
    return np.asarray((PRIOR_DF * level_g + n_states * gene_g) / (PRIOR_DF + n_states))


def _prior(names: Sequence[str]) -> tuple[NDArray[np.float64], float]:
    """Return the prior weights, and how many states they count as."""
    prior, n_states = PRIOR, PRIOR_STATES
    if "additive" in names:  # what other contexts did is no guide to a combination
        prior = PRIOR_OF_SUMS
    elif PRIOR_OF_DOSES.keys() <= set(names):  # nor to a dose between others
        prior, n_states = PRIOR_OF_DOSES, STATES_OF_DOSES
    elif "embedding ridge" in names and "mean shift" not in names:
        prior = PRIOR_OF_UNSEEN
    prior_k = np.array([prior.get(name, 0.0) for name in names])
    if not prior_k.any():
        first = next(name for name in (*LAST_RESORT, *names) if name in names)
        prior_k = np.array([float(name == first) for name in names])
    return np.asarray(prior_k / prior_k.sum()), n_states


def _simplex(
    gram_kk: NDArray[np.float64], product_k: NDArray[np.float64], prior_k: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    """Return min wᵀAw − 2bᵀw + λ|w − w₀|² over non-negative weights that sum to one."""
    matrix = gram_kk + ridge * np.eye(len(prior_k))
    target = product_k + ridge * prior_k
    heavy = 1e4 * np.trace(matrix) / len(prior_k)  # makes the sum one
    matrix, target = matrix + heavy, target + heavy
    root = np.linalg.cholesky(matrix)
    weight_k = nnls(root.T, np.linalg.solve(root, target))[0]
    return np.asarray(weight_k / weight_k.sum())


def _by_level(value_g: Shift, level_g: Shift, n_bins: int = 20) -> Shift:
    """Return the mean of genes with a similar level, interpolated between bins of equally many genes."""
    order = np.argsort(level_g, kind="stable")
    bins = np.array_split(order, min(n_bins, len(order)))
    return np.asarray(
        np.interp(level_g, [level_g[some].mean() for some in bins], [value_g[some].mean() for some in bins])
    )
