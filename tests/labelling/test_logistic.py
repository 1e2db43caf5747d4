"""Logistic regression beside scikit-learn, and products of experts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from genevae.labelling.logistic import Logistic, combined, log_softmax, member_weights


def blobs(n: int, n_categories: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    code_n = np.arange(n) % n_categories
    centre = 2 * rng.normal(size=(n_categories, 5))
    return centre[code_n] + rng.normal(size=(n, 5)) * [1, 10, 0.1, 3, 1], code_n


@pytest.mark.parametrize(("penalty", "n_categories"), [(1.0, 3), (10.0, 4)])
def test_it_is_that_of_scikit_learn(penalty, n_categories):
    z_nk, code_n = blobs(120, n_categories)
    found = Logistic.fit(z_nk, code_n, n_categories, penalty).log_probability_nc(z_nk)
    unit_nk = (z_nk - z_nk.mean(0)) / z_nk.std(0)
    oracle = LogisticRegression(C=1 / penalty, max_iter=5000, tol=1e-8).fit(unit_nk, code_n)
    np.testing.assert_allclose(np.exp(found), oracle.predict_proba(unit_nk), atol=2e-3)


def test_a_category_without_cells_is_not_predicted():
    z_nk, code_n = blobs(60, 2)
    found = Logistic.fit(z_nk, 2 * code_n, 4, 1.0).log_probability_nc(z_nk)
    assert (np.exp(found)[:, [1, 3]] < 1e-10).all()
    assert (found.argmax(1) == 2 * code_n).mean() > 0.8


@given(st.integers(0, 10_000), st.integers(0, 2))
def test_a_product_contains_each_member(seed, which):
    members = [log_softmax(each) for each in np.random.default_rng(seed).normal(size=(3, 8, 4))]
    np.testing.assert_allclose(combined(members, np.eye(3)[which]), members[which], atol=1e-12)


@given(st.integers(0, 10_000))
def test_fitted_weights_are_no_worse_than_any_member_and_ignore_noise(seed):
    rng = np.random.default_rng(seed)
    code_n = rng.integers(4, size=300)
    good, noise = (log_softmax(s * np.eye(4)[code_n] + rng.normal(size=(300, 4))) for s in (2.0, 0.0))
    weight_m = member_weights([good, noise], code_n, np.array([0.3, 0.3]), 0.01)
    assert (weight_m >= 0).all()
    assert weight_m[1] < weight_m[0] / 2

    def loss(log_p):
        return -log_p[np.arange(300), code_n].sum()

    assert loss(combined([good, noise], weight_m)) <= min(loss(good), loss(noise)) + 0.1


def test_without_cells_weights_are_the_prior():
    nothing = np.empty((0, 3))
    np.testing.assert_allclose(
        member_weights([nothing, nothing], np.empty(0, dtype=np.int64), np.array([0.7, 0.2]), 1.0), [0.7, 0.2]
    )
