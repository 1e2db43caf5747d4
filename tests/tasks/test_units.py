"""Results are in the units of the data, whatever the model saw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

import genevae as gv
from genevae.recipes.fit import fit


@pytest.fixture(scope="module")
def cells(make_adata: Callable[..., AnnData]) -> AnnData:
    return make_adata(240)


@pytest.fixture(scope="module")
def gaussian(cells: AnnData) -> gv.Trained:
    return fit(cells, recipe="gaussian", condition=["type"], epochs=60, batch_size=32, hidden=[32], progress=False)


def dense(x: object) -> np.ndarray:
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def test_a_gaussian_model_of_counts_denoises_to_counts(gaussian: gv.Trained, cells: AnnData) -> None:
    counts, denoised = dense(cells.X), gv.denoise(gaussian, cells).X
    assert (denoised >= 0).all()
    typical = np.median(denoised.sum(1) / counts.sum(1))
    assert 0.7 < typical < 1.3
    np.testing.assert_allclose(
        gv.denoise(gaussian, cells, size=1000).X, gv.denoise(gaussian, cells, size=500).X * 2, rtol=1e-4
    )


def test_a_gaussian_model_of_counts_generates_on_the_scale_of_counts(gaussian: gv.Trained, cells: AnnData) -> None:
    made = dense(gv.generate(gaussian, n=300, condition={"type": "A"}).X)
    real = dense(cells[cells.obs["type"] == "A"].X)
    assert (made >= 0).all()
    assert np.corrcoef(made.mean(0), real.mean(0))[0, 1] > 0.9
    assert 0.5 < made.sum(1).mean() / real.sum(1).mean() < 2


def test_a_gaussian_model_of_counts_answers_in_counts(gaussian: gv.Trained, cells: AnnData) -> None:
    answer = gv.counterfactual(gaussian, cells, condition={"type": "B"}, n_draws=5)
    real = dense(cells[cells.obs["type"] == "B"].X).mean(0)
    assert np.corrcoef(np.asarray(answer.X).mean(0), real)[0, 1] > 0.9
    assert (answer.layers["lower"] <= answer.layers["upper"] + 1e-5).all()


def test_a_model_of_log_values_answers_in_log_values(cells: AnnData) -> None:
    logged = cells.copy()
    x = dense(cells.X)
    logged.X = np.log1p(1e4 * x / x.sum(1, keepdims=True)).astype(np.float32)
    model = fit(logged, recipe="gaussian", epochs=60, batch_size=32, hidden=[32], progress=False)
    denoised = gv.denoise(model, logged).X
    assert denoised.max() < 12
    assert np.corrcoef(denoised.mean(0), logged.X.mean(0))[0, 1] > 0.95
