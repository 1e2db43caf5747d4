"""A sweep compares fits on the same held-out cells, and names the simplest that is as good as the best."""

from __future__ import annotations

import pandas as pd
import pytest

import genevae as gv
from genevae.cli import main
from genevae.errors import RecipeError, RunError

FAST = {"epochs": 3, "batch_size": 32, "learning_rate": 1e-3, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def result(make_adata):
    return gv.sweep(make_adata(160), each={"n_latent": [1, 2, 6], "dropout": [0.0]}, **FAST)


def test_every_combination_is_fitted_and_compared(result):
    assert result.table[["n_latent", "dropout"]].to_numpy().tolist() == [[1, 0.0], [2, 0.0], [6, 0.0]]
    assert [model.recipe.model.n_latent for model in result.models] == [1, 2, 6]
    assert len({tuple(model.split) for model in result.models}) == 1, "all fits hold out the same cells"
    assert (result.models[0].split == "test").sum() == 32
    assert result.table["bound"].idxmax() == result.best
    best = result.table.loc[result.best]
    assert (best["low"], best["high"]) == (0, 0)
    assert result.choice <= result.best


def test_the_bound_is_reconstruction_less_kl_up_to_the_gain_of_many_draws(result):
    gain = result.table["bound"] - (result.table["reconstruction"] - result.table["kl"])
    assert (gain > 0).all()
    assert (gain < 1).all()


def test_the_choice_is_named(result):
    shown = str(result)
    assert f"Choice: n_latent {result.table['n_latent'][result.choice]}, dropout 0.0." in shown


def test_what_cannot_be_compared_is_an_error(make_adata):
    with pytest.raises(RecipeError, match="cannot be compared"):
        gv.sweep(make_adata(80), each={"genes": [10, 20]}, **FAST)
    with pytest.raises(RecipeError, match="no bound to compare"):
        gv.sweep(make_adata(80), "cycle", each={"n_latent": [2]}, condition=["type"], **FAST)
    with pytest.raises(RecipeError, match="Say what to vary"):
        gv.sweep(make_adata(80), each={}, **FAST)
    with pytest.raises(RecipeError, match="no setting 'n_latnt'"):
        gv.sweep(make_adata(80), each={"n_latnt": [2]}, **FAST)


def test_the_command_writes_table_picture_and_runs(make_adata, tmp_path, capsys):
    make_adata(120).write_h5ad(tmp_path / "cells.h5ad")
    out = tmp_path / "sweep"
    command = ["sweep", str(tmp_path / "cells.h5ad"), "--each", "n_latent=2,4", "--epochs", "2", "--out", str(out)]
    main([*command, "--batch", "lane", "--device", "cpu"])
    assert "Choice: n_latent" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"sweep.csv", "sweep.png", "n_latent_2", "n_latent_4"}
    assert pd.read_csv(out / "sweep.csv")["n_latent"].tolist() == [2, 4]
    assert gv.load(out / "n_latent_4").recipe.model.n_latent == 4
    with pytest.raises(RunError, match="exists"):
        gv.sweep(make_adata(80), each={"n_latent": [2]}, out=out, **FAST)


def test_repeats_split_anew_and_give_a_standard_deviation(make_adata):
    found = gv.sweep(make_adata(100), each={"n_latent": [2, 3]}, repeats=3, **FAST)
    assert (found.table["bound_sd"] > 0).all()
    once = gv.sweep(make_adata(100), each={"n_latent": [2, 3]}, **FAST)
    assert found.models[0].split.tolist() == once.models[0].split.tolist()
    assert found.table["bound"].tolist() != once.table["bound"].tolist()
    with pytest.raises(RecipeError, match="repeats must be 1 or more"):
        gv.sweep(make_adata(100), each={"n_latent": [2]}, repeats=0, **FAST)
