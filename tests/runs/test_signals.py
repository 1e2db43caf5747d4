"""A signal loses nothing: a fit ends with the best weights so far, and a command with one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from genevae.errors import TrainingPaused
from genevae.runs.checkpoint import latest
from genevae.runs.fit import fit
from genevae.runs.load import load
from genevae.runs.resume import resume
from genevae.runs.signals import NAMES, ends_cleanly, stop_signals
from genevae.training.callbacks import Callback

WORDS = {"condition": ["type"], "epochs": 50, "batch_size": 16, "n_latent": 2, "hidden": (8,), "progress": False,
         "device": "cpu"}  # fmt: skip


class Signal(Callback):
    """Sends this process a signal at a step."""

    def __init__(self, name: str, step: int) -> None:
        self.number, self.step = getattr(signal, name), step

    def on_step(self, state) -> None:
        if state.step == self.step:
            signal.raise_signal(self.number)


@pytest.mark.parametrize("step", [1, 12])
def test_ctrl_c_ends_a_fit_with_the_best_weights_so_far_and_says_how_to_go_on(adata, tmp_path, capsys, step):
    model = fit(adata, **WORDS, out=tmp_path / "run", callbacks=[Signal("SIGINT", step)])
    assert 1 <= len(model.history) < 50
    assert model.facts["ended"] == "stopped by SIGINT"
    assert model.history["validation_loss"].idxmin() + 1 == model.facts["best_epoch"]
    assert f"--from {tmp_path / 'run'}" in capsys.readouterr().err
    assert load(tmp_path / "run").facts["best_epoch"] == model.facts["best_epoch"]
    again = fit(adata, **{**WORDS, "epochs": 1}, from_run=tmp_path / "run")
    assert len(again.history) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_signal_keeps_a_checkpoint_that_is_resumed(adata, tmp_path, name):
    run = tmp_path / "run"
    with pytest.raises(TrainingPaused, match=name):
        fit(adata, **WORDS, out=run, checkpoint_every=10**6, callbacks=[Signal(name, 7)])
    assert latest(run).name == "step_00000007"
    assert len(resume(run, adata, progress=False).history) == 50


def test_a_signal_other_than_ctrl_c_saves_the_model_and_then_has_its_usual_effect(adata, tmp_path):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        fit(adata, **WORDS, out=tmp_path / "run", callbacks=[Signal("SIGTERM", 3)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert load(tmp_path / "run").facts["ended"] == "stopped by SIGTERM"


def test_a_second_signal_ends_what_the_first_only_noted(monkeypatch):
    monkeypatch.setattr("genevae.runs.signals._AGAIN", 0.0)
    with stop_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == "SIGTERM"
        time.sleep(0.01)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert stop.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("arguments", "name", "code"),
    [
        (["embed"], "SIGINT", 130),
        (["embed"], "SIGTERM", 143),
        (["fit", "--checkpoint-every", "5"], "SIGUSR1", 75),
        (["fit", "--resume=run"], "SIGTERM", 75),
        (["fit", "--epochs", "5"], "SIGTERM", 143),
    ],
)
def test_a_command_ends_with_one_line(arguments, name, code, capsys):
    def run() -> None:
        with ends_cleanly(arguments):
            try:
                signal.raise_signal(getattr(signal, name))
            except KeyboardInterrupt:
                raise ValueError("what a library makes of it") from None

    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == code
    assert (
        capsys.readouterr().err == f"genevae: stopped by {name}. Nothing half-written is in the place of the result.\n"
    )


def test_ctrl_c_while_modules_are_imported_is_no_traceback(tmp_path):
    (tmp_path / "slow.py").write_text("print('here', flush=True)\nimport time\ntime.sleep(60)\n")
    code = "from genevae.runs.signals import ends_cleanly\nwith ends_cleanly(['embed']):\n    import slow\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    assert (
        process.communicate()[1] == "genevae: stopped by SIGINT. Nothing half-written is in the place of the result.\n"
    )
    assert process.returncode == 130
