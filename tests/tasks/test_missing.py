"""Cells that lack genes, a technical batch or labels that the model was given."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import genevae as gv
from genevae.errors import CategoryError, GeneError, GenevaeWarning


@pytest.fixture(scope="module")
def adata():
    """Two kinds of cells that differ in half of their genes, in three batches of different sizes."""
    rng = np.random.default_rng(0)
    kind_n = np.arange(240) % 2
    mean_kg = np.array([np.where(np.arange(30) < 15, 8.0, 1.0), np.where(np.arange(30) < 15, 1.0, 8.0)])
    obs = pd.DataFrame(
        {"kind": np.array(["B", "T"])[kind_n], "site": ["x"] * 120 + ["y"] * 80 + ["z"] * 40},
        index=[f"cell_{i}" for i in range(240)],
    )
    found = ad.AnnData(rng.poisson(mean_kg[kind_n]).astype("float32"), obs=obs)
    found.var_names = [f"g{i}" for i in range(30)]
    return found


@pytest.fixture(scope="module")
def plain(adata):
    return gv.fit(adata, epochs=20, progress=False)


def test_missing_genes_are_not_zeros(adata, plain):
    """The latent of cells without some genes is nearer to their own than with zeros in the place of these genes."""
    full = plain.embed(adata).obsm["X_genevae"]
    kept = [f"g{i}" for i in range(30) if i % 3]
    with pytest.warns(GenevaeWarning, match="lacks 10 of the 30 genes of the model"):
        without = plain.embed(adata[:, kept].copy()).obsm["X_genevae"]
    zeros = adata.copy()
    zeros.X[:, ::3] = 0
    of_zeros = plain.embed(zeros).obsm["X_genevae"]
    assert np.square(without - full).mean() < 0.5 * np.square(of_zeros - full).mean()


@pytest.mark.filterwarnings("ignore:.*lacks")
def test_missing_genes_are_predicted(adata, plain):
    kept = [f"g{i}" for i in range(30) if i % 3]
    predicted = plain.denoise(adata[:, kept].copy())
    assert list(predicted.var_names) == list(adata.var_names)
    missing_n = (predicted[:, "g0"].X > predicted[:, "g18"].X).ravel()
    assert (missing_n == (adata.obs["kind"] == "B")).mean() > 0.95
    total_n = predicted.X.sum(1)
    assert np.abs(total_n / np.asarray(adata.X.sum(1)) - 1).mean() < 0.15, "the size counts the missing genes too"


def test_too_few_genes_are_a_mistake(adata, plain):
    with pytest.raises(GeneError, match="lacks 24 of the 30"):
        plain.embed(adata[:, :6].copy())


def test_cells_of_a_new_batch_are_of_an_unknown_one(adata):
    model = gv.fit(adata, batch="site", epochs=2, progress=False)
    unknown = model.schema.unknown["site"]
    new = adata[:10].copy()
    del new.obs["site"]
    with pytest.warns(GenevaeWarning, match="10 cells have no site: .* of an unknown one, which the model has learned"):
        found = model.embed(new).obsm["X_genevae"]
    new.obs["site"] = "elsewhere"
    with pytest.warns(GenevaeWarning, match="10 cells have another site than the training cells"):
        assert np.array_equal(model.embed(new).obsm["X_genevae"], found)
    new.obs["site"] = np.nan
    with pytest.warns(GenevaeWarning, match="10 cells have no site: they are"):
        assert np.array_equal(model.embed(new).obsm["X_genevae"], found)
    weights = {name: w for name, w in model.module.named_parameters() if len(w) == unknown + 1}
    fresh = dict(model.recipe.build(model.schema).named_parameters())
    assert weights
    assert not any(w[unknown].equal(fresh[name][unknown]) for name, w in weights.items())
    adata = adata.copy()
    adata.obs["site"] = adata.obs["site"].astype(object).where(np.arange(adata.n_obs) > 3)
    with pytest.raises(CategoryError, match="is empty in 4 of"):
        gv.fit(adata, batch="site", epochs=1, progress=False)


def test_cells_of_a_new_batch_are_taken_as_of_the_commonest(adata):
    model = gv.fit(adata, batch="site", epochs=2, setting={"batch_dropout": 0}, progress=False)
    known = model.embed(adata[:10]).obsm["X_genevae"]
    new = adata[:10].copy()
    new.obs["site"] = "elsewhere"
    with pytest.warns(GenevaeWarning, match="10 cells have another site .* treated as x"):
        assert np.array_equal(model.embed(new).obsm["X_genevae"], known)
    del new.obs["site"]
    with pytest.warns(GenevaeWarning, match="10 cells have no site"):
        assert np.array_equal(model.embed(new).obsm["X_genevae"], known)
    with pytest.raises(CategoryError, match="elsewhere"):
        model.counterfactual(adata[:10], {"site": "elsewhere"})


def test_cells_without_labels_have_the_predicted_ones(adata):
    model = gv.fit(adata, condition="kind", epochs=5, progress=False)
    labelled = model.embed(adata[:20]).obsm["X_genevae"]
    new = adata[:20].copy()
    new.obs["kind"] = new.obs["kind"].astype(object)
    new.obs.iloc[:10, 0] = ["unknown"] * 4 + [" "] + [None] * 5
    with pytest.warns(GenevaeWarning, match="10 cells have no kind: the model's predicted labels are used"):
        found = model.embed(new)
    assert np.allclose(found.obsm["X_genevae"], labelled, atol=1e-6), "the two kinds are easily told apart"
    new.obs["kind"] = "other"
    with pytest.raises(CategoryError, match="other"):
        model.embed(new)


def test_two_labels_are_missing_at_once(adata):
    """Each is predicted as if the other were the commonest."""
    adata = adata.copy()
    adata.obs["region"] = np.where(np.arange(240) % 4 < 2, "left", "right")
    adata.X[:, 10:20] *= (np.arange(240) % 4 < 2)[:, None] * 3.0 + 1
    model = gv.fit(adata, condition=["kind", "region"], epochs=3, progress=False)
    new = adata.copy()
    del new.obs["kind"], new.obs["region"]
    with pytest.warns(GenevaeWarning, match="have no"):
        found = gv.classify(model, new, "kind")
    assert (found["label"] == adata.obs["kind"]).mean() > 0.95
    with pytest.warns(GenevaeWarning) as told:
        model.embed(new)
    assert {str(each.message).split(":")[0] for each in told} == {f"240 cells have no {n}" for n in ("kind", "region")}
