"""Measures of labels against scikit-learn, and on known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from genevae.metrics.labels import auroc, confusion, macro_f1, reliability, risk_coverage, risk_coverage_area

RNG = np.random.default_rng(0)
LABELS = ["B", "NK", "T"]
TRUE, TOLD = RNG.choice(LABELS, (2, 300), p=[0.2, 0.1, 0.7])


def test_confusion_and_f1_are_scikit_learns():
    np.testing.assert_array_equal(confusion(TRUE, TOLD, LABELS), confusion_matrix(TRUE, TOLD, labels=LABELS))
    assert macro_f1(TRUE, TOLD) == pytest.approx(f1_score(TRUE, TOLD, average="macro"))
    assert macro_f1(["B", "B"], ["B", "T"]) == pytest.approx(f1_score(["B", "B"], ["B", "T"], average="macro"))


@given(st.integers(0, 99))
def test_auroc_is_scikit_learns_with_ties(seed):
    rng = np.random.default_rng(seed)
    positive, score = np.arange(40) % 3 == 0, rng.integers(0, 6, 40)
    assert auroc(positive, score) == pytest.approx(roc_auc_score(positive, score))
    assert auroc(positive, -score) == pytest.approx(1 - auroc(positive, score))


def test_auroc_of_one_sort_tells_nothing():
    assert np.isnan(auroc([True, True], [0.1, 0.2]))


def test_reliability_counts_every_cell_once():
    probability = RNG.uniform(0.3, 1, 200)
    bins = reliability(RNG.random(200) < probability, probability)
    assert bins.n.sum() == 200
    assert (np.diff(bins.predicted) > 0).all()
    assert bins.n @ bins.predicted / 200 == pytest.approx(probability.mean())


def test_the_risk_of_all_cells_is_the_share_of_wrong_ones_and_the_surest_come_first():
    right, sure = np.array([True, False, True, True]), np.array([0.9, 0.2, 0.8, 0.7])
    coverage, risk = risk_coverage(right, sure)
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(risk, [0, 0, 0, 0.25])


def test_probabilities_that_tell_nothing_have_the_risk_of_all_whatever_the_order():
    right = np.array([True, True, False, True])
    assert risk_coverage_area(right, np.full(4, 0.5)) == pytest.approx(0.25)
    assert risk_coverage_area(right[::-1], np.full(4, 0.5)) == pytest.approx(0.25)


@given(st.integers(0, 99))
def test_no_order_is_better_than_the_wrong_ones_last(seed):
    rng = np.random.default_rng(seed)
    right = rng.random(30) < 0.7
    best, worst = risk_coverage_area(right, right), risk_coverage_area(right, ~right)
    assert best - 1e-12 <= risk_coverage_area(right, rng.random(30)) <= worst + 1e-12
