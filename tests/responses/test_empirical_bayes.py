"""The posterior of changes: laws, its calibration where the truth is known, and what it says of nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from genevae.responses.empirical_bayes import change_posterior, expected_false_share

SEEDS = st.integers(0, 1000)


def genes(seed: int, n: int = 2000, share: float = 0.2, centre: float = 0.0):
    """Return true changes, measured ones, and their errors."""
    rng = np.random.default_rng(seed)
    true_g = np.where(rng.random(n) < share, rng.normal(0, 1.0, n), 0.0)
    error_g = rng.uniform(0.1, 0.6, n)
    return true_g, true_g + centre + error_g * rng.standard_normal(n), error_g


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_expected_false_share_rises_with_every_gene_that_is_added(probabilities):
    p_g = np.array(probabilities)
    share_g = expected_false_share(p_g)
    order = np.argsort(-p_g, kind="stable")
    assert (np.diff(share_g[order]) >= -1e-12).all()
    assert share_g[order[-1]] == pytest.approx(1 - p_g.mean())


@pytest.mark.parametrize("seed", range(3))
def test_intervals_and_calls_are_calibrated(seed):
    true_g, y_g, s_g = genes(seed, centre=0.3)
    found = change_posterior(y_g, s_g)
    assert found.centre == pytest.approx(0.3, abs=0.05)
    inside_g = (found.quantile_g(0.05) <= true_g) & (true_g <= found.quantile_g(0.95))
    assert 0.87 < inside_g.mean() < 0.98, "0.9, and more where the point of no change is inside"
    p_g = found.probability_g(0.25)
    changed_g = np.abs(true_g) > 0.25
    called_g = expected_false_share(p_g) <= 0.05
    assert (changed_g & called_g).sum() > 0.4 * changed_g.sum()
    assert (~changed_g & called_g).sum() / called_g.sum() < 0.09
    for low in (0.2, 0.5):  # a probability is a share
        near_g = np.abs(p_g - low) < 0.1
        assert abs(changed_g[near_g].mean() - p_g[near_g].mean()) < 0.2


@settings(max_examples=10)
@given(SEEDS)
def test_noise_alone_gives_no_calls(seed):
    _, y_g, s_g = genes(seed, n=500, share=0.0)
    found = change_posterior(y_g, s_g)
    assert not (expected_false_share(found.probability_g(0.25)) <= 0.05).any()


@settings(max_examples=5)
@given(SEEDS)
def test_changes_shrink_towards_none(seed):
    _, y_g, s_g = genes(seed, n=300)
    found = change_posterior(y_g, s_g)
    from_centre_g = y_g - found.centre
    assert (np.abs(found.mean_g) <= np.abs(from_centre_g) + 1e-12).all()
    assert (found.mean_g * from_centre_g >= 0).all()
    assert (np.diff([found.probability_g(least) for least in (0.0, 0.3, 1.0)], axis=0) <= 1e-12).all()
    assert (found.quantile_g(0.05) <= found.quantile_g(0.95)).all()


def test_a_gene_with_little_noise_has_the_interval_of_its_measurement():
    """The oracle: where the prior is wide beside the noise, the posterior is the likelihood."""
    y_g = np.concatenate([np.linspace(-3, 3, 41), np.zeros(400)])
    s_g = np.full(len(y_g), 0.01)
    found = change_posterior(y_g, s_g)
    np.testing.assert_allclose(found.quantile_g(0.95)[:15], y_g[:15] + norm.ppf(0.95) * 0.01, atol=1e-3)


def test_genes_that_were_not_measured_say_nothing():
    _, y_g, s_g = genes(0, n=200)
    with_more = change_posterior(np.append(y_g, 7.0), np.append(s_g, np.inf))
    np.testing.assert_allclose(with_more.mean_g[:-1], change_posterior(y_g, s_g).mean_g)
    assert abs(with_more.mean_g[-1]) < 1e-6
    assert change_posterior(np.zeros(3), np.full(3, np.inf)).mean_g.tolist() == [0, 0, 0]
