"""Generated values are those of training cells, in the order that the model gives them."""

from __future__ import annotations

import numpy as np
import pytest

import genevae as gv


def dense(adata):
    return adata.to_df().to_numpy()


@pytest.fixture(scope="module", params=["nb", "gaussian"])
def model_and_cells(request, make_adata):
    adata = make_adata(400)
    adata.X = np.asarray(adata.to_df(), dtype=np.float32)
    options = {"condition": ["type"], "epochs": 3, "progress": False, "device": "cpu", "validation": 0}
    return gv.fit(adata, request.param, **options), adata


def test_every_gene_has_the_values_that_training_cells_have(model_and_cells):
    model, adata = model_and_cells
    kinds = adata.obs["type"].astype(str).to_numpy()
    real = dense(adata) if model.schema.output_kind.is_count else None
    for kind in sorted(set(kinds)):
        x_ng = dense(gv.generate(model, n=1500, condition={"type": kind}))
        marginals = [m for n, m in enumerate(model.reference.clusters.marginals) if _kind(model, n) == kind]
        for gene in range(x_ng.shape[1]):
            seen = np.concatenate([m.value_e[m.gene_e == gene] for m in marginals]).astype(np.float32)
            assert np.isin(x_ng[:, gene].astype(np.float32), seen).all()
        if real is not None:
            here = real[kinds == kind]
            assert np.allclose((x_ng == 0).mean(0), (here == 0).mean(0), atol=0.05)
            error_g = here.std(0) * np.sqrt(1 / len(here) + 1 / 1500)
            assert (np.abs(x_ng.mean(0) - here.mean(0)) < 5 * error_g + 0.02 * here.mean(0)).all()


def _kind(model, number):
    code_n = model.reference.condition.codes["type"][model.reference.clusters.cluster_n == number]
    return model.schema.categorical_field("type").labels[int(code_n[0])]


def test_one_cell_many_cells_and_saved_models(model_and_cells, tmp_path):
    model, _ = model_and_cells
    assert gv.generate(model, n=1).n_obs == 1
    gv.save(model, tmp_path / "run")
    made = [dense(gv.generate(each, n=60, seed=3)) for each in (model, model, gv.load(tmp_path / "run"))]
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])
    gv.generate(model, n=60, seed=3, batch_size=7, out=tmp_path / "cells.h5ad")
    assert dense(gv.read(tmp_path / "cells.h5ad")).shape == made[0].shape


def test_without_the_copula_values_are_the_models_own(model_and_cells):
    model, _ = model_and_cells
    with_it, without = (gv.generate(model, n=300, copula=copula, seed=1) for copula in (True, False))
    assert with_it.obs.equals(without.obs), "the same cells"
    seen = np.unique(np.concatenate([each.value_e for each in model.reference.clusters.marginals]).astype(np.float32))
    inside = [np.isin(dense(made).astype(np.float32), seen).mean() for made in (with_it, without)]
    assert inside[0] == 1
    assert inside[1] < 1


def test_a_combination_that_was_never_seen_has_the_models_values(make_adata):
    adata = make_adata(400)
    adata = adata[~((adata.obs["type"] == "A") & (adata.obs["drug"] == "stim")).to_numpy()].copy()
    model = gv.fit(adata, condition=["type", "drug"], epochs=1, progress=False, device="cpu")
    unseen = {"type": "A", "drug": "stim"}
    plain, mapped = (dense(gv.generate(model, n=50, condition=unseen, copula=copula)) for copula in (False, True))
    assert np.array_equal(plain, mapped)


def test_a_category_of_one_cell_has_cells_like_it(make_adata):
    adata = make_adata(120)
    adata.obs["type"] = adata.obs["type"].astype(str)
    adata.obs.iloc[0, adata.obs.columns.get_loc("type")] = "rare"
    model = gv.fit(adata, condition="type", epochs=2, progress=False, validation=0)
    assert np.isfinite(dense(gv.generate(model, n=6, condition={"type": "rare"}))).all()
