"""A model that contains principal components: where it starts, what it keeps, and samples that lack genes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import genevae as gv
from genevae.objectives.masking import mask_genes
from genevae.tasks.inference import open_cells

OPTIONS = {"progress": False, "device": "cpu", "validation": 0, "seed": 0}


@pytest.fixture(scope="module")
def model_and_cells(make_adata):
    adata = make_adata(150)
    model = gv.fit(
        adata,
        "bulk",
        epochs=1,
        setting={"components": True, "n_latent": 5, "learning_rate": 1e-9, "dropout": 0},
        **OPTIONS,
    )
    (cells,) = open_cells(model, adata, None, 150)
    return model, cells


def test_latents_start_as_principal_components(model_and_cells):
    model, cells = model_and_cells
    x_ng = cells.x.dense().double().numpy()
    _, size_k, axis_kg = np.linalg.svd(x_ng, full_matrices=False)
    with torch.no_grad():
        z_nk = model.module.posterior(cells).mean.double().numpy()
    scores = x_ng @ axis_kg[:5].T / np.sqrt(np.square(size_k[:5]).mean() / len(x_ng))
    assert np.allclose(np.abs(z_nk), np.abs(scores), atol=2e-3)
    assert np.square(z_nk).mean() == pytest.approx(1, abs=0.01)
    with torch.no_grad():
        mean_ng = model.module.likelihood(torch.from_numpy(z_nk).float(), cells.condition).mean.numpy()
    residual_ng = mean_ng - x_ng @ axis_kg[:5].T @ axis_kg[:5]
    assert np.ptp(residual_ng, axis=0).max() < 1e-2, "up to an intercept of each gene"


def test_a_sample_that_lacks_genes_has_the_scores_that_fit_the_others_best(model_and_cells):
    model, cells = model_and_cells
    weight_gk = model.module._posterior.weight_gk
    true_nk = torch.randn(150, 5, generator=torch.Generator().manual_seed(0))
    x_ng = true_nk @ model.module._likelihood.weight_kg  # in the span of the components
    torch.manual_seed(1)
    hidden = mask_genes(type(cells)(type(cells.x).from_dense(x_ng), cells.condition, cells.row_n), 0.3)
    with torch.no_grad():
        scores_nk = model.module._posterior._scores(hidden)
    assert torch.allclose(scores_nk, x_ng @ weight_gk, atol=0.05)
    assert not torch.allclose(hidden.x.dense() @ weight_gk, x_ng @ weight_gk, atol=0.5)


def test_training_keeps_the_components_and_learns_corrections(make_adata, tmp_path):
    adata = make_adata(150)
    model = gv.fit(
        adata, "bulk", epochs=3, setting={"components": True, "n_latent": 5}, out=tmp_path / "run", **OPTIONS
    )
    start = gv.fit(adata, "bulk", epochs=1, setting={"components": True, "n_latent": 5}, **OPTIONS)
    for name in ("_posterior.weight_gk", "_likelihood.weight_kg"):
        assert torch.equal(model.module.state_dict()[name], start.module.state_dict()[name])
    assert model.module._likelihood.mean.weight.abs().max() > 0
    assert torch.equal(gv.load(tmp_path / "run").module._posterior.weight_gk, model.module._posterior.weight_gk)
