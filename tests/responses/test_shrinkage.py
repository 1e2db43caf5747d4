"""Adaptive shrinkage: null data vanish, effects stay, and the normal-normal model is an oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.responses.shrinkage import shrink

seeds = st.integers(0, 10**6)


def noisy(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return estimates of which some are large, and variances of their noise."""
    rng = np.random.default_rng(seed)
    noise_g = rng.gamma(2, 0.5, n)
    true_g = rng.normal(0, rng.gamma(1, 2), n) * (rng.uniform(size=n) < rng.uniform())
    return true_g + rng.normal(0, np.sqrt(noise_g)), noise_g


@given(seeds)
def test_a_posterior_mean_is_between_zero_and_the_estimate(seed):
    estimate_g, noise_g = noisy(seed)
    found = shrink(estimate_g, noise_g)
    assert (found.mean_g * estimate_g >= 0).all()
    assert (np.abs(found.mean_g) <= np.abs(estimate_g)).all()
    assert (found.variance_g >= 0).all()


@given(seeds)
def test_the_sign_and_the_unit_of_estimates_do_not_matter(seed):
    estimate_g, noise_g = noisy(seed, 50)
    found, other = shrink(estimate_g, noise_g), shrink(-1000 * estimate_g, 1e6 * noise_g)
    np.testing.assert_allclose(other.mean_g, -1000 * found.mean_g, atol=1e-6)
    np.testing.assert_allclose(other.variance_g, 1e6 * found.variance_g, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_null_data_shrink_to_nearly_zero(seed):
    rng = np.random.default_rng(seed)
    noise_g = rng.gamma(2, 0.5, 2000)
    found = shrink(rng.normal(0, np.sqrt(noise_g)), noise_g)
    assert np.square(found.mean_g).mean() < 0.02 * noise_g.mean()


def test_large_effects_among_nothing_are_kept():
    rng = np.random.default_rng(0)
    estimate_g = rng.standard_normal(1000)
    estimate_g[:20] = 20 * rng.choice([-1, 1], 20) + rng.standard_normal(20)
    mean_g = shrink(estimate_g, np.ones(1000)).mean_g
    np.testing.assert_allclose(mean_g[:20], estimate_g[:20], rtol=0.05)
    assert np.abs(mean_g[20:]).mean() < 0.1


@pytest.mark.parametrize(("spread", "far"), [(0.5, 0.2), (1.0, 0.06), (3.0, 0.003)])
def test_where_the_prior_is_one_normal_the_posterior_is_that_of_the_normal_model(spread, far):
    rng = np.random.default_rng(0)
    noise_g = rng.uniform(0.5, 2, 5000)
    true_g = rng.normal(0, spread, 5000)
    estimate_g = true_g + rng.normal(0, np.sqrt(noise_g))
    share_g = spread**2 / (spread**2 + noise_g)
    found = shrink(estimate_g, noise_g)
    off, size = (np.square(x).mean() for x in (found.mean_g - share_g * estimate_g, share_g * estimate_g))
    assert off < far * size, "the less the data say of the prior, the farther"
    assert found.variance_g.mean() == pytest.approx((share_g * noise_g).mean(), rel=0.2)
    assert np.square(found.mean_g - true_g).mean() < 1.05 * np.square(share_g * estimate_g - true_g).mean()


@pytest.mark.parametrize("estimate", [[0.0], [0.0, 0.0], [5.0], [1e-9, 1e9]])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_few_genes_and_no_noise_give_finite_numbers(estimate, noise):
    found = shrink(np.array(estimate), np.full(len(estimate), noise))
    assert all(np.isfinite(x).all() for x in found)
