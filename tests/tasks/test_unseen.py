"""Perturbations that no training cell had, by the vector of their gene; and several conditions in one call."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

import genevae as gv
from genevae.cells import Condition
from genevae.cli import main
from genevae.data.covariates import Categorical
from genevae.errors import CategoryError, DataError, GenevaeWarning, RecipeError
from genevae.nn.conditioning import Conditioning
from genevae.nn.dose import DoseEffect, HillResponse

KNOWN, HELD_OUT, N_GENES = 12, "P3", 40


def study(seed: int = 0) -> tuple[AnnData, pd.DataFrame]:
    """Counts whose response is linear in the vector of the perturbation, from control."""
    rng = np.random.default_rng(seed)
    vectors = pd.DataFrame(rng.normal(size=(KNOWN + 2, 3)), index=[f"P{i}" for i in range(KNOWN + 2)])
    effect_fg = rng.normal(size=(3, N_GENES)) * 0.5
    label_n = np.repeat(["ctrl", *vectors.index[:KNOWN]], 30)
    log_ng = np.array([np.zeros(N_GENES) if x == "ctrl" else vectors.loc[x].to_numpy() @ effect_fg for x in label_n])
    counts = rng.poisson(4 * np.exp(log_ng)).astype(np.float32)
    obs = pd.DataFrame({"target": label_n, "lane": rng.choice(["l1", "l2"], len(label_n))})
    obs.index = [f"c{i}" for i in range(len(obs))]
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(N_GENES)])), vectors


@pytest.fixture(scope="module")
def adata() -> AnnData:
    return study()[0]


@pytest.fixture(scope="module")
def vectors() -> pd.DataFrame:
    return study()[1]


@pytest.fixture(scope="module")
def model(adata, vectors, tmp_path_factory) -> gv.Trained:
    """Trained without one perturbation from a file that is then gone."""
    folder = tmp_path_factory.mktemp("unseen")
    vectors.to_csv(folder / "vectors.csv", index_label="name")
    train = adata[adata.obs["target"] != HELD_OUT].copy()
    train.write_h5ad(folder / "cells.h5ad")
    main(
        ["fit", str(folder / "cells.h5ad"), "--condition", "target", "--control", "ctrl", "--epochs", "4",
         "--embedding", f"target={folder / 'vectors.csv'}", "--out", str(folder / "run")]
    )  # fmt: skip
    (folder / "vectors.csv").unlink()
    return gv.load(folder / "run")


@pytest.fixture(scope="module")
def controls(adata) -> AnnData:
    return adata[adata.obs["target"] == "ctrl"].copy()


def test_what_only_the_file_knows_is_predicted_better_than_the_perturbed_mean(model, adata, controls):
    with pytest.warns(GenevaeWarning, match="No training cell has 'target' = 'P3'.*nearest to those of P"):
        found = gv.counterfactual(model, controls, {"target": HELD_OUT}, n_draws=1)
    log_ng = np.log1p(1e4 * adata.X / adata.X.sum(1, keepdims=True))
    label = adata.obs["target"].to_numpy()
    mean = {name: log_ng[label == name].mean(0) for name in set(label)}
    true_g = mean[HELD_OUT] - mean["ctrl"]
    perturbed_mean_g = np.mean([x for name, x in mean.items() if name not in ("ctrl", HELD_OUT)], 0) - mean["ctrl"]
    shift_g = found.varm["shift"].iloc[:, 0].to_numpy()
    assert np.square(shift_g - true_g).mean() < 0.5 * np.square(perturbed_mean_g - true_g).mean()
    assert found.uns["genevae"]["never_seen"] == [f"target={HELD_OUT}"]
    assert found.obs["support"].eq(0).all()
    assert "embedding ridge" in set(found.uns["genevae"]["members"]["member"])
    assert (found.varm["shift_lower"] < found.varm["shift_upper"]).to_numpy().all()


def test_models_are_trained_without_whole_perturbations(model):
    left_out = model.responses.left_out
    assert {key[-1] for key in left_out} == {f"P{i}" for i in range(KNOWN)} - {HELD_OUT}
    assert model.facts["embeddings"]["target"]["sha256"] == model.schema["target"].embedding.sha256


def test_effects_are_of_perturbations_that_were_seen_unless_one_is_named(model, controls):
    assert len(gv.effect(model, controls)) == N_GENES * (KNOWN - 1)
    with pytest.warns(GenevaeWarning, match="P12"):
        assert (gv.effect(model, controls, to="P12")["support"] == 0).all()


def test_a_wrong_embedding_says_what_is_wrong(adata, vectors):
    options = {"condition": "target", "control": "ctrl", "epochs": 1, "progress": False, "folds": 0}
    with pytest.raises(CategoryError, match=r"no vector for 1 of 12 categories of the data: P0\."):
        gv.fit(adata, embedding={"target": vectors.drop(index="P0")}, **options)
    with pytest.raises(CategoryError, match="An embedding was given for 'lane', which is not a condition"):
        gv.fit(adata, embedding={"lane": vectors}, **options)
    with pytest.raises(RecipeError, match="The recipe cycle takes no embedding of 'target'"):
        gv.fit(adata, "cycle", embedding={"target": vectors}, **options)
    with pytest.raises(RecipeError, match="'lane' is the technical batch"):
        gv.fit(adata, batch="lane", embedding={"lane": {"l1": [0.0], "l2": [1.0]}}, **options)
    with pytest.raises(DataError, match="nowhere"):
        gv.fit(adata, embedding="target=nowhere.csv", **options)


def test_a_fit_with_vectors_in_memory_is_repeated_from_its_config(adata, vectors, tmp_path):
    options = {"condition": "target", "control": "ctrl", "epochs": 1, "progress": False, "folds": 0}
    adata.write_h5ad(tmp_path / "cells.h5ad")
    first = gv.fit(tmp_path / "cells.h5ad", embedding={"target": vectors}, out=tmp_path / "run", **options)
    shutil.move(tmp_path / "run" / "config.toml", tmp_path / "config.toml")
    main(["fit", "--config", str(tmp_path / "config.toml"), "--out", str(tmp_path / "again")])
    again = gv.load(tmp_path / "again")
    assert again.schema == first.schema
    for name, tensor in first.module.state_dict().items():
        torch.testing.assert_close(again.module.state_dict()[name], tensor, rtol=0, atol=0)


def test_an_embedding_is_a_function_of_the_vector_and_sums_over_parts():
    torch.manual_seed(0)
    vectors = pd.DataFrame([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]], index=["A", "B", "C"])
    field = Categorical.fit(
        pd.Series(["ctrl", "A+C"], name="drug"), "ctrl", unknown=True, combined=True, vectors=vectors
    )
    rows = [None if label in ("ctrl", "unknown") else field.vector(label) for label in field.labels]
    made = Conditioning({"drug": field.n_codes}, parts={"drug": field.parts}, vectors={"drug": rows})

    def embedded(name: str) -> torch.Tensor:
        return made(Condition(torch.ones(1, 1), {"drug": torch.tensor([field.code(name)])}))[0]

    torch.testing.assert_close(embedded("A"), embedded("B"))
    torch.testing.assert_close(embedded("A+C"), embedded("A") + embedded("C"))
    assert not torch.equal(embedded("unknown"), embedded("ctrl"))
    embedded("C").sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_control_has_no_effect_at_any_dose_and_drugs_of_one_vector_the_same():
    torch.manual_seed(0)
    effect = DoseEffect([(0,), (1,), (2,)], 4, control=0, vectors=[None, [1.0, 2.0], [1.0, 2.0]])
    dose_n = torch.tensor([0.0, 1.0, 5.0])
    found = [effect(torch.full((3,), code), dose_n, HillResponse(3, 10.0)) for code in range(3)]
    assert not found[0].any()
    torch.testing.assert_close(found[1], found[2])
    assert found[1][1:].any()


def test_a_table_of_conditions_has_the_results_of_each_alone(model, controls, tmp_path):
    table = pd.DataFrame({"target": ["P1", "P5", None], "lane": ["l1", None, None]})
    with pytest.raises(CategoryError, match=r"row 1: This model has no covariate 'lane'"):
        gv.counterfactual(model, controls, conditions=table)
    with pytest.raises(CategoryError, match="row 3, sets no covariate"):
        gv.counterfactual(model, controls, conditions=table[["target"]])
    with pytest.raises(CategoryError, match="is there twice: target=P1"):
        gv.counterfactual(model, controls, conditions=table.iloc[[0, 0]][["target"]])
    with pytest.raises(CategoryError, match="not both"):
        gv.counterfactual(model, controls, {"target": "P1"}, conditions=table)
    with pytest.raises(DataError, match="give out"):
        gv.counterfactual(model, controls, conditions=table.iloc[:2][["target"]], key_added="x")
    both = gv.counterfactual(model, controls, conditions=table.iloc[:2][["target"]], n_draws=2)
    n = controls.n_obs
    for at, name in enumerate(["P1", "P5"]):
        alone = gv.counterfactual(model, controls, {"target": name}, n_draws=2)
        part = both[at * n : (at + 1) * n]
        np.testing.assert_array_equal(part.X, alone.X)
        np.testing.assert_array_equal(part.obs["support"], alone.obs["support"])
        assert list(part.obs["target"].unique()) == [name]
        assert part.obs_names[0] == f"{controls.obs_names[0]}-target={name}"
        np.testing.assert_array_equal(both.varm["shift"][f"ctrl → target={name}"], alone.varm["shift"]["ctrl"])
    assert both.obs_names.is_unique
    table.iloc[:2][["target"]].to_csv(tmp_path / "conditions.csv", index=False)
    controls.write_h5ad(tmp_path / "controls.h5ad")
    main(
        ["counterfactual", str(model.folder), str(tmp_path / "controls.h5ad"), "--n-draws", "2",
         "--conditions", str(tmp_path / "conditions.csv"), "--out", str(tmp_path / "both.h5ad")]
    )  # fmt: skip
    written = gv.read(tmp_path / "both.h5ad")
    np.testing.assert_allclose(written.X, both.X)
    assert list(written.obs["target"].astype(str)) == list(both.obs["target"].astype(str))


def test_cells_of_all_perturbations_are_of_those_that_were_seen(model):
    seen = gv.generate(model, per_category={"target": 2}).obs["target"]
    assert HELD_OUT not in set(seen)
    assert len(seen) == 2 * KNOWN
    with pytest.warns(GenevaeWarning, match=f"No training cell has 'target' = '{HELD_OUT}'"):
        assert gv.generate(model, n=2, condition={"target": HELD_OUT}).n_obs == 2


def test_numbers_as_categories_have_vectors_however_they_are_written(adata):
    numbered = adata.copy()
    numbered.obs["target"] = numbered.obs["target"].map(lambda x: 0.0 if x == "ctrl" else 1.0 + int(x[1:]))
    vectors = pd.DataFrame(np.eye(20), index=[f"{i}.0" for i in range(1, 21)])
    fitted = gv.fit(numbered, condition="target", control="0", embedding={"target": vectors}, epochs=1, progress=False)
    assert fitted.schema.categorical_field("target").vector("3") is not None
