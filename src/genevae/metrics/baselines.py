"""Predictions of a response without any model of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.response import Shift

__all__ = [
    "additive_shift",
    "linear_latent",
    "matching_mean",
    "mean_shift",
    "perturbed_mean",
    "similarity",
    "slope_shift",
    "weighted_shift",
]

Profiles = Mapping[str, Any]


def mean_shift(before: Profiles, after: Profiles) -> Shift:
    """Return the mean over contexts of their shifts: the baseline that every context responds alike.

    Parameters
    ----------
    before, after
        For each context (such as a cell type), its profile in either condition.
    """
    return _mean(np.asarray(after[name]) - np.asarray(before[name]) for name in before)


def similarity(control_mg: ArrayLike, wanted_g: ArrayLike, width: float) -> NDArray[np.float64]:
    """Return the weight of each context for another one, which sum to one: w_m ∝ exp(−d_m² / (width · mean d²)).

    Parameters
    ----------
    control_mg
        The control profile of each context.
    wanted_g
        That of the other one; d_m is the Euclidean distance between the two.
    width
        The smaller, the more the nearest contexts count.
    """
    square_m = np.square(np.asarray(control_mg, dtype=np.float64) - np.asarray(wanted_g)).sum(1)
    weight_m = np.exp(-(square_m - square_m.min()) / max(width * square_m.mean(), np.finfo(np.float64).tiny))
    return np.asarray(weight_m / weight_m.sum())


def weighted_shift(before: Profiles, after: Profiles, wanted_g: ArrayLike, width: float = 0.3) -> Shift:
    """Return the mean over contexts of their shifts, weighted by similarity: that similar contexts respond alike.

    Parameters
    ----------
    before, after
        For each context (such as a cell type), its profile in either condition.
    wanted_g
        The control profile of the context that is to be predicted.
    width
        As for :func:`similarity`.
    """
    control_mg, shift_mg = _ends(before, after)
    return np.asarray(similarity(control_mg, wanted_g, width) @ shift_mg)


def slope_shift(
    before: Profiles, after: Profiles, wanted_g: ArrayLike, width: float = 0.4, ridge: float = 0.1
) -> Shift:
    """Return shifts that depend on the control expression of their gene, by a weighted regression over contexts.

    With w the similarity of contexts, B their control profiles, D their shifts, and B̄, D̄ the weighted means: for each
    gene D̄ + b (wanted − B̄), where b = Σ w (B − B̄)(D − D̄) / (Σ w (B − B̄)² + ridge).

    Parameters
    ----------
    before, after, wanted_g, width
        As for :func:`weighted_shift`.
    ridge
        What keeps slopes small where contexts hardly differ.
    """
    control_mg, shift_mg = _ends(before, after)
    weight_m = similarity(control_mg, wanted_g, width)
    control_g, shift_g = weight_m @ control_mg, weight_m @ shift_mg
    off_mg = control_mg - control_g
    slope_g = weight_m @ (off_mg * (shift_mg - shift_g)) / (weight_m @ np.square(off_mg) + ridge)
    return np.asarray(shift_g + slope_g * (np.asarray(wanted_g) - control_g))


def perturbed_mean(profiles: Profiles) -> Shift:
    """Return the mean profile of all perturbations, each counting once: the baseline that all perturbations are one.

    Parameters
    ----------
    profiles
        The profile of each perturbed state that was seen in training.

    References
    ----------
    Viñas Torné et al., Nature Biotechnology (2025), "Systema".
    """
    return _mean(profiles.values())


def matching_mean(profiles: Profiles, matching: Sequence[str]) -> Shift:
    """Return the mean profile of those states that match the wanted one.

    For a combination A+B these are A and B; for a context in which a perturbation was never seen, the same perturbation
    in the other contexts.

    Parameters
    ----------
    profiles
        The profile of each perturbed state that was seen in training.
    matching
        The names of those that match.

    References
    ----------
    Viñas Torné et al., Nature Biotechnology (2025), "Systema".
    """
    return _mean(profiles[name] for name in matching)


def additive_shift(shifts: Mapping[str, Any], parts: Sequence[str]) -> Shift:
    """Return Σ over parts of their shifts: the baseline that the parts of a combination do not interact.

    Parameters
    ----------
    shifts
        The shift of each single perturbation from control.
    parts
        The perturbations of the combination.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders, Nature Methods 22:1657 (2025).
    """
    return np.asarray(np.sum([np.asarray(shifts[part], dtype=np.float64) for part in parts], axis=0))


def linear_latent(
    shift_mg: ArrayLike, feature_mf: ArrayLike, wanted_qf: ArrayLike, n_components: int = 10, ridge: float = 0.1
) -> NDArray[np.float64]:
    """Predict shifts that are linear in some features, within the directions in which the seen shifts vary.

    Y ≈ G W Pᵀ + b, where the columns of Y are the seen shifts, b is their mean, G the genes' scores on the principal
    components of Y − b, P the features of each shift less their mean, and
    W = (GᵀG + λI)⁻¹ Gᵀ (Y − b) P (PᵀP + λI)⁻¹. A wanted shift is G W p + b.

    The published form embeds a perturbation by its target gene's row of G; here any features serve, such as the
    control profile of the context on principal components.

    Parameters
    ----------
    shift_mg
        The shifts that were seen.
    feature_mf
        The features of each of them.
    wanted_qf
        The features of those that are to be predicted.
    n_components
        Principal components at most.
    ridge
        λ.

    Returns
    -------
    array
        The predicted shifts, q × g.

    References
    ----------
    Ahlmann-Eltze, Huber and Anders, Nature Methods 22:1657 (2025).
    """
    y_mg, p_mf = np.asarray(shift_mg, dtype=np.float64), np.asarray(feature_mf, dtype=np.float64)
    b_g, centre_f = y_mg.mean(0), p_mf.mean(0)
    y_mg, p_mf = y_mg - b_g, p_mf - centre_f
    _, scale_k, loading_kg = np.linalg.svd(y_mg, full_matrices=False)
    g_gk = (loading_kg * scale_k[:, None])[:n_components].T
    w_kf = _ridge(g_gk, ridge) @ g_gk.T @ y_mg.T @ p_mf @ _ridge(p_mf, ridge)
    return np.asarray((np.asarray(wanted_qf, dtype=np.float64) - centre_f) @ w_kf.T @ g_gk.T + b_g)


def _ends(before: Profiles, after: Profiles) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the control profiles of all contexts, and their shifts."""
    control_mg = np.stack([np.asarray(before[name], dtype=np.float64) for name in before])
    return control_mg, np.stack([np.asarray(after[name], dtype=np.float64) for name in before]) - control_mg


def _ridge(x_mf: NDArray[np.float64], ridge: float) -> Any:
    """Return (XᵀX + λI)⁻¹; the pseudo-inverse serves where λ is zero and directions do not vary."""
    return np.linalg.pinv(x_mf.T @ x_mf + ridge * np.eye(x_mf.shape[1]), hermitian=True)


def _mean(each: Any) -> Shift:
    return np.asarray(np.mean(np.stack([np.asarray(x, dtype=np.float64) for x in each]), axis=0))
