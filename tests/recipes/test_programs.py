"""Recipes linear and programs: loadings and scores, what a mask and a lasso do, and sets that are told from others."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import genevae as gv
from genevae.cli import main
from genevae.errors import CategoryError, DataError, GeneError, RecipeError
from genevae.tasks.programs import loadings, program_scores

FAST = {"epochs": 25, "batch_size": 32, "hidden": [32], "learning_rate": 5e-3, "progress": False}
SETS = {
    "of the drug": [f"G{i}" for i in range(20, 25)],
    "of type A": [f"G{i}" for i in range(5)],
    "of nothing": [f"G{i}" for i in (15, 16, 17, 18, 19)],
    "of other data": ["X1", "X2"],
}


@pytest.fixture(scope="module")
def cells(make_adata):
    return make_adata(300, seed=7)


@pytest.fixture(scope="module")
def model(cells):
    with pytest.warns(gv.GenevaeWarning, match="1 of 4 gene sets have fewer than 5"):
        return gv.fit(cells, "programs", gene_sets=SETS, n_latent=1, **FAST)


def test_a_program_loads_on_its_genes_alone(model):
    table = loadings(model)
    assert list(table.columns) == ["of the drug", "of type A", "of nothing", "free 1"]
    for name in table.columns[:3]:
        assert set(table.index[table[name] != 0]) == set(SETS[name])
    assert (table["free 1"] != 0).all()
    assert (table.sum() >= 0).all()


def test_a_set_that_is_called_as_a_free_factor_keeps_its_name(model, cells):
    (_, genes), *rest = model.schema.programs
    called = replace(model, schema=replace(model.schema, programs=(("free 1", genes), *rest)))
    scores = program_scores(called, cells)
    assert list(scores.var_names) == ["free 1", *(name for name, _ in rest), "free 2"]
    assert np.array_equal(scores.X, program_scores(model, cells).X)


def test_the_set_of_the_drug_comes_first_and_that_of_nothing_is_weak(model, cells):
    found = model.program_scores(cells, group_by="drug", group1="stim", group2="ctrl")
    assert found.var_names[0] == "of the drug"
    assert found.var["probability"].iloc[0] > 0.8
    assert found.var["strength"].idxmin() == "of nothing"
    back = program_scores(model, cells, group_by="drug", group1="ctrl").var
    assert back.loc["of the drug", "probability"] == pytest.approx(1 - found.var["probability"].iloc[0], abs=0.03)
    plain = program_scores(model, cells)
    assert list(plain.var_names) == list(loadings(model).columns)
    z = model.embed(cells).obsm["X_genevae"]
    np.testing.assert_allclose(np.abs(plain.X), np.abs(z), atol=1e-6)
    high = plain.X[:, 0] > np.median(plain.X[:, 0])
    mean_n = np.asarray(cells[:, SETS["of the drug"]].X.mean(1)).ravel()
    assert mean_n[high].mean() > mean_n[~high].mean(), "a high score means high genes"


def test_a_lasso_takes_programs_away(cells):
    sets = {name: genes for name, genes in SETS.items() if name != "of other data"}
    lengths = [
        np.linalg.norm(loadings(gv.fit(cells, "programs", gene_sets=sets, n_latent=1, setting={"lasso": lasso},
                                       **{**FAST, "epochs": 20})), axis=0).sum()
        for lasso in (0.0, 1.0)
    ]  # fmt: skip
    assert lengths[1] < 0.5 * lengths[0]


def test_the_mask_is_kept_in_the_folder_and_by_training_on(model, cells, tmp_path):
    model.save(tmp_path / "run")
    opened = gv.load(tmp_path / "run")
    pd.testing.assert_frame_equal(loadings(opened), loadings(model))
    assert opened.schema.programs == model.schema.programs
    sets = {name: genes for name, genes in SETS.items() if name != "of other data"}
    again = gv.fit(cells, from_run=tmp_path / "run", gene_sets=sets, **{**FAST, "epochs": 1})
    assert ((loadings(again) == 0) == (loadings(model) == 0)).all().all()


def test_linear_logits_are_the_loadings_times_the_latent(cells):
    model = gv.fit(cells, "linear", batch="lane", n_latent=3, **{**FAST, "epochs": 5})
    table = model.loadings()
    assert list(table.columns) == ["factor 1", "factor 2", "factor 3"]
    z_nk = torch.eye(4, 3)  # each factor alone, and none
    condition = model.reference.condition.map(lambda t: t[[0, 0, 0, 0]])
    logit_ng = model.module.likelihood(z_nk, condition).mean.detach().log().numpy()
    moved_gk = (logit_ng[:3] - logit_ng[3]).T
    expected_gk = table.to_numpy()
    sign_k = np.sign([np.corrcoef(moved_gk[:, k], expected_gk[:, k])[0, 1] for k in range(3)])
    centred = [x - x.mean(0) for x in (moved_gk * sign_k, expected_gk)]  # a softmax has no use for the mean
    np.testing.assert_allclose(*centred, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*gene sets have fewer")
def test_a_config_file_lists_the_sets_that_a_fit_was_given(model, cells, tmp_path):
    model.save(tmp_path / "run")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    main(["fit", str(tmp_path / "cells.h5ad"), "--config", str(tmp_path / "run" / "config.toml"), "--epochs", "1",
          "--out", str(tmp_path / "again")])  # fmt: skip
    assert gv.load(tmp_path / "again").schema.programs == model.schema.programs


@pytest.mark.filterwarnings("ignore:.*gene sets have fewer")
def test_mistakes_are_explained(model, cells, tmp_path):
    with pytest.raises(RecipeError, match=r"--gene-sets FILE\.gmt"):
        gv.fit(cells, "programs", **FAST)
    with pytest.raises(RecipeError, match="nb has no gene sets"):
        gv.fit(cells, "nb", gene_sets=SETS, **FAST)
    with pytest.raises(GeneError, match="None of the 1 gene sets has 5"):
        gv.fit(cells, "programs", gene_sets={"other": ["X1", "X2"]}, **FAST)
    with pytest.raises(DataError, match="no loadings"):
        loadings(gv.fit(cells, **{**FAST, "epochs": 1}))
    with pytest.raises(CategoryError, match="'stm' is not a group of 'drug'"):
        program_scores(model, cells, group_by="drug", group1="stm")
    with pytest.raises(CategoryError, match="--group-by"):
        program_scores(model, cells, group1="stim")
    with pytest.raises(CategoryError, match="no other group"):
        program_scores(model, cells, group_by="drug", group1="stim", group2="stim")
    with pytest.raises(CategoryError, match="--group1"):
        program_scores(model, cells, group_by="drug")


@pytest.mark.filterwarnings("ignore:.*gene sets have fewer")
def test_interferon_comes_first_in_cells_with_interferon(shared_data, tmp_path, capsys):
    """A story on real data: the hallmark gene sets in blood cells with and without interferon β."""
    adata = ad.read_h5ad(shared_data("kang_merged.h5ad"))
    adata.obs_names_make_unique()
    adata = adata[np.arange(adata.n_obs) % 3 == 0].copy()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    sets, run = str(shared_data("annot/human_hallmark_v2025.gmt")), str(tmp_path / "run")
    main(["fit", str(tmp_path / "cells.h5ad"), "--recipe", "programs", "--gene-sets", sets, "--genes", "1000",
          "--epochs", "15", "--out", run])  # fmt: skip
    main(["program-scores", run, str(tmp_path / "cells.h5ad"), "--group-by", "condition", "--group1", "stim",
          "--out", str(tmp_path / "scores.h5ad"), "--table", str(tmp_path / "programs.csv")])  # fmt: skip
    table = pd.read_csv(tmp_path / "programs.csv")
    of_sets = table[~table["program"].str.startswith("free")]
    assert "INTERFERON" in of_sets["program"].iloc[0]
    assert of_sets["probability"].iloc[0] > 0.6
    assert ad.read_h5ad(tmp_path / "scores.h5ad").shape == (adata.n_obs, len(table))
    main(["loadings", run, "--out", str(tmp_path / "loadings.csv")])
    assert "INTERFERON" in capsys.readouterr().out
