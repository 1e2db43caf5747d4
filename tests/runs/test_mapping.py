"""Mapping new cells: what stays the same to the bit, what is learned, and what is said of mistakes."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pytest

import genevae as gv
from genevae.cli import main
from genevae.errors import CategoryError, DataError, RunError
from genevae.runs.mapping import QUERY_FILE, map_query

FAST = {"epochs": 20, "batch_size": 32, "n_latent": 4, "hidden": [16], "learning_rate": 5e-3, "progress": False}


@pytest.fixture(scope="module", autouse=True)
def fewer_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genevae.runs.mapping.STEPS", 150)
        yield


@pytest.fixture(scope="module")
def cells(make_adata):
    """Return cells of three lanes: the third is like the second, and more so, in the genes that depend on it."""
    adata = make_adata(360, seed=2)
    lane = np.array(["l1", "l2", "l3"])[np.arange(360) % 3]
    rng = np.random.default_rng(0)
    x_ng = adata.X.toarray()
    x_ng[:, 25:] = rng.poisson(np.array([1.0, 3.0, 9.0])[np.arange(360) % 3][:, None], (360, 5))
    adata.X = x_ng
    adata.obs["lane"] = lane
    return adata


@pytest.fixture(scope="module")
def query(cells):
    return cells[(cells.obs["lane"] == "l3").to_numpy()].copy()


@pytest.fixture(scope="module", params=["nb", pytest.param("adversarial", marks=pytest.mark.slow)])
def reference(request, cells):
    """Return a model of two lanes; of one recipe, categories may be unknown and the latent is corrected."""
    setting = {"category_dropout": 0.1} if request.param == "adversarial" else {"dispersion": "gene-category"}
    known = cells[(cells.obs["lane"] != "l3").to_numpy()].copy()
    model = gv.fit(known, request.param, batch="lane", condition="type", setting=setting, **FAST)
    return model, known


@pytest.fixture(scope="module")
def mapped(reference, query):
    return reference[0].map_query(query)


def test_the_reference_does_not_move_by_a_bit(reference, mapped):
    model, known = reference
    old, new = (gv.embed(each, known).obsm["X_genevae"] for each in (model, mapped.model))
    assert np.array_equal(old, new)
    assert np.array_equal(gv.denoise(model, known).X, gv.denoise(mapped.model, known).X)
    assert model.schema["lane"].categories == ("l1", "l2")


def test_only_the_new_rows_are_learned(reference, mapped):
    old, new = reference[0].module.state_dict(), mapped.model.module.state_dict()
    larger = {name for name in old if old[name].shape != new[name].shape}
    assert larger
    assert all("embeddings" in name or "log_theta" in name for name in larger)
    for name in old:
        kept = new[name][:2] if name in larger else new[name]
        assert np.array_equal(old[name][:2] if name in larger else old[name], kept), name


def test_the_new_batch_is_learned(reference, query, mapped):
    """The genes that depend on the lane are expected as the query has them, and not as the lanes that were known."""
    observed = np.asarray(query[:, 25:].X).mean()
    learned = gv.denoise(mapped.model, query)[:, -5:].X.mean()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gv.GenevaeWarning)
        before = gv.denoise(reference[0], query)[:, -5:].X.mean()
    assert abs(learned - observed) < 0.7 * abs(before - observed)


def test_labels_and_support_do_not_use_the_labels_of_the_query(reference, query, mapped):
    obs = mapped.query.obs
    assert (obs["type_predicted"] == obs["type"]).mean() > 0.9
    assert obs["support"].between(0, 1).all()
    shuffled = query.copy()
    shuffled.obs["type"] = np.roll(shuffled.obs["type"].to_numpy(), 7)
    again = reference[0].map_query(shuffled).query
    assert again.obs["type_predicted"].tolist() == obs["type_predicted"].tolist()
    assert np.array_equal(again.obsm["X_genevae"], mapped.query.obsm["X_genevae"]), "same seed, same bits"


def test_cells_unlike_the_reference_have_no_support_and_no_label(reference, query):
    strange = query.copy()
    rng = np.random.default_rng(0)
    strange.X = rng.poisson(np.where(np.arange(30) % 2, 40.0, 0.1), strange.shape).astype(np.float32)
    found = reference[0].map_query(strange, unknown_above=0.95).query.obs
    usual = reference[0].map_query(query, unknown_above=0.95).query.obs
    assert found["support"].max() < 0.5 * usual["support"].median()
    assert (found["type_predicted"] == "unknown").mean() > 0.9 > 0.3 > (usual["type_predicted"] == "unknown").mean()


def test_a_query_without_genes_batch_and_labels_under_other_names(reference, query):
    model, _ = reference
    some = query[:, [i for i in range(30) if i % 2]].copy()
    del some.obs["lane"], some.obs["type"]
    with pytest.warns(gv.GenevaeWarning) as told:
        found = map_query(model, some)
    assert any("lacks 15 of the 30 genes" in str(each.message) for each in told)
    assert any("one new batch, 'query'" in str(each.message) for each in told)
    assert found.model.schema["lane"].categories == ("l1", "l2", "query")
    assert (found.query.obs["type_predicted"].to_numpy() == query.obs["type"].to_numpy()).mean() > 0.75
    named = query.copy()
    named.obs["site"] = "here"
    assert map_query(model, named, batch="site").model.schema["lane"].categories[-1] == "here"


def test_the_mapped_run_knows_both_and_is_a_run_as_any(reference, query, mapped, cells, tmp_path):
    model, _ = reference
    model.save(tmp_path / "run")
    query.write_h5ad(tmp_path / "query.h5ad")
    out = tmp_path / "mapped"
    main(["map", str(tmp_path / "run"), str(tmp_path / "query.h5ad"), "--out", str(out)])
    opened, written = gv.load(out), ad.read_h5ad(out / QUERY_FILE)
    assert opened.reference.n_cells == model.reference.n_cells + query.n_obs
    assert np.array_equal(written.obsm["X_genevae"], mapped.query.obsm["X_genevae"])
    assert np.array_equal(gv.embed(opened, cells).obsm["X_genevae"], gv.embed(mapped.model, cells).obsm["X_genevae"])
    assert opened.facts["mapped"]["new"] == {"lane": ["l3"]}
    assert gv.generate(opened, 5, {"lane": "l3"}).n_obs == 5
    twice = opened.map_query(cells[:40].copy(), batch="drug")
    assert twice.model.schema["lane"].categories == ("l1", "l2", "l3", "ctrl", "stim")
    with pytest.raises(SystemExit):
        main(["map", str(tmp_path / "run"), str(tmp_path / "query.h5ad"), "--out", str(out)])
    with pytest.raises(RunError, match="already exists"):
        map_query(model, query, out=out)


def test_fine_tuning_fits_the_query_better_and_leaves_the_given_model(reference, query, mapped):
    model, known = reference
    before = gv.embed(model, known).obsm["X_genevae"]
    tuned = model.map_query(query, fine_tune=True)
    assert np.array_equal(gv.embed(model, known).obsm["X_genevae"], before)
    assert not np.array_equal(gv.embed(tuned.model, known).obsm["X_genevae"], before)
    again = model.map_query(known, fine_tune=True)  # nothing is new
    assert np.array_equal(gv.embed(model, known).obsm["X_genevae"], before)
    assert again.model.schema == model.schema


def test_after_fine_tuning_the_reference_is_the_query(reference, query):
    tuned = reference[0].map_query(query, fine_tune=True)
    assert tuned.model.reference.n_cells == query.n_obs
    assert tuned.query.obs["support"].isna().all()


def test_columns_of_the_query_stay_as_they_are(reference, query):
    mine = query.copy()
    name = reference[0].schema.batch
    mine.obs["lab"] = "L1"
    mine.obs[name] = "mine"
    found = reference[0].map_query(mine, batch="lab").query
    assert (found.obs[name] == "mine").all()
    assert (found.obs["lab"] == "L1").all()
    with pytest.raises(DataError, match="has no cells to map"):
        reference[0].map_query(query[:0])


def test_mistakes_are_explained(reference, query, make_adata):
    model, _ = reference
    with pytest.raises(CategoryError, match="'lane' is not a label"):
        map_query(model, query, labels="lane")
    with pytest.raises(DataError, match="from 0 to 1"):
        map_query(model, query, threshold=2)
    gaps = query.copy()
    gaps.obs["lane"] = gaps.obs["lane"].astype(object)
    gaps.obs.iloc[:3, gaps.obs.columns.get_loc("lane")] = None
    with pytest.raises(CategoryError, match="empty in 3 of 120 cells"):
        map_query(model, gaps)
    plain = gv.fit(make_adata(60), epochs=1, progress=False)
    with pytest.raises(CategoryError, match="no technical batch"):
        map_query(plain, query, batch="lane")
    combined = gv.fit(make_adata(60), condition="drug", combine="drug", epochs=1, progress=False)
    new = query.copy()
    new.obs["drug"] = "another"
    with pytest.raises(CategoryError, match="another, would change the others"):
        map_query(combined, new)


@pytest.mark.filterwarnings("ignore:.*lacks")
def test_a_technology_is_mapped_to_two_others(shared_data, tmp_path):
    """A story on real data: blood cells of a third protocol, with half of the genes."""
    adata = ad.read_h5ad(shared_data("pbmc_3tech_symphony.h5ad"))
    adata.obs["label"] = adata.obs["cell_type_broad"].astype(str)
    is_query = (adata.obs["batch"] == "5p").to_numpy()
    known, query = adata[~is_query].copy(), adata[is_query, np.arange(adata.n_vars) % 2 == 0].copy()
    model = gv.fit(
        known, "adversarial", batch="batch", condition="label", setting={"category_dropout": 0.1}, epochs=8,
        genes=500, progress=False,
    )  # fmt: skip
    query.write_h5ad(tmp_path / "query.h5ad")
    model.save(tmp_path / "run")
    main(["map", str(tmp_path / "run"), str(tmp_path / "query.h5ad"), "--out", str(tmp_path / "mapped")])
    obs = ad.read_h5ad(tmp_path / "mapped" / QUERY_FILE).obs.astype({"label": str, "label_predicted": str})
    commonest = known.obs["label"].value_counts().index[0]
    assert (obs["label_predicted"] == obs["label"]).mean() > (obs["label"] == commonest).mean() + 0.3
