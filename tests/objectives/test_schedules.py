"""Schedules: a weight for every step, at its target when training ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.objectives.schedules import CURVES, Constant, Cyclic, Ramp

TARGETS = st.floats(0.0, 100.0)
SHAPES = st.sampled_from(sorted(CURVES))
RISING = st.one_of(st.builds(Constant, TARGETS), st.builds(Ramp, TARGETS, st.floats(0.0, 1.0), SHAPES))
CYCLES = st.builds(Cyclic, TARGETS, st.integers(1, 12), st.floats(0.5, 1.0), st.floats(0.0, 1.0), SHAPES)
SCHEDULES = st.one_of(RISING, CYCLES)


@given(SCHEDULES, st.integers(1, 100_000))
def test_every_schedule_ends_at_its_target_for_any_number_of_steps(schedule, n_steps):
    assert schedule(n_steps - 1, n_steps) == schedule.target
    assert schedule(n_steps, n_steps) == schedule.target


@given(RISING, st.integers(1, 60))
def test_every_ramp_rises_and_stays_within_zero_and_its_target(schedule, n_steps):
    weights = [schedule(step, n_steps) for step in range(n_steps)]
    assert weights == sorted(weights)
    assert all(0 <= weight <= schedule.target for weight in weights)


@pytest.mark.parametrize(("share", "settled_at"), [(0.1, 10), (0.5, 50), (1.0, 99), (0.0, 0)])
def test_a_ramp_takes_its_share_of_the_steps(share, settled_at):
    ramp = Ramp(2.0, share)
    assert ramp(settled_at, 100) == 2.0
    if settled_at:
        assert ramp(0, 100) == 0
        assert ramp(settled_at - 1, 100) < 2.0


def test_a_ramp_rises_in_equal_steps():
    weights = [Ramp(1.0, 0.4)(step, 10) for step in range(5)]
    assert weights == pytest.approx([0, 0.25, 0.5, 0.75, 1])


@given(SHAPES)
def test_every_curve_goes_from_zero_to_one(name):
    assert CURVES[name](0.0) == 0
    assert CURVES[name](1.0) == pytest.approx(1)


@given(CYCLES, st.integers(20, 400))
def test_a_cycle_starts_at_zero_and_its_peaks_decay_to_the_target(schedule, n_steps):
    weights = [schedule(step, n_steps) for step in range(n_steps)]
    highest = schedule.target / schedule.decay ** (schedule.n_cycles - 1)
    assert all(0 <= weight <= highest * (1 + 1e-9) for weight in weights)
    starts = [-int(-cycle * n_steps // schedule.n_cycles) for cycle in range(schedule.n_cycles)]
    peaks = [max(weights[a:b]) for a, b in zip(starts, [*starts[1:], n_steps], strict=True)]
    if n_steps >= 8 * schedule.n_cycles and schedule.share <= 0.5:
        expected = [schedule.target / schedule.decay ** (schedule.n_cycles - 1 - i) for i in range(schedule.n_cycles)]
        assert peaks == pytest.approx(expected)
        if schedule.share:
            assert weights[0] == 0
