"""Measures of fit against independent implementations, on known answers, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
import scoringrules
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats
from scipy.special import logsumexp
from sklearn.metrics import mean_squared_error, r2_score

from genevae.metrics.agreement import r2_g, variance_error, zero_fraction_error
from genevae.metrics.bound import bound, importance_weighted_bound
from genevae.metrics.calibration import covered, crps, distance_from_uniform, pit, pit_histogram, predictive_p
from genevae.metrics.denoising import normalised_error, thin
from genevae.metrics.gene_wise import GeneWiseNB, GeneWiseNormal

RNG = np.random.default_rng(7)  # not a seed that `pit` draws with below
MEAN, THETA = RNG.uniform(0.2, 8, (400, 60)), 1.7
COUNTS = RNG.negative_binomial(THETA, THETA / (THETA + MEAN)).astype(float)
NB = stats.nbinom(THETA, THETA / (THETA + MEAN))
BELOW, AT = NB.cdf(COUNTS - 1), NB.cdf(COUNTS)


# bounds


def test_the_importance_weighted_bound_is_a_log_mean_exp():
    log_weight = RNG.normal(-2000, 30, (100, 7))
    np.testing.assert_allclose(importance_weighted_bound(log_weight), logsumexp(log_weight, 0) - np.log(100), atol=1e-9)
    np.testing.assert_allclose(importance_weighted_bound(log_weight, 1), bound(log_weight))
    np.testing.assert_allclose(importance_weighted_bound(log_weight, 40), (
        logsumexp(log_weight[:40], 0) + logsumexp(log_weight[40:80], 0)) / 2 - np.log(40))  # fmt: skip


@given(st.integers(0, 99))
def test_it_rises_with_every_doubling_of_k(seed):
    log_weight = np.random.default_rng(seed).normal(0, 3, (64, 5))
    bounds = np.array([importance_weighted_bound(log_weight, k) for k in (1, 2, 4, 8, 16, 32, 64)])
    assert (np.diff(bounds, axis=0) >= -1e-12).all()


def test_it_goes_to_the_truth_where_that_is_known():
    x, q = RNG.normal(0, 1.5, 40), stats.norm(0.2, 1.0)  # z ~ N(0, 1), x ~ N(z, 1): x ~ N(0, 2)
    z = q.rvs((20_000, 1), random_state=0)
    log_weight = stats.norm(z, 1).logpdf(x) + stats.norm.logpdf(z) - q.logpdf(z)
    truth = stats.norm(0, np.sqrt(2)).logpdf(x)
    np.testing.assert_allclose(importance_weighted_bound(log_weight), truth, atol=0.1)
    assert bound(log_weight).mean() < importance_weighted_bound(log_weight, 100).mean() < truth.mean() + 0.02


# agreement


def test_r2_per_gene_is_scikit_learns():
    x, y = RNG.normal(size=(30, 9)), RNG.normal(size=(30, 9))
    np.testing.assert_allclose(r2_g(x, y), r2_score(x, y, multioutput="raw_values"), atol=1e-9)


def test_the_mean_explains_nothing_and_the_truth_all():
    x = RNG.normal(size=(30, 4))
    np.testing.assert_allclose(r2_g(x, np.tile(x.mean(0), (30, 1))), 0, atol=1e-12)
    np.testing.assert_allclose(r2_g(x, x), 1)
    assert np.isnan(r2_g(np.ones((5, 1)), np.zeros((5, 1)))).all()


def test_the_true_model_has_the_zeros_and_the_variance_of_its_data():
    assert zero_fraction_error(COUNTS, NB.pmf(0)) < 0.03
    assert zero_fraction_error(COUNTS, np.exp(-MEAN)) > 0.08  # Poisson has too few
    assert variance_error(COUNTS, MEAN, NB.var()) < 0.25 < variance_error(COUNTS, MEAN, MEAN)
    assert zero_fraction_error([[0, 1], [0, 2.0]], [[0.5, 0.25]]) == pytest.approx((0.5 + 0.25) / 2)


def test_twice_the_variance_is_an_error_of_one():
    x = RNG.normal(size=(50, 3))
    level = np.zeros((50, 3))
    assert variance_error(x, level, np.tile(2 * x.var(0), (50, 1))) == pytest.approx(1)
    assert np.isnan(variance_error(level, level, level))


# calibration


def test_the_distance_from_uniform_is_scipys():
    u = RNG.beta(2, 2, 500)
    assert distance_from_uniform(u) == pytest.approx(stats.kstest(u, "uniform").statistic, abs=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_intervals_of_the_true_model_cover_their_level_of_counts_too(level):
    error = np.sqrt(level * (1 - level) / COUNTS.size)
    assert covered(BELOW, AT, level).mean() == pytest.approx(level, abs=4 * error)
    within = np.abs(pit(BELOW, AT) - 0.5) <= level / 2
    assert covered(BELOW, AT, level).mean() == pytest.approx(within.mean(), abs=8 * error)


def test_randomised_transforms_of_the_true_model_are_uniform_and_those_of_others_are_not():
    assert stats.kstest(pit(BELOW, AT).ravel(), "uniform").pvalue > 0.01
    poisson = stats.poisson(MEAN)
    sure = pit(poisson.cdf(COUNTS - 1), poisson.cdf(COUNTS))
    assert distance_from_uniform(sure) > 0.05 > distance_from_uniform(pit(BELOW, AT))
    assert covered(poisson.cdf(COUNTS - 1), poisson.cdf(COUNTS)).mean() < 0.8


def test_the_histogram_is_flat_for_the_true_model_and_expects_the_randomised_one():
    flat = pit_histogram(BELOW, AT)
    assert flat.mean() == pytest.approx(1)
    np.testing.assert_allclose(flat, 1, atol=0.05)
    drawn = (
        np.mean([np.histogram(pit(BELOW, AT, seed), 10, (0, 1))[0] for seed in range(100, 120)], 0) * 10 / COUNTS.size
    )
    np.testing.assert_allclose(flat, drawn, atol=0.02)


def test_continuous_values_are_points():
    u = np.array([0.0, 0.04, 0.5, 0.97, 1.0])
    assert covered(u, u, 0.9).mean() == pytest.approx(1 / 5)
    np.testing.assert_allclose(pit_histogram(u, u, 2), [2 * 2 / 5, 2 * 3 / 5])
    np.testing.assert_array_equal(pit(u, u), u)


def test_crps_is_that_of_scoringrules():
    x, drawn = RNG.poisson(3.0, (6, 5)).astype(float), RNG.poisson(3.0, (50, 6, 5)).astype(float)
    expected = scoringrules.crps_ensemble(x, drawn, m_axis=0, estimator="fair")
    np.testing.assert_allclose(crps(x, drawn), expected, atol=1e-9)


def test_crps_is_near_its_integral_and_best_for_the_truth():
    drawn = RNG.normal(1.0, 2.0, (200_000, 1))
    assert crps([2.5], drawn)[0] == pytest.approx(float(scoringrules.crps_normal(2.5, 1.0, 2.0)), abs=0.02)
    x = RNG.normal(0, 1, 4000)
    score = {scale: crps(x, RNG.normal(0, scale, (50, 4000))).mean() for scale in (0.5, 1.0, 2.0)}
    assert min(score, key=score.__getitem__) == 1.0


def test_replicates_of_the_true_model_have_the_statistics_of_the_data():
    drawn = RNG.negative_binomial(THETA, THETA / (THETA + MEAN), (60, *MEAN.shape))
    assert 0.01 < predictive_p(COUNTS, drawn, lambda x: np.mean(x == 0)) < 0.99
    assert predictive_p(COUNTS, RNG.poisson(MEAN, (60, *MEAN.shape)), lambda x: np.mean(x == 0)) == 0
    assert predictive_p([1.0], [[1.0], [1.0]], np.sum) == 0.5


# gene-wise baselines


def test_the_gene_wise_negative_binomial_finds_the_truth_and_is_scipys():
    size, share, theta = RNG.uniform(500, 2000, 3000), np.array([2e-3, 5e-4, 4e-3]), np.array([0.5, 2.0, 8.0])
    mean = size[:, None] * share
    x = RNG.negative_binomial(theta, theta / (theta + mean))
    fitted = GeneWiseNB.fit(x, size)
    np.testing.assert_allclose(fitted.share_g, share, rtol=0.1)
    np.testing.assert_allclose(fitted.theta_g, theta, rtol=0.25)
    oracle = stats.nbinom(fitted.theta_g, fitted.theta_g / (fitted.theta_g + fitted.mean_ng(size)))
    np.testing.assert_allclose(fitted.log_prob_n(x, size), oracle.logpmf(x).sum(1), atol=1e-6)
    np.testing.assert_allclose(fitted.cdf_ng(x - 1, size), oracle.cdf(x - 1), atol=1e-9)
    np.testing.assert_allclose(fitted.variance_ng(size), oracle.var())
    likelihood = fitted.log_prob_n(x, size).sum()
    for factor in (0.95, 1.05):
        assert GeneWiseNB(fitted.share_g, fitted.theta_g * factor).log_prob_n(x, size).sum() < likelihood


def test_a_gene_without_counts_does_no_harm():
    fitted = GeneWiseNB.fit(np.array([[0, 3], [0, 1.0]]), [3.0, 1.0])
    assert np.isfinite(fitted.log_prob_n([[0, 2], [1, 0.0]], [2.0, 1.0])).all()


def test_the_gene_wise_normal_is_scipys():
    x, size = RNG.normal(3, 2, (50, 4)), np.ones(50)
    fitted = GeneWiseNormal.fit(x)
    oracle = stats.norm(x.mean(0), x.std(0))
    np.testing.assert_allclose(fitted.log_prob_n(x, size), oracle.logpdf(x).sum(1))
    np.testing.assert_allclose(fitted.cdf_ng(x, size), oracle.cdf(x))
    np.testing.assert_allclose(fitted.variance_ng(size)[0], x.var(0))


@pytest.mark.parametrize("fitted", [GeneWiseNB(np.array([1e-3, 5e-3]), np.array([1.0, 3.0])),
                                    GeneWiseNormal(np.array([1.0, 2.0]), np.array([0.5, 2.0]))])  # fmt: skip
def test_what_a_baseline_draws_is_what_it_says(fitted):
    size = np.array([1000.0, 2000.0])
    drawn = fitted.draw_sng(size, 20_000, seed=0)
    np.testing.assert_allclose(drawn.mean(0), fitted.mean_ng(size), rtol=0.05)
    np.testing.assert_allclose(drawn.var(0), fitted.variance_ng(size), rtol=0.1)
    np.testing.assert_allclose(fitted.of(np.array([1])).mean_ng(size), fitted.mean_ng(size)[:, 1:])


# molecular cross-validation


def test_the_normalised_error_is_scikit_learns():
    counts, mean = RNG.poisson(2.0, (20, 10)) + 1, RNG.uniform(0.1, 3, (20, 10))
    logs = [np.log1p(1e4 * x / x.sum(1, keepdims=True)) for x in (counts, mean)]
    assert normalised_error(sparse.csr_matrix(counts), mean) == pytest.approx(mean_squared_error(*logs))
    assert normalised_error(sparse.csr_matrix(counts), 7.0 * counts) == pytest.approx(0)
    assert normalised_error(sparse.csr_matrix((2, 3)), np.zeros((2, 3))) == 0


def test_the_truth_tells_the_other_half_better_than_the_half_that_was_seen():
    first, second = thin(sparse.csr_matrix(RNG.poisson(MEAN).astype(np.float32)), 0.5)
    assert normalised_error(second, MEAN) < normalised_error(second, first.toarray().astype(np.float64))
