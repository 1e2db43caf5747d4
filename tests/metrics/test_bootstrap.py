"""Bootstrap intervals: how often they hold the truth, and what groups do to them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from genevae.metrics.bootstrap import interval, paired


def covered(level: float, groups: bool) -> float:
    """Share of 200 experiments whose interval holds the true mean of 0; cells come in 30 groups of 5."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = np.repeat(rng.normal(size=30), 5) + rng.normal(size=150)
        low, high = interval(x, seed=seed, groups=np.repeat(range(30), 5) if groups else None, level=level, n_draws=200)
        held += low <= 0 <= high
    return held / 200


def test_groups_hold_the_truth_where_cells_of_a_group_are_alike():
    assert covered(0.9, groups=True) == pytest.approx(0.9, abs=0.06)
    assert covered(0.9, groups=False) < 0.8  # as if they were many more than they are


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_interval_of_a_mean_is_near_that_of_the_normal_law(level):
    x = np.random.default_rng(0).normal(3, 2, 400)
    low, high = stats.norm.interval(level, x.mean(), stats.sem(x))
    assert interval(x, level=level, n_draws=4000) == pytest.approx((low, high), abs=0.03)


def test_it_is_scipys():
    x = np.random.default_rng(0).exponential(size=200)
    other = stats.bootstrap((x,), np.median, method="percentile", rng=0, n_resamples=3000).confidence_interval
    assert interval(x, np.median, n_draws=3000) == pytest.approx((other.low, other.high), abs=0.03)


def test_rows_stay_together():
    x = np.random.default_rng(0).normal(size=(50, 1))
    assert interval(np.hstack([x, x]), lambda rows: np.corrcoef(rows.T)[0, 1]) == pytest.approx((1, 1))


def test_the_same_seed_draws_the_same_cells():
    x = np.random.default_rng(0).normal(size=50)
    assert interval(x, seed=1) == interval(x, seed=1) != interval(x, seed=2)


def test_pairs_tell_apart_what_two_intervals_cannot():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 5, 200)
    a, b = hard + 0.2 + rng.normal(0, 0.1, 200), hard + rng.normal(0, 0.1, 200)
    assert interval(a)[0] < interval(b)[1]
    found = paired(a, b)
    assert found.difference == pytest.approx(0.2, abs=0.03)
    assert 0 < found.low < found.difference < found.high
    assert found.share_above == 1
    assert paired(b, a).share_above == 0


def test_groups_widen_a_comparison():
    rng = np.random.default_rng(0)
    groups = np.repeat(range(6), 30)
    a = rng.normal(size=6)[groups] + rng.normal(0, 0.1, 180)
    alone, whole = paired(a, np.zeros(180)), paired(a, np.zeros(180), groups=groups)
    assert whole.high - whole.low > 2 * (alone.high - alone.low)
