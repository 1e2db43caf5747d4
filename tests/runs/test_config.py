"""What a run keeps of its options, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import genevae as gv
from genevae.cli import main
from genevae.cli.fit import fit as fit_command
from genevae.errors import GenevaeError, GenevaeWarning, RecipeError
from genevae.io.read_options import ReadOptions
from genevae.recipes.describe import meanings
from genevae.recipes.nb import CountModel, ZeroInflated
from genevae.recipes.registry import RECIPES
from genevae.runs.config import PARTS, FitConfig
from genevae.runs.config_file import read_config
from genevae.training.callbacks import Callback
from genevae.training.settings import Training


@pytest.fixture
def stored(make_adata, tmp_path: Path) -> Path:
    """Cells whose layer ``counts`` differs from X."""
    cells = make_adata(60)
    cells.layers["counts"] = 2 * cells.X
    cells.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def losses(run: Path) -> list[float]:
    return pd.read_csv(run / "history.csv")["validation_loss"].tolist()


def test_a_layer_is_kept_by_every_way_of_giving_it(stored: Path, tmp_path: Path) -> None:
    main(["fit", str(stored), "--layer", "counts", "--epochs", "2", "--out", str(tmp_path / "a")])
    main(["fit", "--config", str(tmp_path / "a" / "config.toml"), "--out", str(tmp_path / "b")])
    data = ReadOptions(stored, layer="counts")
    gv.fit(data, epochs=2, out=tmp_path / "c", progress=False)
    gv.fit(stored, layer="counts", epochs=2, out=tmp_path / "d", progress=False)
    gv.fit(stored, epochs=2, out=tmp_path / "x", progress=False)
    for run in "abcd":
        assert read_config(tmp_path / run / "config.toml")["layer"] == "counts"
        assert losses(tmp_path / run) == losses(tmp_path / "a")
    assert losses(tmp_path / "x") != losses(tmp_path / "a")


class _Stop(Callback):
    def on_epoch(self, state: Any, epoch: Any) -> None:
        if state.epoch == 2:
            raise KeyboardInterrupt


def test_an_interrupted_fit_of_a_layer_is_resumed(stored: Path, tmp_path: Path) -> None:
    data = ReadOptions(stored, layer="counts")
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        gv.fit(data, epochs=3, checkpoint_every="1e", out=run, progress=False, callbacks=[_Stop()])
    main(["fit", "--resume", str(run)])
    gv.fit(data, epochs=3, out=tmp_path / "whole", progress=False)
    assert losses(run) == losses(tmp_path / "whole")


@pytest.mark.parametrize(
    "genes", ["all", ["G1"], ["G1", "G3"], np.array(["G1", "G3"]), pd.Index(["G1"]), np.int64(5)], ids=str
)
def test_genes_are_kept_as_they_were_given(genes: Any, stored: Path, tmp_path: Path) -> None:
    gv.fit(stored, genes=genes, epochs=1, out=tmp_path / "a", progress=False)
    main(["fit", "--config", str(tmp_path / "a" / "config.toml"), "--out", str(tmp_path / "b")])
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert gv.load(tmp_path / "a").schema.genes == gv.load(tmp_path / "b").schema.genes


@pytest.mark.parametrize(
    "recipe",
    [
        replace(RECIPES["nb"], model=CountModel(counts=ZeroInflated())),
        RECIPES["nb"].variant("mine", "Mine.", n_latent=3),
        replace(RECIPES["nb"], objective=RECIPES["bulk"].objective),
    ],
    ids=["another model", "another name", "another objective"],
)
def test_a_recipe_that_no_file_can_describe_is_refused_before_training(
    recipe: Any, stored: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="RECIPES"):
        gv.fit(stored, recipe, epochs=1, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    model = gv.fit(stored, recipe, epochs=1, progress=False)
    with pytest.raises(RecipeError, match="RECIPES"):
        gv.save(model, tmp_path / "run")


def test_a_recipe_of_ones_own_is_kept_once_it_has_a_name(stored: Path, tmp_path: Path, monkeypatch) -> None:
    mine = replace(RECIPES["nb"], name="mine", model=CountModel(counts=ZeroInflated()))
    monkeypatch.setitem(RECIPES, "mine", mine)
    gv.fit(stored, "mine", epochs=1, out=tmp_path / "run", progress=False)
    assert gv.load(tmp_path / "run").recipe.model == mine.edit({"epochs": 1}).model


def test_settings_of_cycle_that_had_no_effect_are_left_out(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text(
        f'data = "{stored}"\nrecipe = "cycle"\ncondition = ["type"]\n[setting]\nepochs = 1\nnorm = "batch"\n'
    )
    main(["fit", "--config", str(tmp_path / "old.toml"), "--out", str(tmp_path / "run")])
    assert "norm" not in gv.load(tmp_path / "run").recipe.settings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 2}, "Did you mean 'epochs'"),
        ({"logs": []}, "callbacks"),
        ({"hold_out": "A"}, r"hold_out must be .* not 'A'"),
        ({"control": ["drug=DMSO"]}, "control must be"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"hidden": "wide"}, "whole numbers with commas"),
        ({"epochs": 1, "setting": {"epochs": 2}}, "given twice"),
    ],
    ids=str,
)
def test_mistakes_name_the_option(options: dict[str, Any], message: str, make_adata) -> None:
    with pytest.raises(GenevaeError, match=message):
        gv.fit(make_adata(30), **options, progress=False)


@pytest.mark.parametrize("settings", [{"hidden": 16}, {"hidden": [16, 8]}], ids=str)
def test_widths_are_a_tuple(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="hidden must be a tuple"):
        CountModel(**settings)
    with pytest.raises(RecipeError, match="epochs must be"):
        Training(epochs="5")  # type: ignore[arg-type]


def test_none_is_no_condition_and_numpy_numbers_are_numbers(make_adata, tmp_path: Path) -> None:
    model = gv.fit(make_adata(30), condition=None, hidden=np.int64(8), seed=np.int64(3), epochs=1, progress=False,
                   out=tmp_path / "run")  # fmt: skip
    assert model.recipe.model.hidden == (8,)
    assert not model.schema.fields


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("force = true", "no option 'force'"),
        ('out = "there"', "no option 'out'"),
        ("max_epochs = 3", "here it is: epochs"),
        ('[hold_out]\ntype = ["A", "B"]', r"No cell has type=\['A', 'B'\]\."),
    ],
    ids=["force", "out", "peer", "list"],
)
def test_config_files_are_checked(text: str, message: str, stored: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "c.toml").write_text(f'data = "{stored}"\n{text}\n')
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(tmp_path / "c.toml"), "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "run", "--keep", "memory"], "Say what to train on"),
        (["--resume", "run", "--keep", "memory", "--epochs", "3"], "leave out keep, epochs"),
        (["cells.h5ad", "--train-size=0.8", "--out", "run"], "here it is: --validation"),
        (["cells.h5ad", "--n-layers", "2", "--out", "run"], "here it is: --hidden, the width"),
        (["cells.h5ad", "--epochs", "1", "--setting", "epochs=5", "--out", "run"], "given twice"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_the_command_line_answers(words: list[str], message: str, stored: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(stored.parent)
    with pytest.raises(SystemExit):
        main(["fit", *words])
    assert message in capsys.readouterr().err


def test_the_path_of_data_is_an_option_too(stored: Path, tmp_path: Path) -> None:
    main(["fit", "--data", str(stored), "--epochs", "1", "--out", str(tmp_path / "run")])
    main(["embed", str(tmp_path / "run"), "--data", str(stored), "--out", str(tmp_path / "z.npy")])


def test_every_callback_is_closed_where_one_fails(make_adata) -> None:
    closed = []

    class Failing(Callback):
        def on_restore(self, state: Any) -> None:
            raise RuntimeError

    class Other(Callback):
        def on_close(self) -> None:
            closed.append(self)

    with pytest.raises(RuntimeError):
        gv.fit(make_adata(30), epochs=1, progress=False, callbacks=[Failing(), Other()])
    assert closed


@pytest.mark.parametrize("record", PARTS.values(), ids=PARTS)
def test_an_option_means_the_same_wherever_it_is_described(record: type) -> None:
    """In the record and in fit; the help of the command, which adds defaults, begins alike."""
    of_fit, of_command = meanings(gv.fit), meanings(fit_command)
    for name, meaning in meanings(record).items():
        assert of_fit[name] == meaning
        assert of_command.get(name, meaning).startswith(re.split(r"[;:.]", meaning)[0])


def test_an_option_of_another_package_in_a_config_is_not_lost() -> None:
    with pytest.warns(GenevaeWarning, match="batch_key is batch here"):
        assert FitConfig.from_flat({"batch_key": "donor"}).covariates.batch == "donor"
    with pytest.raises(RecipeError, match="no option 'batsh'"):
        FitConfig.from_flat({"batsh": "donor"})
