"""Schedules: a weight for every step, at its target when training ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.objectives.schedules import Constant, LinearRamp

TARGETS = st.floats(0.0, 100.0)
SCHEDULES = st.one_of(st.builds(Constant, TARGETS), st.builds(LinearRamp, TARGETS, st.floats(0.0, 1.0)))


@given(SCHEDULES, st.integers(1, 100_000))
def test_every_schedule_ends_at_its_target_for_any_number_of_steps(schedule, n_steps):
    assert schedule(n_steps - 1, n_steps) == schedule.target
    assert schedule(n_steps, n_steps) == schedule.target


@given(SCHEDULES, st.integers(1, 60))
def test_every_schedule_rises_and_stays_within_zero_and_its_target(schedule, n_steps):
    weights = [schedule(step, n_steps) for step in range(n_steps)]
    assert weights == sorted(weights)
    assert all(0 <= weight <= schedule.target for weight in weights)


@pytest.mark.parametrize(("share", "settled_at"), [(0.1, 10), (0.5, 50), (1.0, 99), (0.0, 0)])
def test_a_ramp_takes_its_share_of_the_steps(share, settled_at):
    ramp = LinearRamp(2.0, share)
    assert ramp(settled_at, 100) == 2.0
    if settled_at:
        assert ramp(0, 100) == 0
        assert ramp(settled_at - 1, 100) < 2.0


def test_a_ramp_rises_in_equal_steps():
    weights = [LinearRamp(1.0, 0.4)(step, 10) for step in range(5)]
    assert weights == pytest.approx([0, 0.25, 0.5, 0.75, 1])
