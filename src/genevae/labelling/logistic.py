"""Multinomial logistic regression, and the weights of classifiers in a product of experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Logistic", "combined", "log_softmax", "member_weights"]

Numbers = NDArray[np.float64]
ABSENT = -100.0
"""The intercept of a category without cells."""


def log_softmax(score_nc: Numbers) -> Numbers:
    """Return log-probabilities that are proportional to exp(score)."""
    score_nc = score_nc - score_nc.max(1, keepdims=True)
    return np.asarray(score_nc - np.log(np.exp(score_nc).sum(1, keepdims=True)))


@dataclass(frozen=True, eq=False)
class Logistic:
    """p(y | z) = softmax(z W + b).

    Parameters
    ----------
    weight_kc, intercept_c
        W and b.
    """

    weight_kc: Numbers
    intercept_c: Numbers

    @classmethod
    def fit(cls, z_nk: Numbers, code_n: NDArray[np.int64], n_categories: int, penalty: float) -> Self:
        """Minimise −Σ_n log p(y_n | z_n) + penalty/2 · |W|², with W in units of the standard deviation of each column.

        Parameters
        ----------
        z_nk
            Coordinates.
        code_n
            The category of each cell. Categories without cells have probability zero.
        n_categories
            How many there are.
        penalty
            Strength of the ridge.
        """
        seen, code_n = np.unique(code_n, return_inverse=True)
        mean_k, scale_k = z_nk.mean(0), np.maximum(z_nk.std(0), 1e-9)
        unit_nk, truth_nc = (z_nk - mean_k) / scale_k, np.eye(len(seen))[code_n]
        shape = (z_nk.shape[1] + 1, len(seen))

        def loss(flat: Numbers) -> tuple[float, Numbers]:
            weight, intercept = flat.reshape(shape)[:-1], flat.reshape(shape)[-1]
            log_p_nc = log_softmax(unit_nk @ weight + intercept)
            error_nc = np.exp(log_p_nc) - truth_nc
            gradient = np.vstack([unit_nk.T @ error_nc + penalty * weight, error_nc.sum(0)])
            return -float((log_p_nc * truth_nc).sum()) + penalty / 2 * float(np.square(weight).sum()), gradient.ravel()

        start = np.zeros(shape)
        start[-1] = np.log(truth_nc.mean(0))
        found = _minimum(loss, start.ravel()).reshape(shape)
        weight_kc, intercept_c = np.zeros((shape[0] - 1, n_categories)), np.full(n_categories, ABSENT)
        weight_kc[:, seen] = found[:-1] / scale_k[:, None]
        intercept_c[seen] = found[-1] - mean_k @ weight_kc[:, seen]
        return cls(weight_kc, intercept_c)

    def log_probability_nc(self, z_nk: Numbers) -> Numbers:
        """Return log p(y | z)."""
        return log_softmax(z_nk @ self.weight_kc + self.intercept_c)


def combined(log_p: Sequence[Numbers], weight_m: Numbers) -> Numbers:
    """Return log p(y) of a product of experts, p ∝ Π_m p_m^{w_m}."""
    return log_softmax(np.tensordot(weight_m, np.stack(log_p), 1))


def member_weights(log_p: Sequence[Numbers], code_n: NDArray[np.int64], prior_m: Numbers, strength: float) -> Numbers:
    """Return the weights w ≥ 0 of a product of experts that minimise −Σ_n log p(y_n) + strength · |w − prior|².

    Their sum is an inverse temperature.

    Parameters
    ----------
    log_p
        Log-probabilities of each member, for cells that it was not fitted to.
    code_n
        The category of each cell.
    prior_m
        The weights without any cells.
    strength
        Of the pull towards them.

    References
    ----------
    Hinton, Neural Computation 14:1771 (2002), products of experts; Wolpert, Neural Networks 5:241 (1992), stacking.
    """
    log_p_mnc = np.stack(log_p)
    true_mn = np.take_along_axis(log_p_mnc, code_n[None, :, None], 2)[..., 0]

    def loss(weight_m: Numbers) -> tuple[float, Numbers]:
        log_q_nc = combined(log_p, weight_m)
        gradient = np.einsum("nc,mnc->m", np.exp(log_q_nc), log_p_mnc) - true_mn.sum(1)
        value = -float(np.take_along_axis(log_q_nc, code_n[:, None], 1).sum())
        pull_m = weight_m - prior_m
        return value + strength * float(pull_m @ pull_m), gradient + 2 * strength * pull_m

    return _minimum(loss, prior_m, bounds=[(0, None)] * len(prior_m))


def _minimum(loss: Callable[[Numbers], tuple[float, Numbers]], start: Numbers, bounds: Any = None) -> Numbers:
    from scipy.optimize import minimize

    options = {"maxiter": 500, "ftol": 1e-10, "gtol": 1e-6 * max(1.0, abs(loss(start)[0]))}
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x)
