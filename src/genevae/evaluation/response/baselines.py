"""Predictions of a response from the training cells alone, without a model of cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.data.covariates import JOIN
from genevae.evaluation.response.states import State
from genevae.metrics.baselines import (
    additive_shift,
    linear_latent,
    matching_mean,
    mean_shift,
    perturbed_mean,
    slope_shift,
    weighted_shift,
)
from genevae.metrics.principal import Principal

__all__ = ["MAIN_BASELINES", "NO_CHANGE", "SAME_STATE", "baseline_shifts"]

NO_CHANGE = "no change"
MEAN_SHIFT = "mean shift"
SAME_STATE = "training cells of the same state"
MAIN_BASELINES = (MEAN_SHIFT, "additive", "perturbed mean", NO_CHANGE)
"""The main baseline of a state is the first of these that it has."""
N_FEATURES = 10
LEAST_PAIRS = 3
"""Seen shifts at least, for a linear model of them."""

Profile = NDArray[np.float64]
Profiles = Mapping[State, Profile]


def baseline_shifts(seen: Profiles, control: str, wanted: State, reference_g: Profile) -> dict[str, Profile]:
    """Return the shift that each baseline predicts, of those that the training cells allow.

    Parameters
    ----------
    seen
        The profile of every state that was trained on.
    control
        The level from which shifts are measured.
    wanted
        The state. Its own training cells, where there are any, are used by the baseline named after them alone.
    reference_g
        The control profile of its context.
    """
    context, level = wanted
    others = {state: x for state, x in seen.items() if state != wanted and state[1] != control}
    pairs = {state: x - seen[state[0], control] for state, x in others.items() if (state[0], control) in seen}
    found = {NO_CHANGE: np.zeros_like(reference_g)}
    alike = [state for state in pairs if state[1] == level]
    if alike:
        before, after = {str(s): seen[s[0], control] for s in alike}, {str(s): seen[s] for s in alike}
        found[MEAN_SHIFT] = mean_shift(before, after)
        if len(alike) > 1:
            found["weighted shift"] = weighted_shift(before, after, reference_g)
            found["slope"] = slope_shift(before, after, reference_g)
    parts = [(context, part) for part in level.split(JOIN)]
    is_sum = len(parts) > 1 and all(part in pairs for part in parts)
    if is_sum:
        found["additive"] = additive_shift(_named(pairs), [str(part) for part in parts])
    found |= _means(others, parts if is_sum else [s for s in others if s[1] == level], context, reference_g)
    found |= _linear(pairs, seen, control, wanted, reference_g)
    if wanted in seen:
        found[SAME_STATE] = seen[wanted] - reference_g
    return found


def _means(others: Profiles, matching: list[State], context: str, reference_g: Profile) -> dict[str, Profile]:
    near = {state: x for state, x in others.items() if state[0] == context} or others
    same = sorted(near) == sorted(matching)  # where there is but one perturbation
    found = {"perturbed mean": perturbed_mean(_named(near)) - reference_g} if near and not same else {}
    if matching:
        found["matching mean"] = matching_mean(_named(others), [str(state) for state in matching]) - reference_g
    return found


def _linear(pairs: Profiles, seen: Profiles, control: str, wanted: State, reference_g: Profile) -> dict[str, Profile]:
    """Predict from the control profile of the context, on principal components, and the parts of the level."""
    levels = sorted({part for _, level in pairs for part in level.split(JOIN)})
    if len(pairs) < LEAST_PAIRS or not set(wanted[1].split(JOIN)) <= set(levels):
        return {}
    start_mg = np.stack([seen[state[0], control] for state in pairs])
    space = Principal.fit(start_mg, N_FEATURES)
    feature_mf = np.hstack([space.embed(start_mg), [_parts(state, levels) for state in pairs]])
    if not feature_mf.std(0).any():
        return {}
    wanted_1f = np.hstack([space.embed(reference_g[None]), [_parts(wanted, levels)]])
    return {"linear latent": linear_latent(np.stack(list(pairs.values())), feature_mf, wanted_1f)[0]}


def _parts(state: State, levels: list[str]) -> list[float]:
    present = state[1].split(JOIN)
    return [float(level in present) for level in levels]


def _named(profiles: Profiles) -> dict[str, Any]:
    return {str(state): x for state, x in profiles.items()}
