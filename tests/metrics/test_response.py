"""Scores of a response, its baselines and its ceiling: against other implementations and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse, stats
from scipy.spatial.distance import cosine as cosine_distance
from sklearn import metrics
from sklearn.linear_model import Ridge

from genevae.metrics import ceiling, ranking, response
from genevae.responses import simple as baselines

RNG = np.random.default_rng(0)
PREDICTED, TRUE, REFERENCE = RNG.normal(size=(3, 200))


def test_errors_are_scikit_learns_and_do_not_depend_on_the_reference():
    assert response.mean_squared_error(PREDICTED, TRUE) == pytest.approx(metrics.mean_squared_error(TRUE, PREDICTED))
    assert response.mean_absolute_error(PREDICTED, TRUE) == pytest.approx(metrics.mean_absolute_error(TRUE, PREDICTED))
    assert response.mean_squared_error(PREDICTED - REFERENCE, TRUE - REFERENCE) == pytest.approx(
        response.mean_squared_error(PREDICTED, TRUE)
    )


def test_r2_score_is_scikit_learns_and_squared_pearson_is_scipys():
    assert response.r2_score(PREDICTED, TRUE) == pytest.approx(metrics.r2_score(TRUE, PREDICTED))
    assert response.squared_pearson(PREDICTED, TRUE) == pytest.approx(stats.pearsonr(PREDICTED, TRUE).statistic ** 2)
    assert np.isnan(response.r2_score(PREDICTED, np.ones(200)))


def test_the_two_r2_differ_for_what_has_the_right_shape_at_the_wrong_height():
    assert response.squared_pearson(TRUE * 2 + 1, TRUE) == pytest.approx(1)
    assert response.r2_score(TRUE * 2 + 1, TRUE) < 0


def test_pearson_delta_is_cell_evals():
    """cell-eval 0.8.2, metrics/_anndata.py: pearsonr of the differences from the control's mean."""
    expected = stats.pearsonr(PREDICTED - REFERENCE, TRUE - REFERENCE).statistic
    assert response.pearson_delta(PREDICTED, TRUE, REFERENCE) == pytest.approx(expected, abs=1e-12)


def test_the_mean_perturbation_as_reference_gives_nothing_for_what_all_have_in_common():
    common = 3 * RNG.normal(size=300)
    states = common + 0.3 * RNG.normal(size=(20, 300))
    centre = states.mean(0)
    assert response.pearson_delta(centre, states[0], np.zeros(300)) > 0.9
    assert response.pearson_delta(centre, states[0], centre) == 0


def test_cosine_is_scipys_and_no_shift_has_no_direction():
    assert response.cosine(PREDICTED, TRUE) == pytest.approx(1 - cosine_distance(PREDICTED, TRUE))
    assert response.cosine(np.zeros(3), np.ones(3)) == 0


def test_direction_agrees_where_signs_do():
    assert response.direction_agreement([1.0, -2.0, 3.0, 0.0], [2.0, 2.0, 0.1, 5.0], [0, 1, 2, 3]) == 0.5
    assert response.direction_agreement([1.0, -2.0], [2.0, 2.0], [0]) == 1


def test_the_mean_of_logs_and_the_log_of_the_mean_differ_where_cells_do():
    counts = RNG.poisson(2.0, (30, 8)).astype(float) + 1
    logged = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
    for form in (counts, sparse.csr_matrix(counts)):
        np.testing.assert_allclose(response.log_normalised(form), logged, rtol=1e-12)
    assert (logged.mean(0) < response.profile(counts)).all()
    same = np.tile(counts[:1], (5, 1))
    np.testing.assert_allclose(response.log_normalised(same).mean(0), response.profile(same))


def test_logarithms_are_the_same_sparse_or_dense_and_in_either_precision():
    counts = sparse.csr_matrix(RNG.poisson(1.0, (20, 8)).astype(np.float32))
    kept = response.log_normalised(counts, keep_sparse=True)
    assert sparse.issparse(kept)
    np.testing.assert_allclose(kept.toarray(), response.log_normalised(counts))
    single = response.log_normalised(counts, dtype=np.float32)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, kept.toarray(), rtol=1e-6)


def test_an_empty_cell_is_all_zeros():
    np.testing.assert_allclose(response.log_normalised(np.array([[0.0, 0.0], [1.0, 3.0]]))[0], 0)


# baselines


def test_the_additive_baseline_is_exact_where_parts_do_not_interact():
    shifts = {name: RNG.normal(size=9) for name in "ABC"}
    np.testing.assert_allclose(baselines.additive_shift(shifts, ["A", "C"]), shifts["A"] + shifts["C"])


def test_the_mean_shift_is_exact_where_all_respond_alike_and_off_where_they_do_not():
    before = {name: RNG.normal(size=9) for name in "ABC"}
    shift, own = RNG.normal(size=(2, 9))
    alike = {name: x + shift for name, x in before.items()}
    np.testing.assert_allclose(baselines.mean_shift(before, alike), shift)
    apart = alike | {"C": before["C"] + own}
    found = baselines.mean_shift({n: before[n] for n in "AB"}, {n: apart[n] for n in "AB"})
    assert response.mean_squared_error(found, own) > 0.1


@given(st.integers(0, 1000))
def test_weighted_shifts_are_those_of_similar_contexts(seed):
    rng = np.random.default_rng(seed)
    before = {name: rng.normal(size=8) for name in "ABCD"}
    after = {name: profile + rng.normal(size=8) for name, profile in before.items()}
    wanted = before["B"] + 1e-3
    shifts = {name: after[name] - before[name] for name in before}
    np.testing.assert_allclose(baselines.weighted_shift(before, after, wanted, width=1e-3), shifts["B"], atol=1e-6)
    everyone = baselines.weighted_shift(before, after, wanted, width=1e9)
    np.testing.assert_allclose(everyone, baselines.mean_shift(before, after), atol=1e-6)
    flat = baselines.slope_shift(before, after, wanted, width=0.4, ridge=1e12)
    np.testing.assert_allclose(flat, baselines.weighted_shift(before, after, wanted, width=0.4), atol=1e-6)


@given(st.integers(0, 1000))
def test_the_slope_is_exact_where_shifts_are_linear_in_control_expression(seed):
    rng = np.random.default_rng(seed)
    slope, height = rng.normal(size=(2, 6))
    before = {name: rng.normal(size=6) for name in "ABCDE"}
    after = {name: profile + height + slope * profile for name, profile in before.items()}
    wanted = rng.normal(size=6)
    found = baselines.slope_shift(before, after, wanted, width=10, ridge=0)
    np.testing.assert_allclose(found, height + slope * wanted, atol=1e-6)


def test_one_context_has_all_the_weight():
    before, after = {"A": np.zeros(3)}, {"A": np.ones(3)}
    for shift in (baselines.weighted_shift, baselines.slope_shift):
        np.testing.assert_allclose(shift(before, after, np.zeros(3)), np.ones(3))


def test_the_means_of_perturbed_states():
    states = {name: RNG.normal(size=5) for name in "ABCD"}
    np.testing.assert_allclose(baselines.perturbed_mean(states), np.mean(list(states.values()), axis=0))
    np.testing.assert_allclose(baselines.matching_mean(states, ["B", "D"]), (states["B"] + states["D"]) / 2)


@pytest.mark.parametrize(("n_features", "n_components"), [(1, 1), (3, 10)])
def test_the_linear_latent_model_is_exact_on_linear_responses(n_features, n_components):
    slope, height = RNG.normal(size=(n_features, 40)), RNG.normal(size=40)
    features, asked = RNG.normal(size=(12, n_features)), RNG.normal(size=(4, n_features))
    found = baselines.linear_latent(features @ slope + height, features, asked, n_components, ridge=0)
    np.testing.assert_allclose(found, asked @ slope + height, atol=1e-9)


def test_the_linear_latent_model_is_two_ridge_regressions_of_scikit_learn():
    """Genes on the scores G, then what comes out on the features P, each with its own penalty."""
    shift, features, asked = RNG.normal(size=(15, 60)), RNG.normal(size=(15, 4)), RNG.normal(size=(3, 4))
    mean, centre = shift.mean(0), features.mean(0)
    u, s, _ = np.linalg.svd((shift - mean).T, full_matrices=False)
    g = (u * s)[:, :5]
    first = Ridge(alpha=0.1, fit_intercept=False).fit(g, (shift - mean).T).coef_
    second = Ridge(alpha=0.1, fit_intercept=False).fit(features - centre, first)
    expected = second.predict(asked - centre) @ g.T + mean
    np.testing.assert_allclose(baselines.linear_latent(shift, features, asked, 5, 0.1), expected, atol=1e-9)


def test_the_linear_latent_model_says_the_mean_shift_where_features_tell_nothing():
    shift = RNG.normal(size=(6, 10))
    np.testing.assert_allclose(
        baselines.linear_latent(shift, np.ones((6, 2)), np.ones((1, 2)))[0], shift.mean(0), atol=1e-12
    )


# ceiling


def test_the_ceiling_is_the_correlation_with_as_many_other_cells():
    shift, n = RNG.normal(size=2000), 60
    draw = lambda: shift + 8 * RNG.normal(size=(n, 2000))  # noqa: E731 - drawn again and again
    again = np.mean([response.pearson(draw().mean(0), draw().mean(0)) for _ in range(20)])
    assert ceiling.split_half_ceiling(draw(), np.zeros(2000)) == pytest.approx(again, abs=0.03)


def test_the_ceiling_is_one_without_noise_nought_without_signal_and_unknown_for_three_cells():
    assert ceiling.split_half_ceiling(np.tile(TRUE, (10, 1)), np.zeros(200)) == pytest.approx(1)
    assert abs(ceiling.split_half_ceiling(RNG.normal(size=(400, 5000)), np.zeros(5000))) < 0.1
    assert np.isnan(ceiling.split_half_ceiling(RNG.normal(size=(3, 5)), np.zeros(5)))


@given(st.floats(-0.9, 1))
def test_spearman_brown_never_lowers_a_correlation(r: float):
    assert r <= ceiling.spearman_brown(r) <= 1


def test_the_calibrated_score_goes_from_baseline_to_ceiling():
    assert ceiling.calibrated(0.8, 0.8, 0.96) == 0
    assert ceiling.calibrated(0.96, 0.8, 0.96) == pytest.approx(1)
    assert np.isnan(ceiling.calibrated(0.9, 0.8, 0.7))


# ranking

COUNTS = RNG.poisson(1.0, (45, 30)).astype(float)
X, Y = COUNTS[:20], COUNTS[20:] + (np.arange(30) < 5)


def test_the_standard_error_is_that_of_welch():
    t_g = (Y.mean(0) - X.mean(0)) / ranking.standard_error(X, Y)
    np.testing.assert_allclose(t_g, stats.ttest_ind(Y, X, equal_var=False).statistic, atol=1e-9)
    assert set(ranking.top_genes(t_g, 3)) <= set(range(5))


@given(arrays(np.float64, 30, elements=st.floats(-5, 5)), st.integers(1, 40))
def test_overlap_of_top_genes_is_one_with_itself_and_does_not_see_signs(values: np.ndarray, k: int):
    values[0] = 6  # not all the same
    assert ranking.top_overlap(values, -values, k) == 1


def test_no_change_finds_the_genes_by_chance_only():
    assert ranking.top_overlap(np.zeros(400), TRUE.repeat(2), 50) == 50 / 400


def test_overlap_of_top_genes_is_cell_evals():
    """Share of the k genes with the largest absolute change that both sides have."""
    a, b = RNG.normal(size=(2, 500))
    tops = [set(np.argsort(-np.abs(x))[:50]) for x in (a, b)]
    assert ranking.top_overlap(a, b, 50) == len(tops[0] & tops[1]) / 50


@pytest.mark.parametrize("metric", ["cityblock", "euclidean", "cosine"])
def test_discrimination_is_cell_evals_but_for_its_denominator(metric):
    """cell-eval 0.8.2, discrimination_score: 1 − rank / P, rank 0 for the nearest."""
    true = RNG.normal(size=(12, 40))
    predicted = true + 3 * RNG.normal(size=true.shape)
    distance = metrics.pairwise_distances(true, predicted, metric=metric)
    theirs = [1 - np.flatnonzero(np.argsort(distance[:, p]) == p)[0] / 12 for p in range(12)]
    found = ranking.discrimination(predicted, true, metric)
    np.testing.assert_allclose(1 - (1 - found) * 11 / 12, theirs)


def test_one_prediction_for_all_perturbations_is_no_better_than_chance():
    true = RNG.normal(size=(9, 40))
    same = np.tile(true.mean(0), (9, 1))
    assert ranking.discrimination(same, true).mean() == pytest.approx(0.5)


def test_ties_share_their_rank():
    true = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(ranking.discrimination(np.zeros((3, 2)), true, "euclidean"), 0.5)
    assert np.isnan(ranking.discrimination(np.zeros((1, 2)), true[:1])).all()
    np.testing.assert_allclose(ranking.discrimination(true, true), 1)


@pytest.mark.parametrize("score", [response.pearson, response.cosine])
def test_what_is_not_a_number_has_no_score(score):
    assert np.isnan(score([1.0, np.nan, 3.0], [1.0, 2.0, 3.0]))
