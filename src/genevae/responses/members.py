"""The members of an answer: every simple method that the training cells allow for one state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.metrics.principal import Principal
from genevae.responses.simple import (
    additive_shift,
    curve_shift,
    embedding_neighbours,
    embedding_ridge,
    line_shift,
    linear_latent,
    matching_mean,
    mean_shift,
    nearest_shift,
    perturbed_mean,
    ratio_shift,
    saturation_shift,
    slope_shift,
    weighted_shift,
)

__all__ = ["MEAN_SHIFT", "NEIGHBOURS", "NO_CHANGE", "PARTS_JOIN", "RIDGE", "State", "dose_members", "members"]

NO_CHANGE, MEAN_SHIFT = "no change", "mean shift"
RIDGE, NEIGHBOURS = "embedding ridge", "embedding neighbours"
PARTS_JOIN = "+"
"""Joins the parts of a combination, such as A+B."""
N_FEATURES = 10
LEAST_PAIRS, MAX_PAIRS = 3, 100
"""Seen shifts for a linear model of them, at least and at most."""

MAX_LEVELS = 300
"""Levels that one is predicted from by its vector, at most: those whose vectors are nearest."""

State = tuple[str, str]
"""A context, such as a cell type, empty where there is none; and a level of the perturbation."""
Profile = NDArray[np.float64]
Profiles = Mapping[State, Profile]


def members(
    seen: Profiles, source: str, wanted: State, reference_g: Profile, vectors: Mapping[str, Any] | None = None
) -> dict[str, Profile]:
    """Return the shift that each simple method predicts for a state, of those that the training cells allow.

    Parameters
    ----------
    seen
        The profile of every state that was trained on. That of the wanted state is not used.
    source
        The level from which shifts are measured, such as the control.
    wanted
        The state.
    reference_g
        The profile of its context in the source level.
    vectors
        The vector of each level, where levels have some.
    """
    context, level = wanted
    others = {state: x for state, x in seen.items() if state != wanted and state[1] != source}
    pairs = {state: x - seen[state[0], source] for state, x in others.items() if (state[0], source) in seen}
    found = {NO_CHANGE: np.zeros_like(reference_g)}
    alike = [state for state in pairs if state[1] == level]
    if alike:
        before, after = {str(s): seen[s[0], source] for s in alike}, {str(s): seen[s] for s in alike}
        found[MEAN_SHIFT] = mean_shift(before, after)
        found["weighted shift"] = weighted_shift(before, after, reference_g)
        found["slope"] = slope_shift(before, after, reference_g)
        found["ratio"] = ratio_shift(before, after, reference_g)
        found["saturation"] = saturation_shift(before, after, reference_g)
    parts = [(context, part) for part in level.split(PARTS_JOIN)]
    is_sum = len(parts) > 1 and all(part in pairs for part in parts)
    if is_sum:
        found["additive"] = additive_shift(_named(pairs), [str(part) for part in parts])
    found |= _means(others, parts if is_sum else [s for s in others if s[1] == level], context, reference_g)
    found |= _linear(pairs, seen, source, wanted, reference_g)
    if vectors:
        found |= _by_vector(pairs, wanted, vectors)
    return found


def _by_vector(pairs: Profiles, wanted: State, vectors: Mapping[str, Any]) -> dict[str, Profile]:
    """Predict from the vector of the level, as if the level itself had not been seen, in any context."""
    context, level = wanted
    others = {state: x for state, x in pairs.items() if state[1] != level and state[1] in vectors}
    others = {state: x for state, x in others.items() if state[0] == context} or others
    levels = sorted({state[1] for state in others})
    if level not in vectors or len(levels) < LEAST_PAIRS:
        return {}
    if len(levels) > MAX_LEVELS:
        off = [np.square(np.subtract(vectors[one], vectors[level])).sum() for one in levels]
        levels = [levels[at] for at in np.argsort(off, kind="stable")[:MAX_LEVELS]]
    shift_mg = np.stack([np.mean([x for state, x in others.items() if state[1] == one], axis=0) for one in levels])
    vector_mf = np.array([vectors[one] for one in levels], dtype=np.float64)
    return {
        RIDGE: embedding_ridge(shift_mg, vector_mf, vectors[level]),
        NEIGHBOURS: embedding_neighbours(shift_mg, vector_mf, vectors[level]),
    }


def dose_members(
    dose_d: Profile, shift_dg: Profile, wanted: float, n_d: Profile | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return the shift that each simple method predicts for a dose.

    Parameters
    ----------
    dose_d, shift_dg
        The other doses, ascending, and their shifts from the lowest.
    wanted
        The dose.
    n_d
        The number of samples of each dose.
    """
    return {
        NO_CHANGE: np.zeros(shift_dg.shape[1]),
        "nearest dose": nearest_shift(dose_d, shift_dg, wanted),
        "line on log dose": line_shift(dose_d, shift_dg, wanted),
        "monotone curve": curve_shift(dose_d, shift_dg, wanted, n_d),
    }


def _means(others: Profiles, matching: list[State], context: str, reference_g: Profile) -> dict[str, Profile]:
    near = {state: x for state, x in others.items() if state[0] == context} or others
    same = sorted(near) == sorted(matching)  # where there is but one perturbation
    found = {"perturbed mean": perturbed_mean(_named(near)) - reference_g} if near and not same else {}
    if matching:
        found["matching mean"] = matching_mean(_named(others), [str(state) for state in matching]) - reference_g
    return found


def _linear(pairs: Profiles, seen: Profiles, source: str, wanted: State, reference_g: Profile) -> dict[str, Profile]:
    """Predict from the source profile of the context, on principal components, and the parts of the level."""
    if len(pairs) > MAX_PAIRS:
        related = [state for state in pairs if state[0] == wanted[0] or state[1] == wanted[1]]
        pairs = {state: pairs[state] for state in [*related, *(s for s in pairs if s not in related)][:MAX_PAIRS]}
    levels = sorted({part for _, level in pairs for part in level.split(PARTS_JOIN)})
    if len(pairs) < LEAST_PAIRS or not set(wanted[1].split(PARTS_JOIN)) <= set(levels):
        return {}
    start_mg = np.stack([seen[state[0], source] for state in pairs])
    feature_mf = np.array([_parts(state, levels) for state in pairs])
    wanted_1f = np.array([_parts(wanted, levels)])
    if np.ptp(start_mg, axis=0).any():
        space = Principal.fit(start_mg, N_FEATURES)
        feature_mf = np.hstack([space.embed(start_mg), feature_mf])
        wanted_1f = np.hstack([space.embed(reference_g[None]), wanted_1f])
    if not feature_mf.std(0).any():
        return {}
    return {"linear latent": linear_latent(np.stack(list(pairs.values())), feature_mf, wanted_1f)[0]}


def _parts(state: State, levels: list[str]) -> list[float]:
    present = state[1].split(PARTS_JOIN)
    return [float(level in present) for level in levels]


def _named(profiles: Profiles) -> dict[str, Any]:
    return {str(state): x for state, x in profiles.items()}
