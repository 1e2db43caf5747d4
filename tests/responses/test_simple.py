"""Simple predictions of a response: laws that their formulas promise, and scikit-learn as an oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_score

from genevae.responses.simple import (
    RIDGES,
    curve_shift,
    embedding_neighbours,
    embedding_ridge,
    line_shift,
    nearest_shift,
    ratio_shift,
    saturation_shift,
    slope_shift,
    weighted_shift,
)

DOSES = np.array([0.1, 1.0, 10.0, 100.0])
BY_CONTEXT = (weighted_shift, slope_shift, ratio_shift, saturation_shift)
BY_DOSE = (nearest_shift, line_shift, curve_shift)
seeds = st.integers(0, 10**6)


def contexts(rng: np.random.Generator, n: int = 4, g: int = 6) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    before = {f"c{i}": rng.gamma(2, 1, g) for i in range(n)}
    return before, {name: x + rng.normal(0, 0.5, g) for name, x in before.items()}


@given(seeds)
def test_the_same_ratio_in_all_contexts_is_found_exactly(seed):
    rng = np.random.default_rng(seed)
    before, _ = contexts(rng)
    ratio_g = rng.lognormal(0, 1, 6)
    after = {name: (x + 0.1) * ratio_g - 0.1 for name, x in before.items()}
    low, high = (end(list(before.values()), axis=0) for end in (np.min, np.max))
    low = np.maximum(low, 0.1 / ratio_g - 0.1)
    wanted_g = low + rng.uniform(size=6) * np.maximum(high - low, 0)
    if min(x.min() for x in after.values()) >= 0:  # below zero there is no ratio
        np.testing.assert_allclose(ratio_shift(before, after, wanted_g), (wanted_g + 0.1) * (ratio_g - 1))


@given(seeds, st.floats(0, 20))
def test_a_ratio_stays_within_what_was_seen(seed, scale):
    rng = np.random.default_rng(seed)
    before, after = contexts(rng)
    wanted_g = scale * rng.gamma(2, 1, 6)
    reached_g = wanted_g + ratio_shift(before, after, wanted_g)
    seen_cg = np.stack(list(after.values()))
    assert (reached_g >= seen_cg.min(0) - 1e-9).all()
    assert (reached_g <= seen_cg.max(0) + 1e-9).all()


@given(seeds)
def test_saturation_stays_between_the_limits_and_keeps_its_direction(seed):
    rng = np.random.default_rng(seed)
    before, after = contexts(rng)
    wanted_g = rng.gamma(2, 1, 6)
    shift_g = saturation_shift(before, after, wanted_g)
    both = np.stack([*before.values(), *after.values(), wanted_g])
    room_g = 0.1 * np.ptp(both, axis=0) + 1e-3
    assert (wanted_g + shift_g <= both.max(0) + room_g + 1e-9).all()
    assert (wanted_g + shift_g >= both.min(0) - room_g - 1e-9).all()
    rising = {name: x + abs(after[name] - x) for name, x in before.items()}
    assert (saturation_shift(before, rising, wanted_g) >= 0).all()


@pytest.mark.parametrize("method", BY_CONTEXT)
def test_one_context_is_answered_as_itself(method):
    before, after = contexts(np.random.default_rng(0), n=1)
    np.testing.assert_allclose(method(before, after, before["c0"]), after["c0"] - before["c0"], atol=1e-12)


@pytest.mark.parametrize("method", BY_CONTEXT)
def test_no_change_anywhere_is_no_change(method):
    before, _ = contexts(np.random.default_rng(0))
    wanted_g = np.mean(list(before.values()), axis=0)
    np.testing.assert_allclose(method(before, before, wanted_g), 0, atol=1e-12)


@pytest.mark.parametrize("method", BY_CONTEXT)
@given(seed=seeds)
def test_z_scores_give_finite_shifts(method, seed):
    rng = np.random.default_rng(seed)
    before = {f"c{i}": rng.normal(0, 3, 6) for i in range(3)}
    after = {name: rng.normal(0, 3, 6) for name in before}
    assert np.isfinite(method(before, after, rng.normal(0, 3, 6))).all()


@given(seeds, st.floats(0.1, 100))
def test_a_line_in_log_dose_is_found_exactly(seed, wanted):
    slope_g, start_g = np.random.default_rng(seed).normal(size=(2, 5))
    shift_dg = start_g + np.log(DOSES)[:, None] * slope_g
    expected = start_g + np.log(wanted) * slope_g
    np.testing.assert_allclose(line_shift(DOSES, shift_dg, wanted), expected, atol=1e-9)
    np.testing.assert_allclose(curve_shift(DOSES, shift_dg, wanted), expected, atol=1e-9)


@given(seeds, st.integers(0, 3))
def test_at_a_seen_dose_the_shift_is_the_seen_one(seed, at):
    shift_dg = np.sort(np.random.default_rng(seed).normal(size=(4, 5)), axis=0)
    for method in BY_DOSE:
        np.testing.assert_allclose(method(DOSES, shift_dg, DOSES[at]), shift_dg[at], atol=1e-9)


@pytest.mark.parametrize("method", BY_DOSE)
@pytest.mark.parametrize(("wanted", "at"), [(1e-9, 0), (0.0, 0), (1e9, -1)])
def test_beyond_the_doses_the_nearest_counts(method, wanted, at):
    shift_dg = np.sort(np.random.default_rng(0).normal(size=(4, 5)), axis=0)
    np.testing.assert_allclose(method(DOSES, shift_dg, wanted), shift_dg[at])


@pytest.mark.parametrize("method", BY_DOSE)
def test_dose_zero_is_one_step_below_the_lowest(method):
    doses = np.array([0.0, 1.0, 10.0])
    shift_dg = np.array([[0.0], [1.0], [2.0]])
    expected = 0.0 if method is nearest_shift else 0.4
    np.testing.assert_allclose(method(doses, shift_dg, 10**-0.6), [expected], atol=1e-9)
    np.testing.assert_allclose(method(doses, shift_dg, 0.0), [0.0])
    np.testing.assert_allclose(method(doses[:1], shift_dg[:1], 5.0), [0.0])


@given(seeds)
def test_the_curve_is_the_better_isotonic_regression(seed):
    rng = np.random.default_rng(seed)
    y_dg, weight_d = rng.normal(size=(4, 5)), rng.uniform(0.5, 5, 4)
    found_dg = np.stack([curve_shift(DOSES, y_dg, dose, weight_d) for dose in DOSES])
    for g, y_d in enumerate(y_dg.T):
        fits = [IsotonicRegression(increasing=up).fit(DOSES, y_d, weight_d).predict(DOSES) for up in (True, False)]
        best = min(fits, key=lambda fit_d: weight_d @ np.square(fit_d - y_d))
        np.testing.assert_allclose(found_dg[:, g], best, atol=1e-9)


@settings(max_examples=4)
@given(seeds)
def test_the_ridge_on_vectors_is_that_of_scikit_learn_with_the_best_penalty_left_out_in_turn(seed):
    rng = np.random.default_rng(seed)
    vector_mf = rng.normal(size=(7, 4))
    shift_mg = vector_mf @ rng.normal(size=(4, 5)) + rng.normal(size=(7, 5))
    centred = vector_mf - vector_mf.mean(0)
    scale = np.square(centred).sum() / len(centred)
    models = [Ridge(ridge * scale) for ridge in RIDGES[::3]]
    errors = [
        -cross_val_score(m, vector_mf, shift_mg, cv=LeaveOneOut(), scoring="neg_mean_squared_error") for m in models
    ]
    wanted = rng.normal(size=4)
    found = embedding_ridge(shift_mg, vector_mf, wanted, RIDGES[::3])
    # left-out penalties scale with the vectors that are left, which differ a little: one of the two best
    best = np.argsort([each.mean() for each in errors])[:2]
    fitted = [models[at].fit(vector_mf, shift_mg).predict(wanted[None])[0] for at in best]
    assert min(np.abs(found - each).max() for each in fitted) < 1e-8


@given(seeds)
def test_the_same_vector_has_the_same_shift_and_vectors_without_differences_the_mean(seed):
    rng = np.random.default_rng(seed)
    vector_mf, shift_mg = 5 * rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
    np.testing.assert_allclose(embedding_neighbours(shift_mg, vector_mf, vector_mf[2], 1e-6), shift_mg[2], atol=1e-9)
    same = np.ones((6, 3))
    for predict in (embedding_neighbours, embedding_ridge):
        np.testing.assert_allclose(predict(shift_mg, same, same[0]), shift_mg.mean(0), atol=1e-9)
