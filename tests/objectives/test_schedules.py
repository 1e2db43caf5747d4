"""Schedules: a weight for every step, at its target when training ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.objectives.schedules import CURVES, Constant, Cyclic, Ramp
from genevae.recipes.bound import Annealing

TARGETS = st.floats(0.0, 100.0)
SHAPES = st.sampled_from(sorted(CURVES))
RISING = st.one_of(st.builds(Constant, TARGETS), st.builds(Ramp, TARGETS, st.floats(0.0, 1.0), SHAPES))
CYCLES = st.builds(
    Cyclic, TARGETS, st.integers(1, 50), st.integers(1, 200), st.floats(0.5, 1.0), st.floats(0.0, 1.0), SHAPES
)
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


@given(CYCLES, st.integers(1, 30))
def test_cycles_have_their_number_of_epochs_and_each_peak_is_a_share_of_the_last(schedule, steps_per_epoch):
    n_steps = schedule.n_epochs * steps_per_epoch
    length = min(schedule.cycle, schedule.n_epochs) * steps_per_epoch
    weights = [schedule(step, n_steps) for step in range(n_steps)]
    assert schedule.n_cycles == max(1, schedule.n_epochs // schedule.cycle)
    for cycle in range(schedule.n_cycles):
        part = weights[cycle * length : min((cycle + 1) * length, n_steps - 1)]
        peak = schedule.peak * schedule.decay**cycle
        assert all(0 <= weight <= peak * (1 + 1e-9) for weight in part)
        if schedule.share and part:
            assert part[0] == 0
        if schedule.share <= 0.5 and len(part) >= 8:
            assert max(part) == pytest.approx(peak)
    assert all(weight == schedule.target for weight in weights[schedule.n_cycles * length :])


@pytest.mark.parametrize("curve", sorted(CURVES))
def test_a_cycle_rises_along_its_curve(curve):
    cyclic = Cyclic(2.0, cycle=10, n_epochs=20, share=0.5, curve=curve)
    assert [cyclic(step, 200) for step in range(100, 150, 10)] == pytest.approx(
        [2 * CURVES[curve](t) for t in (0, 0.2, 0.4, 0.6, 0.8)]
    )


@given(st.integers(40, 400))
def test_the_first_peak_is_beta_however_many_epochs_there_are_unless_the_last_is_to_be(n_epochs):
    settings = {"beta": 0.1, "beta_schedule": "cyclic", "beta_cycle": 40, "beta_decay": 0.8, "beta_ramp": 0.5}
    first = Annealing(**settings).schedule(n_epochs)
    assert first(39, n_epochs) == (0.1 if n_epochs > 40 else first.target)
    last = Annealing(**settings, beta_anchor="last").schedule(n_epochs)
    assert last.target == pytest.approx(0.1)
    assert last.peak == pytest.approx(0.1 / 0.8 ** (n_epochs // 40 - 1))
