"""Counterfactual cells are anchored: the mean of each group is the measured mean plus the predicted shift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from genevae.errors import CategoryError
from genevae.io.formats import read
from genevae.metrics.response import log_normalised
from genevae.responses.answer import Responses
from genevae.runs.fit import fit
from genevae.tasks.anchor import Anchor
from genevae.tasks.counterfactual import counterfactual

STIM = {"drug": "stim"}
OPTIONS = {"condition": ["type", "drug"], "control": {"drug": "ctrl"}, "epochs": 4, "batch_size": 32, "n_latent": 4,
           "hidden": [32], "learning_rate": 5e-3, "setting": {"learning_rate_decay": 0.0}, "progress": False,
           "device": "cpu"}  # fmt: skip


@pytest.fixture(scope="module")
def models(tiny_model, make_adata):
    cells = make_adata()
    return {
        "folds": tiny_model,
        "gaussian": fit(cells, recipe="gaussian", folds=0, **OPTIONS),
        "no folds": fit(cells, recipe="nb", folds=0, **{**OPTIONS, "condition": ["drug"], "context": ["type"]}),
    }


def control_cells(make_adata, kind: str | None = None, n: int = 240):
    adata = make_adata(n)
    chosen = adata.obs["drug"] == "ctrl"
    return adata[(chosen if kind is None else chosen & (adata.obs["type"] == kind)).to_numpy()].copy()


def dense(adata) -> np.ndarray:
    return np.asarray(adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X, dtype=np.float64)


@pytest.mark.parametrize("name", ["folds", "gaussian", "no folds"])
@pytest.mark.parametrize("kind", list("AC"))
def test_the_mean_of_a_group_is_the_measured_mean_plus_the_shift(models, name, kind, make_adata):
    model = models[name]
    model = replace(model, reference=replace(model.reference, limits=None))  # of counts beyond those in training
    cells = control_cells(make_adata, kind, n=1_600)
    result = counterfactual(model, cells, condition=STIM, n_draws=2)
    if model.schema.output_kind.is_count:  # a cell keeps its size
        size_n1 = dense(cells).sum(1, keepdims=True)
        before, after = (np.log1p(1e4 * dense(x) / size_n1) for x in (cells, result))
    else:
        before, after = log_normalised(dense(cells)), dense(result)
    wanted_g = before.mean(0) + result.varm["shift"].iloc[:, 0].to_numpy()
    chosen = wanted_g > 0
    assert chosen.mean() > 0.8
    np.testing.assert_allclose(after.mean(0)[chosen], wanted_g[chosen], atol=0.02)


@pytest.mark.parametrize("name", ["folds", "gaussian", "no folds"])
def test_cells_in_their_own_condition_are_unchanged(models, name, make_adata):
    cells = control_cells(make_adata)
    result = counterfactual(models[name], cells, condition={"drug": "ctrl"}, n_draws=2)
    expected = dense(cells) if models[name].schema.output_kind.is_count else log_normalised(dense(cells))
    np.testing.assert_allclose(dense(result), expected, atol=1e-3)
    assert not any(result.varm[name].to_numpy().any() for name in ("shift", "shift_lower", "shift_upper"))


@pytest.mark.parametrize("name", ["no folds", "gaussian"])
def test_expectations_are_anchored_by_the_same_factor_or_difference(models, name, make_adata, monkeypatch):
    cells = control_cells(make_adata)
    plain = counterfactual(models[name], cells, condition=STIM, n_draws=2, answer="model", seed=1)
    monkeypatch.setattr(Anchor, "scale_ng", lambda _, minibatch: torch.full((minibatch.n_cells, 30), 2.0))
    anchored = counterfactual(models[name], cells, condition=STIM, n_draws=2, seed=1)
    counts = models[name].schema.output_kind.is_count
    expected = 2 * plain.layers["mean"] if counts else plain.layers["mean"] + 2
    np.testing.assert_allclose(anchored.layers["mean"], expected, rtol=1e-4)


def test_cells_unlike_those_of_training_are_answered_by_the_model_unless_a_member_is_named(
    models, make_adata, monkeypatch
):
    cells = control_cells(make_adata)
    monkeypatch.setattr(Responses, "describes", lambda *_: False)
    auto = counterfactual(models["no folds"], cells, condition=STIM, n_draws=2)
    assert set(auto.uns["genevae"]["members"]["member"]) == {"model"}
    named = counterfactual(models["no folds"], cells, condition=STIM, n_draws=2, answer="mean shift")
    assert set(named.uns["genevae"]["members"]["member"]) == {"mean shift"}
    monkeypatch.setattr(Responses, "describes", lambda *_: True)
    auto = counterfactual(models["no folds"], cells, condition=STIM, n_draws=2)
    assert set(auto.uns["genevae"]["members"]["member"]) != {"model"}


@pytest.mark.parametrize("name", ["no folds", "gaussian"])
@pytest.mark.parametrize("batch_size", [7])
def test_the_result_does_not_depend_on_the_batch_size(models, name, batch_size, make_adata):
    one, other = (
        counterfactual(models[name], control_cells(make_adata, n=80), condition=STIM, n_draws=2, batch_size=size)
        for size in (512, batch_size)
    )
    for name in one.varm:
        np.testing.assert_allclose(other.varm[name], one.varm[name], atol=1e-4)
    close = np.isclose(dense(other), dense(one), rtol=1e-3, atol=1e-3)
    assert close.mean() > 0.998, "a count at the edge between two ranks may fall to either side"


def test_the_model_alone_is_another_answer(models, make_adata):
    cells = control_cells(make_adata, "A")
    auto, alone = (
        counterfactual(models["no folds"], cells, condition=STIM, answer=a, n_draws=2) for a in ("auto", "model")
    )
    assert not np.array_equal(dense(auto), dense(alone))
    assert "members" in auto.uns["genevae"]
    assert "members" not in alone.uns["genevae"]


@pytest.mark.parametrize(("answer", "nearest"), [("modl", "model"), ("mena shift", "mean shift"), ("aut", "auto")])
def test_a_wrong_answer_names_the_nearest(models, answer, nearest, adata):
    with pytest.raises(CategoryError, match=f"Did you mean '{nearest}'"):
        counterfactual(models["no folds"], adata, condition=STIM, answer=answer)


@pytest.mark.parametrize("name", ["folds", "no folds"])
def test_the_weights_of_each_group_sum_to_one(models, name, make_adata):
    result = counterfactual(models[name], control_cells(make_adata, n=80), condition=STIM, n_draws=2)
    sums = result.uns["genevae"]["members"].groupby("group")["weight"].sum()
    assert set(sums.index) == {f"{each} (ctrl)" for each in "ABC"}
    np.testing.assert_allclose(sums, 1, atol=0.02)


def test_without_folds_the_model_has_no_weight(models, make_adata):
    result = counterfactual(models["no folds"], control_cells(make_adata, "C"), condition=STIM, n_draws=2)
    assert not set(result.uns["genevae"]["members"]["member"]) & {"model", "latent arithmetic"}


def test_context_columns_may_be_absent_from_the_query(models, make_adata):
    cells = control_cells(make_adata)
    del cells.obs["type"]
    result = counterfactual(models["no folds"], cells, condition=STIM, n_draws=2)
    assert np.isfinite(dense(result)).all()
    assert result.varm["shift"].iloc[:, 0].idxmax() in {f"G{i}" for i in range(20, 25)}


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_shifts_are_written_whatever_the_groups_are_called(models, make_adata, suffix, tmp_path):
    cells = control_cells(make_adata, "A")
    result = counterfactual(models["no folds"], cells, condition=STIM, n_draws=2)
    written = tmp_path / f"cells{suffix}"
    counterfactual(models["no folds"], cells, condition=STIM, n_draws=2, out=written)
    opened = read(written)
    np.testing.assert_allclose(opened.varm["shift"], result.varm["shift"])


def test_groups_of_one_context_and_several_sources_stand_apart(models, make_adata):
    adata = make_adata(n=120)
    result = counterfactual(models["no folds"], adata, condition=STIM, n_draws=2)
    both = [f"A ({drug})" for drug in ("ctrl", "stim")]
    assert set(both) <= set(result.varm["shift"])
    assert result.varm["shift"][both[0]].any()
    assert not result.varm["shift"][both[1]].any()
    members = result.uns["genevae"]["members"]
    assert members.groupby("group")["n_cells"].first().sum() == adata.n_obs
