"""Weights of members: what holds for any states, and intervals that hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.responses.stack import LAST_RESORT, PRIOR, OutOfFold, Stack

NAMES = ("weighted shift", "ratio", "slope", "mean shift")
N_GENES = 400


def states(rng: np.random.Generator, n: int, errors: dict[str, float], noise: float = 0.0) -> list[OutOfFold]:
    """Return states whose members are the true shift plus errors of these standard deviations."""
    found = []
    for _ in range(n):
        true_g = rng.standard_normal(N_GENES)
        members = {name: true_g + sd * rng.standard_normal(N_GENES) for name, sd in errors.items()}
        measured_g = true_g + noise * rng.standard_normal(N_GENES)
        noise_g = np.full(N_GENES, noise**2)
        found.append(OutOfFold(members, measured_g, noise_g, noise_g))
    return found


@given(st.integers(0, 10**6), st.integers(0, 6), st.sets(st.sampled_from(sorted([*PRIOR, *LAST_RESORT])), min_size=1))
def test_weights_are_not_negative_and_sum_to_one(seed, n, names):
    rng = np.random.default_rng(seed)
    known = states(rng, n, {name: rng.gamma(1, 1) for name in names}, noise=rng.gamma(1, 1))
    stack = Stack.fit(known, sorted(names))
    assert min(stack.weights.values()) >= 0
    assert sum(stack.weights.values()) == pytest.approx(1)
    assert 0 <= stack.amplitude <= 1


@given(st.integers(0, 10**6), st.sampled_from([0.0, 1e-200, 1e-9, 1e9]))
def test_shifts_of_any_size_have_weights(seed, size):
    rng = np.random.default_rng(seed)
    members = {name: size * rng.standard_normal(5) for name in NAMES}
    stack = Stack.fit([OutOfFold(members, size * rng.standard_normal(5), np.zeros(5), np.zeros(5))], NAMES)
    assert sum(stack.weights.values()) == pytest.approx(1)
    assert np.isfinite(stack.shift_g(members)).all()


def test_without_states_the_weights_are_the_prior():
    stack = Stack.fit([], NAMES)
    total = sum(PRIOR.get(name, 0) for name in NAMES)
    assert stack.weights == pytest.approx({name: PRIOR.get(name, 0) / total for name in NAMES})
    assert stack.amplitude == 1
    assert Stack.fit([], ["no change", "mean shift"]).weights == {"no change": 0, "mean shift": 1}


def test_a_member_that_is_always_right_has_nearly_all_weight():
    rng = np.random.default_rng(0)
    errors = {"weighted shift": 1.0, "ratio": 0.0, "slope": 1.0, "mean shift": 1.0}
    few, some, many = (Stack.fit(states(rng, n, errors), NAMES).weights["ratio"] for n in (2, 40, 600))
    assert 1 / 3 < few < some < many
    assert many > 0.97


def test_predictions_that_are_too_large_are_made_smaller():
    rng = np.random.default_rng(0)
    known = [OutOfFold({"ratio": 2 * one.true_g}, one.true_g, one.noise_g, one.noise_g) for one in states(rng, 60, {})]
    assert Stack.fit(known, ["ratio"]).amplitude == pytest.approx(0.5, abs=0.05)
    small = [OutOfFold({"ratio": one.true_g / 2}, one.true_g, one.noise_g, one.noise_g) for one in known]
    assert Stack.fit(small, ["ratio"]).amplitude == 1


@pytest.mark.parametrize("n", [3, 10, 40])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_intervals_hold_their_share_of_new_states(n, noise):
    errors = {"weighted shift": 0.4, "ratio": 0.6, "slope": 0.8, "mean shift": 1.0}
    rng, inside = np.random.default_rng(n), []
    for _ in range(20):
        known = states(rng, n, errors, noise)
        stack = Stack.fit(known, NAMES)
        residuals = stack.residuals(known)
        assert residuals is not None
        for new in states(rng, 5, errors, noise):
            off_g = np.abs(new.true_g - stack.shift_g(new.members))
            inside.append((off_g <= residuals.half_width_g(new.noise_g, 0.9)).mean())
    assert 0.86 < np.mean(inside) < 0.94


@pytest.mark.parametrize("n", [2, 6])
def test_noise_alone_does_not_widen_intervals(n):
    """Predictions that are exact, of shifts that are observed with noise: the interval is that of the noise."""
    rng, inside = np.random.default_rng(n), []
    for _ in range(20):
        known = states(rng, n, {"ratio": 0.0}, noise=1.0)
        residuals = Stack({"ratio": 1.0}, 1.0).residuals(known)
        assert residuals is not None
        inside.append((np.abs(rng.standard_normal(N_GENES)) <= residuals.half_width_g(np.ones(N_GENES), 0.9)).mean())
    assert 0.88 < np.mean(inside) < 0.94


@given(st.integers(0, 10**6), st.integers(2, 7))
def test_a_dose_is_mostly_read_off_the_curve_of_the_others(seed, n):
    rng = np.random.default_rng(seed)
    names = ["model", "nearest dose", "line on log dose", "monotone curve"]
    known = states(rng, n, {name: rng.gamma(1, 1) + 0.1 for name in names})
    weights = Stack.fit(known, names).weights
    assert weights["line on log dose"] + weights["monotone curve"] > 0.7


def test_without_states_nothing_says_how_far_off_predictions_are():
    stack = Stack.fit([], NAMES)
    assert stack.residuals([]) is None
    assert stack.residuals(states(np.random.default_rng(0), 2, {"no change": 1.0})) is None, "no member that counts"
