"""What a run keeps to answer "what if": folds of states, and files that give the same answers."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from tests.runs.test_foreign_folders import edited, seal

import genevae as gv
from genevae.data.schema import Categorical, Schema
from genevae.data.split import Split
from genevae.data.value_kind import Kind
from genevae.errors import RecipeError, RunError
from genevae.runs import responses
from genevae.runs.response_files import RESPONSES, STATES
from genevae.runs.responses import States, folds_of

WORDS = {"condition": ["type", "drug"], "control": {"drug": "ctrl"}, "epochs": 2, "batch_size": 64, "n_latent": 2,
         "hidden": (8,), "progress": False, "device": "cpu"}  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Four types with two drugs and their combination in most; a drug of one type, and a state of few cells."""
    rows = [(name, drug) for name in "ABCD" for drug in ("ctrl", "p", "q", "p+q") for _ in range(25)]
    rows += [("A", "rare")] * 25 + [("E", "ctrl")] * 25 + [("E", "p")] * 5
    return pd.DataFrame(rows, columns=["type", "drug"]).astype("category")


def divided(table: pd.DataFrame, n_folds: int) -> tuple[States, list[list[responses.LeftOut]]]:
    categorical = (
        Categorical("type", tuple(sorted(set(table["type"])))),
        Categorical("drug", tuple(sorted(set(table["drug"]))), control="ctrl"),
    )
    schema = Schema(("G",), Kind.COUNTS, categorical=categorical)
    states = States.of(table, schema, ("type", "drug"))
    n = np.arange(len(table))
    return states, folds_of(states, schema, Split(n, n[:0], n[:0]), n_folds)


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_folds_divide_the_states_that_can_be_predicted(table, n_folds):
    states, folds = divided(table, n_folds)
    found = [states.keys[one.state] for fold in folds for one in fold]
    assert len(found) == len(set(found))
    assert set(found) == {(name, drug) for name in "ABCD" for drug in ("p", "q", "p+q")}
    for one in (one for fold in folds for one in fold):
        assert states.keys[one.start] == (states.keys[one.state][0], "ctrl")
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for drug in ("p", "q", "p+q"):
        times = [sum(states.keys[one.state][1] == drug for one in fold) for fold in folds]
        assert max(times) - min(times) <= 1, "a level is in as many folds as can be"


def test_without_states_that_can_be_predicted_there_are_no_folds(table):
    assert divided(table, 0)[1] == []
    assert divided(table[table["type"] == "E"], 3)[1] == []


def test_a_saved_run_gives_the_same_answers_to_the_bit(tiny_model, saved, adata):
    opened = gv.load(saved)
    assert opened.responses is not None
    assert len(tiny_model.responses.left_out) == 2
    one, other = (gv.counterfactual(m, adata, condition={"drug": "stim"}, n_draws=2)
                  for m in (tiny_model, opened))  # fmt: skip
    np.testing.assert_array_equal(np.asarray(one.X), np.asarray(other.X))
    pd.testing.assert_frame_equal(one.var, other.var, check_exact=True)
    pd.testing.assert_frame_equal(one.uns["genevae"]["members"], other.uns["genevae"]["members"], check_exact=True)


@pytest.mark.parametrize(("folds", "n_models"), [(0, 1), (2, 3)])
def test_as_many_models_are_trained_as_there_are_folds(folds, n_models, make_adata, monkeypatch):
    trained = []
    train = gv.runs.fit.train
    monkeypatch.setattr("genevae.runs.fit.train", lambda *a, **kw: trained.append(1) or train(*a, **kw))
    model = gv.fit(make_adata(), folds=folds, **WORDS)
    assert len(trained) == n_models
    assert len(model.responses.left_out) == (2 if folds else 0)


@pytest.mark.parametrize("folds", [-1, 99])
def test_a_number_of_folds_that_is_none_is_named(adata, folds):
    with pytest.raises(RecipeError, match=f"folds must be from 0 to 20, not {folds}"):
        gv.fit(adata, folds=folds, **WORDS)


@pytest.mark.parametrize(("name", "complete"), [("SIGINT", 0), ("SIGTERM", 1)])
def test_an_interrupted_fit_keeps_complete_folds_only(make_adata, monkeypatch, tmp_path, capsys, name, complete):
    left_out, calls, seen = responses.left_out_shifts, [], []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) > complete:
            signal.raise_signal(getattr(signal, name))
        return left_out(*args, **kwargs)

    monkeypatch.setattr(responses, "left_out_shifts", interrupted)
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        model = gv.fit(make_adata(), folds=2, out=tmp_path / "run", **WORDS)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == ([signal.SIGTERM] if name == "SIGTERM" else []), "its usual effect, after the model is saved"
    assert f"training is done. {name} stopped what follows" in capsys.readouterr().err
    assert len(model.responses.left_out) == complete
    assert len(gv.load(tmp_path / "run").responses.left_out) == complete


def tensors(name: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        arrays = load_file(run / RESPONSES)
        changed = {**arrays, name: change(arrays[name])}
        save_file({k: np.ascontiguousarray(x) for k, x in changed.items() if x is not None}, run / RESPONSES)

    return edit


def with_nan(x: np.ndarray) -> np.ndarray:
    return np.where(np.arange(x.size).reshape(x.shape) == 1, np.nan, x).astype(x.dtype)


def without(name: str) -> Callable[[Path], None]:
    return edited(STATES, lambda content: {k: v for k, v in content.items() if k != name})


DAMAGED = {
    "other genes": (tensors("profiles/mean_mg", lambda x: x[:, 1:]), "mean_mg has the shape"),
    "other variances": (tensors("profiles/variance_mg", lambda x: x[:, 1:]), "variance_mg has the shape"),
    "other latent": (tensors("profiles/latent_mk", lambda x: x[:, 1:]), "latent_mk has the shape"),
    "fewer states": (tensors("profiles/n_m", lambda x: x[1:]), "several lengths"),
    "a square of numbers": (tensors("profiles/n_m", lambda x: np.stack([x, x], 1)), "n_m has the shape"),
    "no cells": (tensors("profiles/n_m", lambda x: 0 * x), "without cells"),
    "no numbers": (tensors("profiles/mean_mg", with_nan), "not finite"),
    "variance": (tensors("profiles/variance_mg", lambda x: x - 100), "below zero"),
    "no array": (tensors("profiles/n_m", lambda _: None), "n_m"),
    "no shift": (tensors("left_out/0/model", lambda _: None), "do not fit each other"),
    "short shift": (tensors("left_out/1/model", lambda x: x[1:]), "one finite number per gene"),
    "no fields": (without("fields"), "fields"),
    "no states": (without("states"), "states"),
    "no left out": (without("left_out"), "left_out"),
    "no control": (without("control"), "control"),
    "a list": (edited(STATES, lambda _: []), "cannot be opened"),
    "short keys": (edited(STATES, lambda x: {**x, "states": [key[1:] for key in x["states"]]}), "several lengths"),
    "short left out": (
        edited(STATES, lambda x: {**x, "left_out": [key[1:] for key in x["left_out"]]}), "do not fit each other",
    ),
    "control of nothing": (edited(STATES, lambda x: {**x, "control": ["ctrl"]}), "cannot be opened"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_responses_are_one_error(name, run):
    change, said = DAMAGED[name]
    change(run)
    seal(run)
    with pytest.raises(RunError, match=said):
        gv.load(run)


def test_states_that_are_not_json_are_named(run):
    (run / STATES).write_text(json.dumps({"fields": []})[:-1])
    seal(run)
    with pytest.raises(RunError, match="cannot be opened"):
        gv.load(run)
