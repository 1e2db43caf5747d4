"""States of training that are kept on disk."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from genevae.errors import RunError, TrainingPaused
from genevae.runs import checkpoint_state
from genevae.runs.event_log import EventLog
from genevae.runs.every import Every
from genevae.runs.manifest import verify_folder, write_folder, write_tensors
from genevae.runs.signals import Asked
from genevae.training.callbacks import NoCheckpoints
from genevae.training.state import State
from genevae.training.world import World

__all__ = ["Checkpoints", "latest"]

TENSORS, FACTS = "state.safetensors", "state.json"


class Checkpoints(NoCheckpoints):
    """Keep the state of training every now and then, when the process is asked to end, and at the end.

    A checkpoint is a folder: tensors, JSON, and a manifest with the sha256 of both. It has the best weights so far in
    it, beside the present ones.

    Parameters
    ----------
    run
        The folder of the run; checkpoints are in a folder of it.
    every
        When it is time.
    keep
        How many are kept: the last.
    asked
        Whether the process was asked to end.
    log
        Is told of every checkpoint.
    """

    def __init__(self, run: Path, every: Every, keep: int, asked: Asked, log: EventLog) -> None:
        self.run, self.folder = run, run / "checkpoints"
        self.every, self.keep, self.asked, self.log = every, keep, asked, log

    def restore(self, state: State) -> None:
        """Put the last state back, if there is one.

        Raises
        ------
        RunError
            If it is damaged, or of another version.
        """
        if state.ranks.is_first:
            self._clear()
        path = self._last(state.ranks)
        if path is None:
            return
        _verify(path)
        try:
            checkpoint_state.restore(
                state, load_file(path / TENSORS), json.loads((path / FACTS).read_text(encoding="utf-8"))
            )
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise RunError(f"{path} is not the state of this model, or is of another version: {error}.") from error
        self.log.write("resume", step=state.step, epoch=state.epoch, checkpoint=path.name)

    def _last(self, ranks: World) -> Path | None:
        """Return the last checkpoint that the first process sees, which is the one that has written it."""
        path = latest(self.run)
        name = ranks.texts(path.name if path else "")[0]
        return self.folder / name if name else None

    def after_step(self, state: State) -> None:
        """Keep the state if it is time.

        Raises
        ------
        TrainingPaused
            If the process was asked to end.
        """
        self._keep_if(self.every.after_step(state.step), state)

    def after_epoch(self, state: State) -> None:
        """Keep the state if it is time, or if training is done.

        Raises
        ------
        TrainingPaused
            If the process was asked to end.
        """
        self._keep_if(state.done or self.every.after_epoch(state.epoch), state)

    def _keep_if(self, is_time: bool, state: State) -> None:
        asked = self._asked(state.ranks)
        if (is_time or asked) and state.ranks.is_first:
            self._write(state)
        if asked:
            self.log.write("signal", name=asked, step=state.step)
            raise TrainingPaused(
                f"{asked} asked for an end: the state after step {state.step} of {state.n_steps} is kept. Go on with: "
                f"genevae fit --resume {self.run}"
            )

    def _asked(self, ranks: World) -> str | None:
        """Return the name of the signal that any of the processes was sent; they stop at the same step."""
        if not ranks.any(self.asked.by is not None):
            return None
        return next(filter(None, ranks.texts(self.asked.by or "")))

    def _write(self, state: State) -> None:
        path = self.folder / f"step_{state.step:08d}"
        tensors, facts = (
            checkpoint_state.to_tensors(state),
            json.dumps(checkpoint_state.to_json(state), indent=1) + "\n",
        )
        write_folder(
            path,
            {
                TENSORS: lambda file: write_tensors(file, tensors),
                FACTS: lambda file: _write_text(file, facts),
            },
            {"step": state.step, "epoch": state.epoch},
            overwrite=True,
        )
        self.log.write("checkpoint", step=state.step, epoch=state.epoch, name=path.name)
        for old in _steps(self.run)[: -self.keep]:
            with suppress(OSError):  # it is tried again after the next
                self._remove(old)

    def _remove(self, path: Path) -> None:
        """Take a checkpoint out of sight at once, and then away."""
        hidden = path.with_name(f".{path.name}")
        path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def _clear(self) -> None:
        """Remove what a killed process has left half-written, or half-removed."""
        for entry in self.folder.glob(".*"):
            shutil.rmtree(entry, ignore_errors=True)


def latest(run: Path) -> Path | None:
    """Return the last checkpoint of a run, if it has any."""
    return next(reversed(_steps(run)), None)


def _steps(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step_*"))


def _verify(path: Path) -> None:
    try:
        verify_folder(path)
    except RunError as error:
        before = _steps(path.parents[1])[:-1]
        choice = f"remove {path}, and training goes on from {before[-1].name}" if before else "train again"
        raise RunError(f"{error} Or {choice}.") from error


def _write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
