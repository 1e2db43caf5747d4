"""Checkpoints: states of training on disk."""

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
from genevae.runs.interval import Interval
from genevae.runs.manifest import verify_folder, write_folder, write_tensors
from genevae.runs.signals import StopRequest
from genevae.training.callbacks import Callback
from genevae.training.history import Epoch
from genevae.training.state import State
from genevae.training.world import World

__all__ = ["CHECKPOINTS", "Checkpoints", "is_checkpoint", "latest", "restore"]

CHECKPOINTS, TENSORS, FACTS = "checkpoints", "state.safetensors", "state.json"


class Checkpoints(Callback):
    """Save the state of training at intervals, when a signal stops the process, and at the end.

    A checkpoint is a folder: tensors, JSON, and a manifest with the sha256 of both. It holds the current and the best
    weights.

    Parameters
    ----------
    run
        The folder of the run; checkpoints are in its folder ``checkpoints``.
    every
        The interval.
    keep
        How many are kept, the latest.
    stop
        Whether the process has received a signal to stop.
    log
        Gets a line for every checkpoint.
    """

    def __init__(self, run: Path, every: Interval, keep: int, stop: StopRequest, log: EventLog) -> None:
        self.run, self.folder = run, run / CHECKPOINTS
        self.every, self.keep, self.stop, self.log = every, keep, stop, log

    def on_restore(self, state: State) -> None:
        """Restore the last state, if there is one.

        Raises
        ------
        RunError
            If it is damaged, or of another version.
        """
        if state.world.is_first:
            self._clear()
        path = self._last(state.world)
        if path is None:
            return
        restore(path, state)
        self.log.write("resume", step=state.step, epoch=state.epoch, checkpoint=path.name)

    def _last(self, world: World) -> Path | None:
        """Return the last checkpoint of the first process, which writes them."""
        path = latest(self.run)
        name = world.texts(path.name if path else "")[0]
        return self.folder / name if name else None

    def on_step(self, state: State) -> None:
        """Save the state if it is time.

        Raises
        ------
        TrainingPaused
            If the process has received a signal to stop.
        """
        self._save_if(self.every.after_step(state.step), state)

    def on_epoch(self, state: State, epoch: Epoch) -> None:  # noqa: ARG002 - the callback's signature
        """Save the state if it is time, or if training is done.

        Raises
        ------
        TrainingPaused
            If the process has received a signal to stop.
        """
        self._save_if(state.done or self.every.after_epoch(state.epoch), state)

    def _save_if(self, is_time: bool, state: State) -> None:
        signal = self.stop.agreed(state.world)
        if (is_time or signal) and state.world.is_first:
            self._write(state)
        if signal:
            self.log.write("signal", name=signal, step=state.step)
            raise TrainingPaused(
                f"Training was stopped by {signal}; the state after step {state.step} of {state.n_steps} is saved. "
                f"Continue with: genevae fit --resume {self.run}"
            )

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
        """Hide a checkpoint at once, then delete it."""
        hidden = path.with_name(f".{path.name}")
        path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def _clear(self) -> None:
        """Remove what a killed process has left half-written or half-removed."""
        for entry in self.folder.glob(".*"):
            shutil.rmtree(entry, ignore_errors=True)


def restore(path: Path, state: State) -> None:
    """Make a fresh state that of a checkpoint.

    Raises
    ------
    RunError
        If it is damaged, or of another version.
    """
    _verify(path)
    try:
        checkpoint_state.restore(
            state, load_file(path / TENSORS), json.loads((path / FACTS).read_text(encoding="utf-8"))
        )
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Checkpoints of another version of genevae "
            "cannot be resumed: continue with the version that wrote them, or train again with genevae fit "
            f"--config {path.parents[1] / 'config.toml'} --out NEW."
        ) from error


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is a checkpoint in the folder of a run."""
    return (path / TENSORS).is_file() and path.absolute().parent.name == CHECKPOINTS


def latest(run: Path) -> Path | None:
    """Return the last checkpoint of a run, if it has any."""
    return next(reversed(_steps(run)), None)


def _steps(run: Path) -> list[Path]:
    return sorted((run / CHECKPOINTS).glob("step_*"))


def _verify(path: Path) -> None:
    try:
        verify_folder(path)
    except RunError as error:
        before = _steps(path.parents[1])[:-1]
        choice = f"remove {path}, and training continues from {before[-1].name}" if before else "train again"
        raise RunError(f"{error} Or {choice}.") from error


def _write_text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
