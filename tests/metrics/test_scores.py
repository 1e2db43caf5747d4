"""Scores against independent implementations and on inputs with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse, stats
from sklearn.calibration import calibration_curve
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, mean_poisson_deviance

from genevae.metrics.denoising import poisson_deviance, thin
from genevae.metrics.labels import accuracy, expected_calibration_error, majority_accuracy
from genevae.metrics.response import pearson, profile
from genevae.responses.simple import mean_shift

numbers = arrays(np.float64, 12, elements=st.floats(-100, 100))


@given(numbers, numbers)
def test_pearson_is_scipys(a: np.ndarray, b: np.ndarray) -> None:
    if a.std() < 1e-3 or b.std() < 1e-3:
        return
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-9)


def test_pearson_of_a_constant_tells_nothing() -> None:
    assert pearson(np.zeros(5), np.arange(5)) == 0


def test_accuracies_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    train, true, told = (rng.choice(["B", "T", "NK"], 100, p=[0.2, 0.5, 0.3]) for _ in range(3))
    assert accuracy(true, told) == accuracy_score(true, told)
    dummy = DummyClassifier(strategy="most_frequent").fit(train[:, None], train)
    assert majority_accuracy(train, true) == dummy.score(true[:, None], true)


def test_calibration_error_weighs_scikit_learns_bins() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 500)
    right = rng.random(500) < probability**2
    share, said = calibration_curve(right, probability, n_bins=10)
    weight = np.histogram(probability, np.linspace(0, 1, 11))[0] / 500
    assert expected_calibration_error(right, probability) == pytest.approx(np.sum(weight * np.abs(share - said)))


def test_an_honest_classifier_is_better_calibrated_than_a_boaster() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.5, 1, 2000)
    right = rng.random(2000) < probability
    assert expected_calibration_error(right, probability) < 0.05
    assert expected_calibration_error(right, np.full(2000, 0.99)) > 0.2


def test_a_profile_does_not_depend_on_size_or_storage() -> None:
    x = np.random.default_rng(0).poisson(2.0, (30, 8)).astype(float) + 1
    deeper = x * np.linspace(1, 5, 30)[:, None]
    np.testing.assert_allclose(profile(x), profile(deeper))
    np.testing.assert_allclose(profile(x), profile(sparse.csr_matrix(x)))
    np.testing.assert_allclose(profile(x), np.log1p((1e4 * x / x.sum(1, keepdims=True)).mean(0)))


def test_an_empty_cell_does_not_break_a_profile() -> None:
    x = np.array([[0.0, 0.0], [1.0, 3.0]])
    np.testing.assert_allclose(profile(x), np.log1p([1250, 3750]))


def test_the_mean_shift_is_right_where_every_context_responds_alike() -> None:
    rng = np.random.default_rng(0)
    before = {name: rng.normal(size=6) for name in "ABC"}
    shift = rng.normal(size=6)
    np.testing.assert_allclose(mean_shift(before, {name: x + shift for name, x in before.items()}), shift)


@given(arrays(np.int64, (5, 4), elements=st.integers(0, 1000)), st.floats(0, 1), st.integers(0, 99))
def test_thinning_splits_every_molecule(counts: np.ndarray, share: float, seed: int) -> None:
    x = sparse.csr_matrix(counts.astype(np.float32))
    first, second = thin(x, share, seed)
    assert (first + second != x).nnz == 0
    assert first.nnz == 0 or first.data.min() > 0
    assert second.nnz == 0 or second.data.min() > 0


def test_thinning_takes_its_share() -> None:
    first, _ = thin(sparse.csr_matrix(np.full((50, 50), 100.0)), 0.3)
    assert first.sum() / (50 * 50 * 100) == pytest.approx(0.3, abs=0.005)


def test_poisson_deviance_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    counts, mean = rng.poisson(1.0, (20, 10)), rng.uniform(0.1, 3, (20, 10))
    assert poisson_deviance(sparse.csr_matrix(counts), mean) == pytest.approx(
        mean_poisson_deviance(counts.ravel(), mean.ravel())
    )


def test_the_true_mean_beats_every_other_and_the_counts_themselves_are_perfect() -> None:
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.5, 5, (200, 50))
    counts = sparse.csr_matrix(rng.poisson(mean))
    losses = {scale: poisson_deviance(counts, mean * scale) for scale in (0.5, 1.0, 2.0)}
    assert min(losses, key=losses.__getitem__) == 1.0
    assert poisson_deviance(counts, np.maximum(counts.toarray(), 1e-6)) == pytest.approx(0, abs=1e-5)
