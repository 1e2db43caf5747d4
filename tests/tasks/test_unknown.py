"""A model that is trained to do without labels: what it does where there are none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from genevae.errors import CategoryError
from genevae.runs.fit import fit
from genevae.runs.load import load
from genevae.runs.trained import save
from genevae.tasks.classify import classify
from genevae.tasks.counterfactual import counterfactual
from genevae.tasks.effect import effect
from genevae.tasks.embed import embed
from genevae.tasks.generate import generate


@pytest.fixture(scope="module")
def partly(make_adata):
    """Cells of which a fifth have no type, and some others are called unknown."""
    adata = make_adata()
    kind = adata.obs["type"].astype(object)
    kind[::5] = None
    kind[1::20] = "unknown"
    adata.obs["type"] = kind
    return adata


@pytest.fixture(scope="module")
def model(partly):
    return fit(partly, recipe="conditional", condition=["type", "drug"], control={"drug": "ctrl"}, epochs=40,
               batch_size=32, n_latent=6, hidden=[32], learning_rate=5e-3, progress=False, device="cpu")  # fmt: skip


@pytest.fixture
def bare(adata):
    """The same cells without their labels, and with them."""
    without = adata.copy()
    without.obs = without.obs[["lane"]].copy()
    return without, adata


def test_unknown_is_no_category_though_the_data_say_so(model):
    assert model.schema["type"].categories == ("A", "B", "C")
    assert model.schema["type"].labels == ("A", "B", "C", "unknown")
    assert len(model.calibration["type"].log_prior_c) == 3
    assert np.isclose(np.exp(model.calibration["type"].log_prior_c).sum(), 1)


def test_missing_labels_and_those_called_unknown_are_one(model, adata):
    named, missing = adata.copy(), adata.copy()
    named.obs["type"] = "unknown"
    missing.obs["type"] = np.nan
    one, other = embed(model, named), embed(model, missing)
    np.testing.assert_array_equal(one.obsm["X_genevae"], other.obsm["X_genevae"])


def test_cells_without_the_columns_are_embedded(model, bare):
    z = embed(model, bare[0]).obsm["X_genevae"]
    assert np.isfinite(z).all()
    assert not np.allclose(z, embed(model, bare[1]).obsm["X_genevae"])


@pytest.mark.parametrize("method", ["posterior", "reconstruction"])
def test_labels_are_told_of_cells_that_have_none_and_are_never_unknown(method, model, make_adata):
    adata = make_adata(120, seed=3)
    without = adata.copy()
    without.obs = without.obs[[]].copy()
    table = classify(model, without, field="type", method=method)
    assert set(table["label"]) <= {"A", "B", "C"}
    assert [name for name in table if "unknown" in name] == []
    assert (table["label"].to_numpy() == adata.obs["type"].to_numpy()).mean() > 0.8


def test_cells_are_generated_of_known_and_of_unknown_types(model):
    made = generate(model, n=100, condition={"type": ["A", "unknown"], "drug": "stim"})
    assert made.obs["type"].astype(str).value_counts().to_dict() == {"A": 100, "unknown": 100}
    x = made.X.toarray() if hasattr(made.X, "toarray") else made.X
    assert x[:100, :5].mean() > 1.2 * x[100:, :5].mean(), "of all types, a third express the markers of A"
    np.testing.assert_array_equal(embed(model, made_again(made)).obs["type"], made.obs["type"])


def made_again(made):
    """Give generated values back as cells of counts, which the model reads."""
    again = made.copy()
    again.X = np.rint(np.expm1(np.clip(np.asarray(made.X.todense() if hasattr(made.X, "todense") else made.X), 0, 8)))
    return again


def test_a_counterfactual_starts_from_the_unknown_and_ends_there(model, bare):
    without, adata = bare
    answer = counterfactual(model, without, condition={"drug": "stim"}, n_draws=3)
    assert set(answer.obs["source_drug"]) == {"unknown"}
    assert set(answer.obs["drug"]) == {"stim"}
    assert np.isfinite(answer.X).all()
    assert np.isfinite(counterfactual(model, adata, condition={"type": "unknown"}, n_draws=3).X).all()


def test_effects_leave_the_unknown_out(model, make_adata, partly):
    table = effect(model, partly, field="drug")
    known = partly.obs["type"].isin(["A", "B", "C"]) & (partly.obs["drug"] == "ctrl")
    assert set(table["type"]) == {"A", "B", "C"}
    assert table.groupby("type")["n_cells"].first().sum() == known.sum()
    assert set(effect(model, partly, field="type", control="A", by=())["type"]) == {"B", "C"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"field": "type", "control": "unknown"}, "'unknown' is not one"),
        ({"field": "type", "control": "A", "to": ["unknown"]}, "'unknown' is not one"),
    ],
)
def test_there_is_no_effect_of_the_unknown(arguments, words, model, partly):
    with pytest.raises(CategoryError, match=words):
        effect(model, partly, **arguments)


def test_effects_need_control_cells_that_are_known(model, bare):
    with pytest.raises(CategoryError, match=r"has no control cells, with 'drug' = 'ctrl' and a known type"):
        effect(model, bare[0], field="drug")


def test_a_model_that_was_not_trained_to_do_without_says_so(tiny_model, bare):
    with pytest.raises(CategoryError, match="no obs column 'type'"):
        embed(tiny_model, bare[0])
    with pytest.raises(CategoryError, match="'unknown' is not a category"):
        generate(tiny_model, n=2, condition={"type": "unknown"})


def test_all_labels_may_be_missing_where_the_model_validates(make_adata):
    adata = make_adata(40)
    adata.obs["type"] = ["A", "B", *[None] * 38]
    model = fit(adata, recipe="conditional", condition=["type"], epochs=1, n_latent=2, hidden=[4], batch_size=16,
                progress=False, device="cpu")  # fmt: skip
    assert model.calibration["type"].temperature > 0


def test_it_is_the_same_once_saved(model, bare, tmp_path):
    save(model, tmp_path / "run")
    opened = load(tmp_path / "run")
    assert torch.equal(
        torch.from_numpy(embed(opened, bare[0]).obsm["X_genevae"]),
        torch.from_numpy(embed(model, bare[0]).obsm["X_genevae"]),
    )
    pd.testing.assert_frame_equal(opened.fields, model.fields)
