"""A fit that was interrupted goes on to the same bits, whatever the recipe and the source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.runs import assert_same

from genevae.cli import main
from genevae.errors import DataError, RecipeError, RunError, TrainingPaused
from genevae.io.formats import ReadOptions
from genevae.recipes.registry import RECIPES
from genevae.runs.checkpoint import Checkpoints, latest
from genevae.runs.config_file import read_config
from genevae.runs.fit import fit
from genevae.runs.load import load
from genevae.runs.resume import resume
from genevae.runs.signals import stop_signals
from genevae.runs.trained import files_of
from genevae.tasks.embed import embed
from genevae.training.callbacks import Callback

SMALL = {"epochs": 3, "batch_size": 13, "n_latent": 3, "hidden": (8,), "progress": False, "device": "cpu"}
TYPES = {"condition": ["type"]}
WORDS: dict[str, dict[str, Any]] = {
    "contrastive": {**TYPES, "group": "lane"},
    "adversarial": {**TYPES, "batch": "lane"},
    "programs": {**TYPES, "gene_sets": {"one": ["G0", "G1", "G2", "G3", "G4"], "two": ["G5", "G6", "G7", "G8", "G9"]}},
    "dose": {"condition": ["drug"], "continuous": ["dose"], "control": {"drug": "ctrl"}},
    "cycle": {"condition": ["type", "drug"], "setting": {"category_dropout": 0.1, "head_scaling": "fitted"}},
    "nb": {**TYPES, "batch": "lane", "setting": {"size": "learned", "prior": "conditional", "category_dropout": 0.2}},
    "gaussian": {**TYPES, "balance": "type"},
    "zinb": {**TYPES, "precision": "bf16"},
    "poisson": {**TYPES, "accumulate": 2, "setting": {"plateau": 1, "patience": 0}},
}


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let every fit be asked to end after so many of its own steps."""

    def after(n_steps: int) -> None:
        original = Checkpoints.on_step

        def asked(self: Checkpoints, state: Any) -> None:
            self.taken = getattr(self, "taken", 0) + 1
            if self.taken == n_steps:
                self.stop.signal = "SIGUSR1"
            original(self, state)

        monkeypatch.setattr(Checkpoints, "on_step", asked)

    return after


def finish(run: Path, data: Any) -> int:
    """Resume until training has ended, and count how often that took."""
    for n_times in range(1, 100):
        try:
            resume(run, data, progress=False)
        except TrainingPaused:
            continue
        return n_times
    raise AssertionError("it never ends")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_goes_on_as_if_nothing_had_been(recipe, make_adata, tmp_path, interrupt):
    data = make_adata(70)
    words = {**SMALL, **WORDS.get(recipe, TYPES), "recipe": recipe, "checkpoint_every": 1000, "epochs": 2}
    fit(data, out=tmp_path / "whole", **words)
    interrupt(3)
    with pytest.raises(TrainingPaused, match=r"SIGUSR1.* genevae fit --resume"):
        fit(data, out=tmp_path / "parts", **words)
    assert finish(tmp_path / "parts", data) > 1
    assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("recipe", ["gaussian", "contrastive", "cycle"])
def test_so_does_what_is_read_from_disk(recipe, make_adata, tmp_path, interrupt, monkeypatch):
    make_adata(70).write_h5ad(tmp_path / "cells.h5ad")
    words = {**SMALL, **WORDS[recipe], "recipe": recipe, "checkpoint_every": "1e"}
    monkeypatch.chdir(tmp_path)
    fit(ReadOptions(path="cells.h5ad", keep="disk"), out="whole", **words)
    interrupt(6)
    with pytest.raises(TrainingPaused):
        fit(ReadOptions(path="cells.h5ad", keep="disk"), out="parts", **words)
    monkeypatch.chdir(tmp_path.parent)  # the data are found again from elsewhere
    finish(tmp_path / "parts", None)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert read_config(tmp_path / "parts" / "config.toml") == read_config(tmp_path / "whole" / "config.toml")
    assert load(tmp_path / "parts").facts["data"] == "cells.h5ad"


def test_memory_and_disk_end_alike(make_adata, tmp_path, interrupt):
    make_adata(70).write_h5ad(tmp_path / "cells.h5ad")
    for keep in ("memory", "disk"):
        place = ReadOptions(path=tmp_path / "cells.h5ad", keep=keep)
        fit(place, out=tmp_path / keep, checkpoint_every=5, **SMALL, **TYPES)
    assert_same(tmp_path / "memory", tmp_path / "disk")


def test_checkpoints_change_nothing(make_adata, tmp_path):
    data = make_adata(70)
    fit(data, out=tmp_path / "without", **SMALL, **TYPES)
    fit(data, out=tmp_path / "with", checkpoint_every=1, **SMALL, **TYPES)
    for name in ("model.safetensors", "reference.safetensors", "calibration.json"):
        assert (tmp_path / "without" / name).read_bytes() == (tmp_path / "with" / name).read_bytes()
    assert not (tmp_path / "without" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("every", "keep", "steps"), [(4, 2, [12, 15]), (2, 9, [2, 4, 6, 8, 10, 12, 14, 15]), ("2e", 3, [10, 15]),
                                 ("0.000001m", 3, [13, 14, 15]), ("60m", 3, [15])]
)  # fmt: skip
def test_checkpoints_come_when_asked_and_the_last_are_kept(every, keep, steps, make_adata, tmp_path):
    fit(make_adata(70), out=tmp_path / "run", checkpoint_every=every, keep_checkpoints=keep, **SMALL, **TYPES)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        f"step_{step:08d}" for step in steps
    ]


@pytest.mark.parametrize("words", ["0", "-3", "2.5", "10h", "e", "", "1.5e", "nan"])
def test_checkpoints_at_no_time_are_an_error(words, adata, tmp_path):
    with pytest.raises(RecipeError, match="Checkpoints cannot be made every"):
        fit(adata, out=tmp_path / "run", checkpoint_every=words, **SMALL)


def test_keeping_no_checkpoint_is_an_error(adata, tmp_path):
    for name in ("keep_checkpoints", "read_threads"):
        with pytest.raises(RecipeError, match=name):
            fit(adata, out=tmp_path / "run", checkpoint_every=1, **{name: 0}, **SMALL)


def test_checkpoints_need_a_folder(adata):
    with pytest.raises(RecipeError, match="need a folder"):
        fit(adata, checkpoint_every=5, **SMALL)


@pytest.fixture
def half(make_adata, tmp_path, interrupt, monkeypatch) -> Path:
    """A run that has ended in its second epoch of three, with two checkpoints."""
    make_adata(70).write_h5ad(tmp_path / "cells.h5ad")
    with monkeypatch.context() as patch:
        original = Checkpoints.on_step

        def asked(self: Checkpoints, state: Any) -> None:
            self.stop.signal = "SIGTERM" if state.step == 7 else None
            original(self, state)

        patch.setattr(Checkpoints, "on_step", asked)
        with pytest.raises(TrainingPaused):
            fit(tmp_path / "cells.h5ad", out=tmp_path / "half", checkpoint_every=3, **SMALL, **TYPES)
    return tmp_path / "half"


def test_a_run_that_is_not_finished_says_how_to_go_on(half):
    shutil.rmtree(half / "checkpoints")
    with pytest.raises(RunError, match=r"unfinished\. Continue with genevae fit --resume .*half"):
        load(half)
    with pytest.raises(RunError, match=r"unfinished.*--resume"):
        fit(half.parent / "cells.h5ad", out=half, checkpoint_every=3, **SMALL)


def test_a_run_that_is_not_finished_can_be_begun_anew(half):
    fit(half.parent / "cells.h5ad", out=half, checkpoint_every=3, overwrite=True, **SMALL, **TYPES)
    assert load(half).history["epoch"].tolist() == [1, 2, 3]
    assert '"event": "resume"' not in (half / "log.jsonl").read_text()


def test_a_finished_run_is_returned_as_it_is(half):
    resume(half, progress=False)
    before = {path: path.stat().st_mtime_ns for path in half.rglob("*")}
    assert len(resume(half, progress=False).history) == 3
    assert {path: path.stat().st_mtime_ns for path in half.rglob("*")} == before


def test_a_run_without_any_checkpoint_begins_at_the_beginning(half):
    whole = half.with_name("whole")
    fit(half.parent / "cells.h5ad", out=whole, checkpoint_every=3, **SMALL, **TYPES)
    shutil.rmtree(half / "checkpoints")
    resume(half, progress=False)
    assert_same(whole, half)


# --- opening a checkpoint ---------------------------------------------------------------------------------------------


def content_of(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("recipe", ["nb", "cycle"])
def test_the_last_checkpoint_of_a_finished_run_is_its_model(recipe, make_adata, tmp_path):
    make_adata(70).write_h5ad(tmp_path / "cells.h5ad")
    words = {**SMALL, **WORDS[recipe], "recipe": recipe, "checkpoint_every": "1e"}
    fit(tmp_path / "cells.h5ad", out=tmp_path / "run", **words)
    opened, finished = load(latest(tmp_path / "run")), load(tmp_path / "run")
    assert opened.facts["checkpoint"] == "step_00000015"
    for name in files_of(finished):
        for model, path in ((opened, tmp_path / "opened"), (finished, tmp_path / "finished")):
            path.mkdir(exist_ok=True)
            files_of(model)[name](path / name)
        if name != "training.png":
            assert (tmp_path / "opened" / name).read_bytes() == (tmp_path / "finished" / name).read_bytes(), name


def test_tasks_open_a_run_that_is_being_trained_and_its_checkpoints(half, tmp_path, capsys):
    before = content_of(half)
    models = {path: load(path) for path in (half, half / "checkpoints", half / "checkpoints" / "step_00000007")}
    assert {model.facts["checkpoint"] for model in models.values()} == {"step_00000007"}
    assert [len(model.history) for model in models.values()] == [1, 1, 1]
    for path in (half, *models):
        main(["embed", str(path), str(half.parent / "cells.h5ad"), "--out", str(tmp_path / "z.npy"), "--force"])
        z = np.load(tmp_path / "z.npy")
        expected = embed(models[half], half.parent / "cells.h5ad").obsm["X_genevae"]
        assert np.array_equal(z, expected)
    assert content_of(half) == before
    resume(half, progress=False)  # opening has not kept it from continuing
    assert "checkpoint" not in load(half).facts


def test_a_checkpoint_of_data_in_memory_needs_the_same_data(make_adata, tmp_path, interrupt):
    interrupt(2)
    with pytest.raises(TrainingPaused):
        fit(make_adata(40), out=tmp_path / "run", checkpoint_every=3, **SMALL)
    with pytest.raises(RecipeError, match=r"data in memory: give them again.*gv\.load"):
        load(tmp_path / "run")
    with pytest.raises(DataError, match=r"not those that .*run began with"):
        load(tmp_path / "run", data=make_adata(41))
    opened = load(tmp_path / "run", data=make_adata(40))
    assert not len(opened.history)
    stored = load_file(latest(tmp_path / "run") / "state.safetensors")
    for name, tensor in opened.module.state_dict().items():  # the current weights, as no epoch has ended
        assert torch.equal(tensor, stored[f"model.{name}"]), name


@pytest.mark.parametrize("change", ["expression", "covariates"])
def test_other_data_are_refused(change, half):
    import anndata

    cells = anndata.read_h5ad(half.parent / "cells.h5ad")
    if change == "expression":
        cells.X = cells.X * 2
    else:
        cells.obs["type"] = cells.obs["type"].to_numpy()[::-1]
    cells.write_h5ad(half.parent / "cells.h5ad")
    with pytest.raises(DataError, match=f"not those that .*half began with.* has other {change}"):
        resume(half, progress=False)


def test_data_in_memory_must_be_given_again(make_adata, tmp_path, interrupt):
    interrupt(2)
    with pytest.raises(TrainingPaused):
        fit(make_adata(70), out=tmp_path / "run", checkpoint_every=3, **SMALL)
    with pytest.raises(RecipeError, match="data in memory: give them again"):
        resume(tmp_path / "run", progress=False)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
def test_a_flipped_bit_in_a_checkpoint_is_named_and_the_one_before_it_offered(name, half):
    path = latest(half) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"{name}.*Or remove .*step_00000007, .* from step_00000006"):
        resume(half, progress=False)
    shutil.rmtree(latest(half))
    whole = half.with_name("whole")
    fit(half.parent / "cells.h5ad", out=whole, checkpoint_every=3, **SMALL, **TYPES)
    resume(half, progress=False)
    assert_same(whole, half)


@pytest.mark.parametrize("name", ["config.toml", "start.json"])
def test_a_flipped_bit_in_what_a_run_began_with_is_named(name, half):
    content = bytearray((half / name).read_bytes())
    content[len(content) // 2] ^= 1
    (half / name).write_bytes(content)
    with pytest.raises(RunError, match=name):
        resume(half, progress=False)


def test_the_log_tells_the_story(half):
    with (half / "log.jsonl").open("a") as file:
        file.write('{"time": "2026-')  # a process was killed here
    resume(half, progress=False)
    lines = [json.loads(line) for line in (half / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "start", "checkpoint", "epoch", "checkpoint", "checkpoint", "signal", "resume",
        "checkpoint", "epoch", "checkpoint", "checkpoint", "epoch", "checkpoint", "end",
    ]  # fmt: skip
    assert lines[0]["command"]
    assert lines[5]["name"] == "SIGTERM"
    assert lines[6]["step"] == 7
    assert [line["epoch"] for line in lines if line["event"] == "epoch"] == [1, 2, 3]


def test_callbacks_see_the_earlier_epochs_and_every_new_one(half):
    seen: list[Any] = []

    class Listener(Callback):
        def on_start(self, state):
            seen.append(("start", state.epoch))

        def on_epoch(self, state, epoch):
            seen.append(("epoch", epoch.epoch))

        def on_end(self, state):
            seen.append(("end", state.history.ended))

        def on_close(self):
            seen.append("close")

    resume(half, progress=False, callbacks=[Listener()])
    assert seen == [("start", 1), ("epoch", 2), ("epoch", 3), ("end", "all epochs are done"), "close"]


def test_the_manifest_says_where_the_model_comes_from(half):
    resume(half, progress=False)
    facts = load(half).facts
    assert {"command", "folder", "host", "started", "seconds", "seed", "fingerprint", "device"} <= set(facts)
    assert facts["seconds"] > 0
    assert len(facts.get("commit", "0" * 40)) == 40


def test_signals_are_taken_only_as_long_as_they_are_waited_for():
    import os
    import signal

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
    with stop_signals() as request:
        assert request.signal is None
        os.kill(os.getpid(), signal.SIGUSR1)
        assert request.signal == "SIGUSR1"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)) == before


def test_a_thread_leaves_signals_alone(make_adata, tmp_path):
    import signal
    import threading

    seen = []

    class Listener(Callback):
        def on_start(self, state):
            seen.append(signal.getsignal(signal.SIGTERM))

    options = {**SMALL, "out": tmp_path / "run", "checkpoint_every": 3, "callbacks": [Listener()]}
    thread = threading.Thread(target=fit, args=(make_adata(40),), kwargs=options)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
    load(tmp_path / "run")
