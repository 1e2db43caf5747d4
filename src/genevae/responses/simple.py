"""Simple predictions of a response, from the profiles of other states alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.response import Shift

__all__ = [
    "additive_shift",
    "curve_shift",
    "embedding_neighbours",
    "embedding_ridge",
    "line_shift",
    "linear_latent",
    "matching_mean",
    "mean_shift",
    "nearest_shift",
    "perturbed_mean",
    "ratio_shift",
    "saturation_shift",
    "similarity",
    "slope_shift",
    "weighted_shift",
]

Profiles = Mapping[str, Any]
RIDGES = tuple(np.logspace(-2, 3, 16).tolist())
"""Values of λ to choose from, where the vectors have a mean square of one."""


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


def ratio_shift(
    before: Profiles, after: Profiles, wanted_g: ArrayLike, width: float = 0.4, pseudocount: float = 0.1
) -> Shift:
    """Return shifts at the same ratio of expression as in other contexts, within the range that was seen there.

    With w the similarity of contexts: (wanted + ε) exp(Σ w log((after + ε) / (before + ε))) − ε, limited to the lowest
    and highest value of the gene in the same condition of the other contexts, less wanted.

    Parameters
    ----------
    before, after, wanted_g, width
        As for :func:`weighted_shift`.
    pseudocount
        ε.
    """
    control_mg, shift_mg = _ends(before, after)
    wanted, after_mg = np.asarray(wanted_g, dtype=np.float64), control_mg + shift_mg
    low = min(control_mg.min(), after_mg.min(), wanted.min(), 0.0)  # values below zero, such as z-scores, have no ratio
    log_mg = np.log((after_mg - low + pseudocount) / (control_mg - low + pseudocount))
    log_g = similarity(control_mg, wanted, width) @ log_mg
    reached_g = (wanted - low + pseudocount) * np.exp(log_g) - pseudocount + low
    return np.asarray(np.clip(reached_g, after_mg.min(0), after_mg.max(0)) - wanted)


def saturation_shift(
    before: Profiles, after: Profiles, wanted_g: ArrayLike, width: float = 0.4, headroom: float = 0.1
) -> Shift:
    """Return shifts that go the same share of the way to a gene's limit as in other contexts.

    The upper limit of a gene is its highest value in any context and condition, plus ``headroom`` of its range; the
    lower one is its lowest value, less the same. With w the similarity of contexts, a gene rises by
    Σ w (after − before) / (upper − before) of what is left to the upper limit, over the contexts in which it rises, and
    falls likewise towards the lower limit, over those in which it falls. So it never leaves its limits.

    Parameters
    ----------
    before, after, wanted_g, width
        As for :func:`weighted_shift`.
    headroom
        How far the limits are beyond what was seen, as a share of the gene's range.
    """
    control_mg, shift_mg = _ends(before, after)
    wanted = np.asarray(wanted_g, dtype=np.float64)
    both = np.concatenate([control_mg, control_mg + shift_mg, wanted[None]])
    room_g = headroom * np.ptp(both, axis=0) + 1e-3
    upper_g, lower_g = both.max(0) + room_g, both.min(0) - room_g
    weight_m = similarity(control_mg, wanted, width)
    up_g = weight_m @ (shift_mg.clip(min=0) / (upper_g - control_mg))
    down_g = weight_m @ (shift_mg.clip(max=0) / (control_mg - lower_g))
    return np.asarray(up_g * (upper_g - wanted) + down_g * (wanted - lower_g))


def line_shift(dose_d: ArrayLike, shift_dg: ArrayLike, wanted: float) -> Shift:
    """Return a dose's shift by a line in log(dose) between its neighbours; beyond the doses, that of the nearest.

    Parameters
    ----------
    dose_d
        Doses that were seen, ascending; the first may be zero, whose place is one step below the lowest other dose.
    shift_dg
        The shift at each of them.
    wanted
        The dose that is to be predicted.
    """
    place_d, place = _places(dose_d, wanted)
    shift = np.asarray(shift_dg, dtype=np.float64)
    after = int(np.clip(np.searchsorted(place_d, place), 1, len(place_d) - 1)) if len(place_d) > 1 else 0
    if not after:
        return np.asarray(shift[0])
    share = np.clip((place - place_d[after - 1]) / (place_d[after] - place_d[after - 1]), 0, 1)
    return np.asarray((1 - share) * shift[after - 1] + share * shift[after])


def nearest_shift(dose_d: ArrayLike, shift_dg: ArrayLike, wanted: float) -> Shift:
    """Return the shift of the nearest dose in log(dose); parameters as for :func:`line_shift`."""
    place_d, place = _places(dose_d, wanted)
    return np.asarray(np.asarray(shift_dg, dtype=np.float64)[int(np.abs(place_d - place).argmin())])


def curve_shift(dose_d: ArrayLike, shift_dg: ArrayLike, wanted: float, n_samples_d: ArrayLike | None = None) -> Shift:
    """Return a dose's shift by a line in log(dose) between the points of each gene's best monotone curve.

    The curve is the isotonic regression of the shifts on the dose, rising or falling, whichever fits the gene better.

    Parameters
    ----------
    dose_d, shift_dg, wanted
        As for :func:`line_shift`.
    n_samples_d
        The weight of each dose.
    """
    shift = np.asarray(shift_dg, dtype=np.float64)
    weight_d = np.ones(len(shift)) if n_samples_d is None else np.asarray(n_samples_d, dtype=np.float64)
    rising, falling = _isotonic(shift, weight_d), -_isotonic(-shift, weight_d)
    better_g = weight_d @ np.square(rising - shift) <= weight_d @ np.square(falling - shift)
    return line_shift(dose_d, np.where(better_g, rising, falling), wanted)


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


def embedding_ridge(
    shift_mg: ArrayLike, vector_mf: ArrayLike, wanted_f: ArrayLike, ridges: Sequence[float] = RIDGES
) -> Shift:
    """Return a shift that is linear in the vector of the perturbation: y = b + Y k (K + λ I)⁻¹.

    b is the mean of the seen shifts, Y the shifts less b, K the products of the vectors less their mean, divided by
    their mean square, and k those with the wanted one. λ is the one with the smallest error when each seen
    perturbation is left out; for large λ the shift is b, as if all perturbations did the same.

    Parameters
    ----------
    shift_mg, vector_mf
        The shift of each seen perturbation, and its vector.
    wanted_f
        The vector of the one that is to be predicted.
    ridges
        Values of λ to choose from.

    References
    ----------
    Hastie, Tibshirani and Friedman, *The Elements of Statistical Learning*, 2nd ed. (2009), 3.4 and 7.10.
    """
    y_mg, v_mf = np.asarray(shift_mg, dtype=np.float64), np.asarray(vector_mf, dtype=np.float64)
    b_g, centre_f, n = y_mg.mean(0), v_mf.mean(0), len(v_mf)
    y_mg, v_mf = y_mg - b_g, v_mf - centre_f
    gram_mm = v_mf @ v_mf.T
    scale = max(np.trace(gram_mm) / n, np.finfo(np.float64).tiny)
    gram_mm /= scale
    wanted_m = v_mf @ (np.asarray(wanted_f, dtype=np.float64) - centre_f) / scale
    value_m, axis_mm = np.linalg.eigh(gram_mm)
    turned_mg = axis_mm.T @ y_mg
    errors = []
    for ridge in ridges:
        kept_m = value_m.clip(min=0) / (value_m.clip(min=0) + ridge)
        leverage_m = np.square(axis_mm) @ kept_m + 1 / n
        left_mg = (y_mg - axis_mm @ (kept_m[:, None] * turned_mg)) / (1 - leverage_m).clip(min=1e-6)[:, None]
        errors.append(np.square(left_mg).mean())
    best = ridges[int(np.argmin(errors))]
    return np.asarray(b_g + (axis_mm.T @ wanted_m / (value_m.clip(min=0) + best)) @ turned_mg)


def embedding_neighbours(shift_mg: ArrayLike, vector_mf: ArrayLike, wanted_f: ArrayLike, width: float = 0.3) -> Shift:
    """Return the mean of the seen shifts, weighted by the similarity of the vectors of their perturbations.

    Parameters
    ----------
    shift_mg, vector_mf, wanted_f
        As for :func:`embedding_ridge`.
    width
        As for :func:`similarity`.
    """
    return np.asarray(similarity(vector_mf, wanted_f, width) @ np.asarray(shift_mg, dtype=np.float64))


def _ends(before: Profiles, after: Profiles) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the control profiles of all contexts, and their shifts."""
    control_mg = np.stack([np.asarray(before[name], dtype=np.float64) for name in before])
    return control_mg, np.stack([np.asarray(after[name], dtype=np.float64) for name in before]) - control_mg


def _places(dose_d: ArrayLike, wanted: float) -> tuple[NDArray[np.float64], float]:
    """Return log(dose), where dose zero is one step below the lowest other dose."""
    dose = np.asarray(dose_d, dtype=np.float64)
    positive = np.log(dose[dose > 0])
    step = np.diff(positive).mean() if len(positive) > 1 else 1.0
    lowest = (positive.min() if len(positive) else 0.0) - step
    place_d = np.full(len(dose), lowest)
    place_d[dose > 0] = positive
    return place_d, max(lowest, float(np.log(wanted))) if wanted > 0 else float(lowest)


def _isotonic(y_dg: NDArray[np.float64], weight_d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the isotonic regression of each column: max over starts of the min over ends of weighted means."""
    n = len(y_dg)
    sum_dg = np.concatenate([np.zeros((1, y_dg.shape[1])), np.cumsum(weight_d[:, None] * y_dg, axis=0)])
    weight = np.concatenate([[0.0], np.cumsum(weight_d)])
    fitted = np.full(y_dg.shape, -np.inf)
    for start in range(n):
        mean_eg = (sum_dg[start + 1 :] - sum_dg[start]) / (weight[start + 1 :] - weight[start])[:, None]
        lowest_eg = np.minimum.accumulate(mean_eg[::-1], axis=0)[::-1]
        fitted[start:] = np.maximum(fitted[start:], lowest_eg)
    return fitted


def _ridge(x_mf: NDArray[np.float64], ridge: float) -> Any:
    """Return (XᵀX + λI)⁻¹; the pseudo-inverse serves where λ is zero and directions do not vary."""
    return np.linalg.pinv(x_mf.T @ x_mf + ridge * np.eye(x_mf.shape[1]), hermitian=True)


def _mean(each: Any) -> Shift:
    return np.asarray(np.mean(np.stack([np.asarray(x, dtype=np.float64) for x in each]), axis=0))
