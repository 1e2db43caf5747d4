"""Recipe semi: cells of which some have a label."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import genevae as gv
from genevae.cli import main
from genevae.errors import GenevaeError, RecipeError

FAST = {"epochs": 15, "batch_size": 32, "n_latent": 4, "hidden": [16], "learning_rate": 5e-3, "progress": False}


@pytest.fixture(scope="module")
def partly(make_adata):
    """A tenth of the cells has a label."""
    adata = make_adata(300, seed=5)
    adata.obs["label"] = np.where(np.arange(300) % 10 == 0, adata.obs["type"].astype(str), "not known")
    return adata


@pytest.fixture(scope="module")
def model(partly):
    return gv.fit(partly, "semi", labels="label", unlabelled="not known", batch="lane", **FAST)


def test_missing_labels_are_inferred(model, partly):
    assert model.schema["label"].labels == ("A", "B", "C", "unknown")
    for method in ("stack", "posterior"):
        found = gv.classify(model, partly, "label", method=method)["label"]
        assert (found == partly.obs["type"].astype(str)).mean() > 0.9, method


def test_the_latent_does_not_depend_on_the_labels_that_are_given(model, partly):
    """The posterior sees expression alone, so that labels of new cells change nothing."""
    without = partly.copy()
    del without.obs["label"]
    z = model.embed(partly).obsm["X_genevae"]
    assert np.array_equal(model.embed(without).obsm["X_genevae"], z)
    kind = partly.obs["type"].to_numpy()
    middle = np.stack([z[kind == name].mean(0) for name in "ABC"])
    nearest = np.array(list("ABC"))[np.square(z[:, None] - middle).sum(-1).argmin(1)]
    assert (nearest == kind).mean() > 0.9


def test_missing_values_are_labels_that_are_missing(partly):
    adata = partly.copy()
    adata.obs["label"] = adata.obs["label"].where(adata.obs["label"] != "not known", None)
    model = gv.fit(adata, "semi", labels="label", **{**FAST, "epochs": 2})
    assert model.schema["label"].labels == ("A", "B", "C", "unknown")
    assert model.schema.batch is None, "a batch is not needed"


def test_a_query_is_mapped(model, partly):
    new = partly[:60].copy()
    new.obs["lane"] = "l3"
    found = model.map_query(new)
    assert found.model.schema["lane"].categories == ("l1", "l2", "l3")
    assert (found.query.obs["label_predicted"] == new.obs["type"].astype(str)).mean() > 0.8
    assert np.array_equal(found.model.embed(partly).obsm["X_genevae"], model.embed(partly).obsm["X_genevae"])


def test_weights_go_on_by_the_names_of_the_conditions(model, partly, tmp_path):
    """The likelihood embeds the conditions without the label, so that places differ from those of the schema."""
    model.save(tmp_path / "run")
    again = gv.fit(partly, from_run=tmp_path / "run", labels="label", unlabelled="not known", batch="lane",
                   **{**FAST, "epochs": 1, "learning_rate": 1e-12})  # fmt: skip
    name = "_likelihood.decoder.conditioning.embeddings.0.weight"
    np.testing.assert_allclose(again.module.state_dict()[name], model.module.state_dict()[name], atol=1e-6)
    assert again.facts["from"]["weights"] == again.facts["from"]["of"]


def test_mistakes_are_explained(partly):
    with pytest.raises(RecipeError, match="Use the recipe semi"):
        gv.fit(partly, "nb", labels="label", unlabelled="not known", **FAST)
    with pytest.raises(RecipeError, match="--labels cell_type"):
        gv.fit(partly, "semi", batch="lane", **FAST)


def test_few_labels_of_blood_cells(shared_data, tmp_path):
    """A story on real data: three cells in a hundred have a label."""
    adata = ad.read_h5ad(shared_data("pbmc_3tech_symphony.h5ad"))
    true = adata.obs["cell_type_broad"].astype(str)
    adata.obs["cell_type"] = np.where(np.arange(adata.n_obs) % 33 == 0, true, "Unknown")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    main(["fit", str(tmp_path / "cells.h5ad"), "--recipe", "semi", "--labels", "cell_type", "--unlabelled", "Unknown",
          "--batch", "batch", "--epochs", "8", "--genes", "500", "--out", str(tmp_path / "run")])  # fmt: skip
    main(["classify", str(tmp_path / "run"), str(tmp_path / "cells.h5ad"), "--out", str(tmp_path / "labels.csv")])
    import pandas as pd

    found = pd.read_csv(tmp_path / "labels.csv")["label"].to_numpy()
    assert (found == true.to_numpy()).mean() > true.value_counts(normalize=True).iloc[0] + 0.25


def test_a_value_for_no_label_that_no_cell_has_is_answered(make_adata):
    adata = make_adata(60)
    with pytest.raises(GenevaeError, match="No cell has the value 'Unknwn'"):
        gv.fit(adata, "semi", labels="type", unlabelled="Unknwn", epochs=1, progress=False)
    adata.obs["none"] = "Unknown"
    with pytest.raises(GenevaeError, match="No cell has a label in 'none'"):
        gv.fit(adata, "semi", labels="none", unlabelled="Unknown", epochs=1, progress=False)
