"""Whenever a save fails or is killed, what is there afterwards is the old or the new: never a half, never nothing."""

from __future__ import annotations

import json
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.runs.faults import Kind, count, outcome

from genevae.errors import RunError
from genevae.io import atomic
from genevae.runs.checkpoint import Checkpoints, latest
from genevae.runs.event_log import EventLog
from genevae.runs.interval import Interval
from genevae.runs.manifest import MANIFEST, START, complete_folder, verify_folder, write_folder, write_tensors
from genevae.runs.signals import StopRequest
from genevae.training.world import World

KINDS: tuple[Kind, ...] = ("kill", "ENOSPC", "EACCES")
FEW, MANY = 10, 100


@dataclass
class Case:
    """Something to save over what was saved before."""

    prepare: Callable[[Path], None]
    save: Callable[[Path], None]
    opened: Callable[[Path], str]


def files(content: str) -> dict[str, Callable[[Path], object]]:
    return {
        "a.json": lambda path: path.write_text(json.dumps(content)),
        "b.safetensors": lambda path: write_tensors(path, {"x": torch.full((50,), float(len(content)))}),
    }


CONFIG = {"config.toml": lambda path: path.write_text("seed = 0")}


def open_folder(path: Path) -> str:
    return str(verify_folder(path / "run")["version"])


def replace_model(path: Path) -> None:
    write_folder(path / "run", files("newer"), {"version": "new"}, overwrite=True)


def open_finished(path: Path) -> str:
    if (path / "run" / MANIFEST).exists():
        return open_folder(path)
    with pytest.raises(RunError, match="unfinished"):
        open_folder(path)
    verify_folder(path / "run", START)
    return "old"


class Stub:
    """Stands for a state of training, of which a checkpoint asks no more than this."""

    def __init__(self, step: int) -> None:
        self.step = self.epoch = step
        self.n_steps, self.done, self.world = 9, False, World()


def keep(path: Path, step: int) -> None:
    run = path / "run"
    checkpoints = Checkpoints(run, Interval(1, "steps"), 1, StopRequest(), EventLog(run / "log.jsonl"))
    checkpoints.on_step(Stub(step))  # type: ignore[arg-type]


def prepare_checkpoint(path: Path) -> None:
    (path / "run").mkdir(parents=True)
    keep(path, 1)


def open_checkpoint(path: Path) -> str:
    found = latest(path / "run")
    assert found is not None
    return {1: "old", 2: "new"}[verify_folder(found)["step"]]


CASES = {
    "model": Case(
        lambda path: write_folder(path / "run", files("old"), {"version": "old"}), replace_model, open_folder
    ),
    "checkpoint": Case(prepare_checkpoint, lambda path: keep(path, 2), open_checkpoint),
    "finish": Case(
        lambda path: write_folder(path / "run", CONFIG, {"version": "old"}, manifest=START),
        lambda path: complete_folder(path / "run", {**files("newer"), **CONFIG}, {"version": "new"}),
        open_finished,
    ),
}


@pytest.fixture(autouse=True)
def small_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "genevae.runs.checkpoint_state.to_tensors", lambda state: {"x": torch.full((50,), float(state.step))}
    )
    monkeypatch.setattr("genevae.runs.checkpoint_state.to_json", lambda state: {"step": state.step})


def attempt(case: Case, folder: Path, at: int, kind: Kind) -> tuple[str, str]:
    case.prepare(folder)
    ended = outcome(lambda: case.save(folder), at, kind)
    return ended, case.opened(folder)


def check(name: str, kind: Kind, tmp_path: Path, n_points: int) -> None:
    case = CASES[name]
    case.prepare(tmp_path / "count")
    n_calls = count(lambda: case.save(tmp_path / "count"))
    assert n_calls > 15
    found = []
    for point in range(n_points):
        at = 1 + point % n_calls if n_points > n_calls else 1 + point * n_calls // n_points
        folder = tmp_path / f"at{point}"
        ended, opened = attempt(case, folder, at, kind)
        assert ended != "crashed", f"call {at} of {n_calls}: {kind} is no error in words"
        assert opened in {"old", "new"}
        assert opened == "new" or ended != "saved"
        found.append(opened)
        case.save(folder)  # and the next save succeeds, whatever was left
        assert case.opened(folder) == "new"
        assert not [entry for entry in folder.rglob(".*") if "draft" in entry.name or entry.name.endswith(".old")]
        shutil.rmtree(folder)
    assert "old" in found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_a_save_that_fails_leaves_the_old_or_the_new(name, kind, tmp_path):
    check(name, kind, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_a_save_that_fails_anywhere_leaves_the_old_or_the_new(name, kind, tmp_path):
    check(name, kind, tmp_path, MANY)


def test_where_folders_cannot_be_exchanged_the_old_one_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    check("model", "kill", tmp_path, 60)


def test_a_folder_is_there_at_every_moment_of_its_replacement(tmp_path, monkeypatch):
    CASES["model"].prepare(tmp_path)
    seen = []
    for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
        original = getattr(atomic.os, name)

        def looked(*args, original=original, **kwargs):
            seen.append(open_folder(tmp_path))
            return original(*args, **kwargs)

        monkeypatch.setattr(atomic.os, name, looked)
    replace_model(tmp_path)
    monkeypatch.undo()
    if "new" not in seen:
        pytest.skip("this system cannot exchange folders")
    assert seen == sorted(seen, reverse=True), "first the old, then the new"
    assert open_folder(tmp_path) == "new"


def test_a_file_that_may_not_grow_is_an_error_in_words(tmp_path):
    """The system itself says so here, to whatever writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    CASES["model"].prepare(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        with pytest.raises(RunError, match=r"Cannot write .*run: File too large"):
            replace_model(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert open_folder(tmp_path) == "old"


def test_a_folder_that_may_not_be_written_to_is_an_error_in_words(tmp_path, monkeypatch):
    CASES["model"].prepare(tmp_path)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "mkdir", refuse)
        with pytest.raises(RunError, match=r"Nothing can be written in .*: Permission denied"):
            replace_model(tmp_path)
    assert open_folder(tmp_path) == "old"
