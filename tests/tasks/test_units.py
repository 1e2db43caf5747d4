"""Results are what the model sees, and say so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

import genevae as gv
from genevae.errors import DataError


@pytest.fixture(scope="module")
def cells(make_adata: Callable[..., AnnData]) -> AnnData:
    return make_adata(240)


@pytest.fixture(scope="module")
def gaussian(cells: AnnData) -> gv.Trained:
    return gv.fit(cells, recipe="gaussian", condition=["type"], epochs=60, batch_size=32, hidden=[32], progress=False)


def test_a_gaussian_model_of_counts_output_kind_log_normalised_values(gaussian: gv.Trained, cells: AnnData) -> None:
    x = cells.X.toarray()
    logged = np.log1p(1e4 * x / x.sum(1, keepdims=True))
    denoised = gv.denoise(gaussian, cells)
    answer = gv.counterfactual(gaussian, cells, condition={"type": "B"}, n_draws=5)
    made = gv.generate(gaussian, n=240)
    for result in (denoised, answer, made):
        assert result.uns["genevae"]["values"] == "log-normalised"
    generated = made.X.toarray() if sparse.issparse(made.X) else made.X
    for mean_g in (denoised.X.mean(0), generated.mean(0)):
        np.testing.assert_allclose(mean_g, logged.mean(0), atol=0.8)
    mean_g = answer.layers["mean"].mean(0)
    assert mean_g[5:10].min() > max(mean_g[:5].max(), mean_g[10:15].max()), "B's markers exceed those of A and C"


def test_counts_that_a_model_sees_as_shares_are_moved_as_counts(cells: AnnData) -> None:
    model = gv.fit(cells, recipe="convolutional", condition=["type"], epochs=30, batch_size=32, progress=False)
    asked = cells[(cells.obs["type"] == "A").to_numpy()].copy()
    same, other = (gv.counterfactual(model, asked, condition={"type": name}) for name in "AB")
    assert np.array_equal(same.X, asked.X.toarray())
    moved = other.X
    assert (moved >= 0).all()
    assert np.array_equal(moved, moved.round())
    np.testing.assert_allclose(moved.sum(1).mean(), asked.X.sum(1).mean(), rtol=0.1)
    assert moved[:, 5:10].mean() > 1.5 * same.X[:, 5:10].mean(), "B's markers rise"


def test_a_model_of_counts_says_counts(tiny_model: gv.Trained) -> None:
    assert gv.generate(tiny_model, n=5).uns["genevae"]["values"] == "counts"


def test_a_size_is_refused_where_it_means_nothing(gaussian: gv.Trained, cells: AnnData) -> None:
    with pytest.raises(DataError, match="log-normalised"):
        gv.denoise(gaussian, cells, size=1000)
    with pytest.raises(DataError, match="log-normalised"):
        gv.generate(gaussian, n=5, size=1000)
