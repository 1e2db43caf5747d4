"""Principal components are those of the whole decomposition, of dense rows and of sparse ones."""

import numpy as np
import pytest
from scipy import sparse

from genevae.metrics.principal import Principal

RNG = np.random.default_rng(0)
X = np.where(RNG.random((60, 12)) < 0.4, RNG.normal(size=(60, 12)) * np.linspace(8, 1, 12), 0.0)


@pytest.fixture(params=[np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def rows(request):
    return request.param


def test_axes_are_those_of_the_singular_value_decomposition(rows):
    found = Principal.fit(rows(X), 3)
    _, s, axis_kg = np.linalg.svd(X - X.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs((found.axis_kg * axis_kg[:3]).sum(1)), 1, atol=1e-6)
    np.testing.assert_allclose(found.scale_k, s[:3] / np.sqrt(59), rtol=1e-6)


def test_cells_are_placed_by_what_they_differ_in_from_the_mean(rows):
    found = Principal.fit(rows(X), 3)
    np.testing.assert_allclose(found.embed(rows(X)), (X - X.mean(0)) @ found.axis_kg.T, atol=1e-9)
    np.testing.assert_allclose(found.embed(rows(X)).std(0, ddof=1), found.scale_k, rtol=1e-6)


def test_loadings_rebuild_the_covariance_of_what_varies_in_as_many_directions():
    flat = RNG.normal(size=(50, 2)) @ RNG.normal(size=(2, 6))
    loading_gk = Principal.fit(flat, 2).loading_gk
    np.testing.assert_allclose(loading_gk @ loading_gk.T, np.cov(flat.T), atol=1e-6)


def test_all_axes_rebuild_the_cells():
    found = Principal.fit(X, 100)
    assert found.axis_kg.shape == (12, 12)
    np.testing.assert_allclose(found.reconstruct(X), X, atol=1e-6)
