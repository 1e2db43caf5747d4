"""The same values mean the same in training and in a query, and what the user has is never overwritten."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import genevae as gv
from genevae.errors import CategoryError, DataError, GenevaeWarning


def with_x(adata: AnnData, x: np.ndarray) -> AnnData:
    adata = adata.copy()
    adata.X = x.astype(np.float32)
    return adata


@pytest.fixture(scope="module")
def counts(make_adata: Callable[..., AnnData]) -> AnnData:
    return make_adata(240)


@pytest.fixture(scope="module")
def scales(counts: AnnData) -> dict[str, AnnData]:
    x = counts.X.toarray()
    linear = 1e4 * x / x.sum(1, keepdims=True)
    log = np.log1p(linear)
    made = {"counts": x, "normalised": linear, "log": log, "scaled": (log - log.mean(0)) / log.std(0)}
    return {name: with_x(counts, values) for name, values in made.items()}


@pytest.fixture(scope="module")
def models(scales: dict[str, AnnData]) -> dict[str, gv.Trained]:
    return {name: gv.fit(cells, recipe="gaussian", epochs=1, progress=False) for name, cells in scales.items()}


@pytest.mark.parametrize("given", ["counts", "normalised", "log", "scaled"])
@pytest.mark.parametrize("trained", ["counts", "normalised", "log", "scaled"])
def test_a_model_takes_the_kind_of_values_it_was_trained_on(
    models: dict[str, gv.Trained], scales: dict[str, AnnData], trained: str, given: str
) -> None:
    if trained == given:
        assert len(gv.embed(models[trained], scales[given])) == 240
        return
    with pytest.raises(DataError, match=r"contains .*, but this model was trained on .*layer"):
        gv.embed(models[trained], scales[given])


@pytest.mark.parametrize(
    "change", [lambda x: x / np.log(2), lambda x: x / np.log(10), lambda x: np.log1p(100 * np.expm1(x))]
)
def test_another_base_or_total_of_the_logarithm_is_a_warning(
    models: dict[str, gv.Trained], scales: dict[str, AnnData], change: Callable[[np.ndarray], np.ndarray]
) -> None:
    with pytest.warns(GenevaeWarning, match="log-normalised in another way"):
        gv.embed(models["log"], with_x(scales["log"], change(scales["log"].X)))


def test_cells_without_expression_fit_every_model(models: dict[str, gv.Trained], counts: AnnData) -> None:
    empty = with_x(counts[:3], np.zeros((3, counts.n_vars)))
    for model in models.values():
        assert np.isfinite(gv.embed(model, empty).obsm["X_genevae"]).all()


@pytest.mark.parametrize("as_stored", [int, float, str, "category", lambda each: f"{each}.0", np.float32])
def test_whole_numbers_are_the_same_categories_however_they_are_stored(counts: AnnData, as_stored: object) -> None:
    counts = counts.copy()
    counts.obs["lane"] = np.tile([1, 2, 10], 80)
    model = gv.fit(counts, condition=["lane"], epochs=1, progress=False)
    assert model.schema["lane"].categories == ("1", "10", "2")
    expected = model.schema.encode(counts.obs).codes["lane"]
    column = counts.obs["lane"]
    stored = (
        column.map(as_stored) if callable(as_stored) and not isinstance(as_stored, type) else column.astype(as_stored)
    )
    query = counts.obs.assign(lane=stored)
    assert model.schema.encode(query).codes["lane"].equal(expected)
    assert model.schema["lane"].code(stored.iloc[2]) == 1
    again = gv.fit(AnnData(counts.X, obs=query, var=counts.var), condition=["lane"], epochs=1, progress=False)
    assert again.schema["lane"] == model.schema["lane"]


def test_labels_that_look_like_numbers_stay_as_they_are(counts: AnnData) -> None:
    counts = counts.copy()
    counts.obs["id"] = np.tile(["007", "7", "1.50"], 80)
    assert gv.fit(counts, condition=["id"], epochs=1, progress=False).schema["id"].categories == ("007", "1.50", "7")
    counts.obs["id"] = np.tile(["1", "1.0"], 120)
    with pytest.raises(CategoryError, match=r"both '1' and '1.0'"):
        gv.fit(counts, condition=["id"], epochs=1, progress=False)


def test_measured_numbers_as_categories_are_a_warning(counts: AnnData) -> None:
    counts = counts.copy()
    counts.obs["dose"] = np.tile([0.0, 0.5, 2.0], 80)
    with pytest.warns(GenevaeWarning, match="--continuous dose"):
        gv.fit(counts, condition=["dose"], epochs=1, progress=False)


def test_columns_of_the_user_are_kept(counts: AnnData) -> None:
    counts = counts.copy()
    counts.obs["size"] = np.tile(["small", "large"], 120)
    model = gv.fit(counts, condition=["size"], epochs=1, progress=False)
    with pytest.warns(GenevaeWarning, match="'genevae_size'"):
        made = gv.generate(model, n=4, condition={"size": "large"})
    assert set(made.obs["size"]) == {"large"}
    assert (made.obs["genevae_size"] > 0).all()
    counts.obs = counts.obs.assign(support="mine", source_size="mine")
    with pytest.warns(GenevaeWarning, match="is kept"):
        answer = gv.counterfactual(model, counts, condition={"size": "small"}, n_draws=2)
    assert set(answer.obs["support"]) == set(answer.obs["source_size"]) == {"mine"}
    assert answer.obs["genevae_support"].between(0, 1).all()
    assert answer.obs["genevae_source_size"].astype(str).tolist() == counts.obs["size"].tolist()


def test_evaluation_knows_cells_by_their_expression(make_adata: Callable[..., AnnData]) -> None:
    cells, others = make_adata(200, seed=0), make_adata(200, seed=1)
    others.obs_names = cells.obs_names
    model = gv.fit(cells, epochs=1, progress=False)

    def notes(adata: AnnData) -> str:
        return " ".join(gv.evaluate({"nb": model}, adata, sections=["fit"], progress=False).sampling)

    assert "200 cells that no run was trained on (new)" in notes(others)
    assert "another expression: they count as new" in notes(others)
    renamed = cells.copy()
    renamed.obs_names = [f"{name}-1" for name in cells.obs_names]
    assert "20 cells that were not trained on" in notes(renamed[:, ::-1].copy())
    edited = with_x(cells, cells.X.toarray())
    edited.X[:5] += 1
    assert "20 cells that were not trained on" in notes(edited), "a few cells that were edited are still known by name"


def test_text_of_a_csv_is_the_category_of_an_h5ad(counts: AnnData, tmp_path) -> None:
    counts = counts.copy()
    counts.obs["lane"] = pd.Categorical(np.tile([1.0, 2.0], 120))
    counts.write_h5ad(tmp_path / "cells.h5ad")
    model = gv.fit(tmp_path / "cells.h5ad", condition=["lane"], epochs=1, progress=False)
    counts.obs["lane"] = counts.obs["lane"].astype(str)
    assert gv.classify(model, counts, field="lane")["label"].isin(["1", "2"]).all()
    counts.obs["lane"].to_csv(tmp_path / "lanes.csv")
    assert model.schema.encode(pd.read_csv(tmp_path / "lanes.csv", dtype=str)).codes["lane"].unique().tolist() == [0, 1]
