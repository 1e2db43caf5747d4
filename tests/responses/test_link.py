"""Mean counts after a shift of log-normalised counts: simulated cells are the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.responses.link import mean_after_shift

TARGET = 1e4
N_GENES = 150


def simulated(size: float, theta: float, seed: int = 0, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each gene, and NB cells of about this size."""
    rng = np.random.default_rng(seed)
    share_g = rng.dirichlet(np.full(N_GENES, 0.7))
    return share_g, counts(rng, size * share_g, theta, n)


def counts(rng: np.random.Generator, mean_g: np.ndarray, theta: float, n: int) -> np.ndarray:
    return rng.poisson(mean_g * rng.gamma(theta, 1 / theta, (n, len(mean_g)))).astype(float)


def log_mean(x_ng: np.ndarray, size: float) -> np.ndarray:
    return np.log1p(TARGET * x_ng / size).mean(0)


@pytest.mark.parametrize("size", [60, 700, 5000])
@pytest.mark.parametrize("theta", [0.5, 5.0])
def test_the_mean_of_simulated_cells_after_a_shift_is_found(size, theta):
    rng = np.random.default_rng(1)
    share_g, x_ng = simulated(size, theta)
    factor_g = rng.choice([0.3, 0.6, 1.5, 2.5], N_GENES)
    after_ng = counts(rng, size * share_g * factor_g, theta, len(x_ng))
    before_g, shift_g = log_mean(x_ng, size), log_mean(after_ng, size) - log_mean(x_ng, size)
    found_g = mean_after_shift(x_ng.mean(0), before_g, shift_g)
    often = x_ng.mean(0) > 0.3  # where enough counts say what the mean is
    off_g = np.abs(np.log(found_g[often] / after_ng.mean(0)[often]))
    assert np.median(off_g) < 0.06
    assert np.quantile(off_g, 0.95) < 0.15


@given(st.integers(0, 10**6), st.sampled_from([1, 60, 5000, 1e6]))
def test_no_shift_is_no_change(seed, size):
    level_g = size * np.random.default_rng(seed).dirichlet(np.full(20, 0.5))
    np.testing.assert_array_equal(mean_after_shift(level_g, np.log1p(level_g), np.zeros(20)), level_g)


@given(st.integers(0, 10**6), st.sampled_from([1, 60, 700, 5000, 1e6]))
def test_a_larger_shift_is_a_larger_mean(seed, size):
    rng = np.random.default_rng(seed)
    level_g = np.append(np.zeros(3), rng.dirichlet(np.full(17, 0.5))) * size
    level_g *= size / level_g.sum()
    log_mean_g = rng.uniform(0, 1, 20) * np.log1p(TARGET * level_g / size)
    shifts = [-50, -2, -0.5, -1e-3, 0, 1e-3, 0.5, 2, 50]
    means = np.stack([mean_after_shift(level_g, log_mean_g, np.full(20, float(shift))) for shift in shifts])
    assert (np.diff(means, axis=0) >= -1e-9 * level_g.sum()).all()


@given(
    st.lists(
        st.tuples(st.floats(0, 1e6), st.floats(0, 1), st.floats(-1e3, 1e3)),
        min_size=1, max_size=20,
    )
)  # fmt: skip
def test_extreme_shifts_give_finite_means(genes):
    level_g, share_g, shift_g = np.array(genes).T
    log_mean_g = share_g * np.log1p(TARGET * level_g / max(level_g.sum(), 1))
    found_g = mean_after_shift(level_g, log_mean_g, shift_g)
    assert np.isfinite(found_g).all()
    assert (found_g >= 0).all()
