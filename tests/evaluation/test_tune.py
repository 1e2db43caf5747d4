"""A search for settings: it continues where it was killed, ends bad trials early, and compares with the defaults."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import genevae as gv
from genevae.cli import main
from genevae.errors import GenevaeWarning, RecipeError, RunError
from genevae.evaluation import tune as tuning

FAST = {"epochs": 4, "batch_size": 32, "device": "cpu", "progress": False}


@pytest.fixture(autouse=True)
def _with_optuna(request: Any) -> None:
    if "without_optuna" not in request.node.name:
        pytest.importorskip("optuna", reason="optuna is not installed: pip install 'genevae[tune]'")


def test_a_search_that_was_killed_continues(
    make_adata: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    make_adata(160).write_h5ad(tmp_path / "cells.h5ad")
    space = (
        "n_latent = {low = 2, high = 6}\nhidden = [[8], [16]]\nlearning_rate = {low = 1e-6, high = 1e-2, log = true}\n"
    )
    (tmp_path / "space.toml").write_text(space)
    command = ["tune", str(tmp_path / "cells.h5ad"), "--out", str(tmp_path / "out"), "--epochs", "4", "--device", "cpu"]
    command += [
        "--space",
        str(tmp_path / "space.toml"),
        "--setting",
        "batch_size=32",
        "--batch",
        "lane",
        "--trials",
        "7",
    ]
    scored = tuning._Search.value
    seen: list[float] = []

    def dies_at_third(search: Any, model: Any, source: Any) -> float:
        if len(seen) == 2:
            raise SystemExit(137)
        seen.append(scored(search, model, source))
        return seen[-1]

    with monkeypatch.context() as patch:
        patch.setattr(tuning._Search, "value", dies_at_third)
        patch.setattr(tuning._optuna().Study, "tell", _unless_failed(tuning._optuna().Study.tell))
        with pytest.raises(SystemExit):
            main(command)
    assert not (tmp_path / "out" / "best.toml").exists()
    capsys.readouterr()
    caplog.clear()
    main(command)
    shown = "".join(capsys.readouterr()) + caplog.text
    assert "trial 3 of 7" in shown
    assert "trial 2 of 7" not in shown
    assert "7 trials: " in shown
    table = pd.read_csv(tmp_path / "out" / "trials.csv")
    assert (table["state"] != "interrupted").sum() == 7
    assert table.loc[table["state"] == "interrupted", "trial"].tolist() == [2]
    np.testing.assert_allclose(table["value"][:2], seen)
    settings = tomllib.loads((tmp_path / "out" / "best.toml").read_text())
    best = table.loc[table["value"].idxmax()]
    assert settings["setting"]["n_latent"] == best["n_latent"]
    assert settings["setting"]["hidden"] == json.loads(best["hidden"])
    assert settings["data"] == str(tmp_path / "cells.h5ad")
    assert "What mattered" in (tmp_path / "out" / "tuning.html").read_text()
    assert gv.load(tmp_path / "out" / "best").recipe.settings()["n_latent"] == best["n_latent"]
    with pytest.raises(RunError, match="holds a search with another seed: 0, not 1"):
        gv.tune(tmp_path / "cells.h5ad", out=tmp_path / "out", space=tmp_path / "space.toml", seed=1, batch="lane",
                epochs=4, device="cpu", setting={"batch_size": "32"})  # fmt: skip


def _unless_failed(tell: Any) -> Any:
    """Tell nothing of a trial that fails, as a process that is killed."""

    def told(study: Any, *arguments: Any, state: Any = None, **given: Any) -> Any:
        if state is not None and state.name == "FAIL":
            return None
        return tell(study, *arguments, state=state, **given)

    return told


def test_no_trial_sees_the_cells_of_the_end(make_adata: Any, tmp_path: Path) -> None:
    adata = make_adata(160)
    adata.obs["donor"] = [f"d{i % 16}" for i in range(160)]
    result = gv.tune(adata, out=tmp_path / "out", trials=2, space={"n_latent": [2, 4]}, split_by="donor", **FAST)
    search = tuning._Search(adata, "nb", {}, "bound", 0.2, 2000, 0, {"split_by": "donor"}, tmp_path)
    trials, aside = search.parts(search.source())
    assert not {*trials.obs["donor"]} & {*aside.obs["donor"]}
    assert len(trials) + len(aside) == 160
    assert 0.1 <= len(aside) / 160 <= 0.2
    best = gv.load(tmp_path / "out" / "best")
    assert set(best.split.index) == set(trials.obs.index)
    assert list(result.comparison.index) == ["defaults", "best"]
    assert result.comparison.loc["defaults", ["difference", "low", "high"]].tolist() == [0, 0, 0]


def test_a_bad_trial_ends_early() -> None:
    optuna = tuning._optuna()
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(1, 0))
    for loss in (1.0, 1.0, 9.0):
        trial = study.ask()
        callback = tuning._Pruning(trial)
        epoch = type("Epoch", (), {"validation_loss": loss, "epoch": 1})
        if loss > 1:
            with pytest.raises(optuna.TrialPruned):
                callback.on_epoch(None, epoch)
        else:
            callback.on_epoch(None, epoch)
            study.tell(trial, -loss)


@pytest.mark.parametrize(("space", "message"), [
    ({}, "is empty"), ({"n_latent": 5}, "space of 'n_latent' is 5"),
    ({"dropout": {"low": 0.3, "high": 0.1}}, "low below"),
    ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "above zero for log"), ({"n_latnt": [1]}, "no setting"),
])  # fmt: skip
def test_mistakes_are_answered(make_adata: Any, tmp_path: Path, space: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        gv.tune(make_adata(80), out=tmp_path / "out", space=space, **FAST)
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_was_cut_short_is_continued_and_a_damaged_one_is_named(make_adata: Any, tmp_path: Path) -> None:
    words = {"out": tmp_path / "out", "space": {"n_latent": [2, 3]}, **FAST}
    gv.tune(make_adata(80), trials=1, **words)
    log = tmp_path / "out" / tuning.LOG
    entries = log.read_bytes()
    log.write_bytes(entries + b'{"op_code":4,"wor')
    with pytest.warns(GenevaeWarning, match=r"last entry of .*trials\.log was cut short"):
        found = gv.tune(make_adata(80), trials=2, **words)
    assert found.table["state"].tolist() == ["complete"] * 2
    log.write_bytes(b"?" + entries)
    with pytest.raises(RunError, match=r"trials\.log is damaged in line 1 of"):
        gv.tune(make_adata(80), trials=2, **words)


def test_without_optuna_it_says_how_to_get_it(make_adata: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'genevae\[tune\]'"):
        gv.tune(make_adata(80), out=tmp_path / "out", **FAST)
    assert list(tmp_path.iterdir()) == []
