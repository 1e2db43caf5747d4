"""Open a trained model: of a finished run, or of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genevae.calls import public
from genevae.errors import RunError, missing_path
from genevae.io.read_options import ReadOptions
from genevae.io.source import Source
from genevae.runs.checkpoint import CHECKPOINTS, is_checkpoint, latest, restore
from genevae.runs.fit import fit_in
from genevae.runs.folder import RunFolder
from genevae.runs.manifest import MANIFEST, START
from genevae.runs.remote import address_of, downloaded
from genevae.runs.resume import beginning
from genevae.runs.signals import StopRequest
from genevae.runs.trained import Trained, load_finished
from genevae.training.callbacks import Callback
from genevae.training.early_stopping import copy_weights
from genevae.training.state import State

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["load"]


@public
def load(
    path: str | Path, device: str = "cpu", data: AnnData | Source | ReadOptions | str | Path | None = None
) -> Trained:
    """Open a trained model, without pickle, and without its training data where training has ended.

    Parameters
    ----------
    path
        A folder that :func:`~genevae.runs.trained.save` or a fit wrote. A checkpoint, such as
        ``run/checkpoints/step_00000500``, the folder of all, or a run whose training is unfinished can be opened too,
        also while it is trained: that is the model as ``fit`` would return it if training had ended there, with the
        best weights so far. Nothing in the folder is changed. Or the address of a finished model, such as
        ``https://…``, ``hf://…`` or ``s3://…``: its files are downloaded, checked against the sha256 in its manifest,
        and not kept.
    device
        The device of the model.
    data
        For a checkpoint, the training data; by default they are opened again where they were.

    Raises
    ------
    DataError
        If the data of a checkpoint are not those of the run, or an address cannot be read.
    RecipeError
        If a checkpoint was trained on data in memory, and they are not given.
    RunError
        If the folder is missing, damaged, or of a version that this one cannot read.
    """
    if (address := address_of(path)) is not None:
        with downloaded(address) as folder:
            return replace(load_finished(folder, device), folder=None)
    checkpoint = _checkpoint_of(Path(path))
    if checkpoint is None:
        return load_finished(path, device)
    run = checkpoint.parents[1]
    data, config = beginning(run, data, device)
    return fit_in(_At(run, checkpoint), data, config, progress=False)


def _checkpoint_of(path: Path) -> Path | None:
    """Return the checkpoint that a path stands for: itself, or the last of an unfinished run."""
    if is_checkpoint(path):
        return path.absolute()
    if path.parent.name == CHECKPOINTS and not path.exists():
        raise RunError(missing_path(path))
    if path.name == CHECKPOINTS and (path.parent / START).is_file():
        if found := latest(path.parent):
            return found
        raise RunError(f"{path} has no checkpoint yet. Wait for the first, or train to the end.")
    return latest(path) if (path / START).is_file() and not (path / MANIFEST).exists() else None


class _At(RunFolder):
    """A run at one of its checkpoints, which is only read."""

    def __init__(self, path: Path, checkpoint: Path) -> None:
        super().__init__(path, resumes=True)
        self.checkpoint = checkpoint

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Do nothing: nothing is written."""
        yield

    def begin(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return what was written when training began."""
        return {**self.start(facts), "checkpoint": self.checkpoint.name}

    def on_signal(self, stop: StopRequest) -> Callback:  # noqa: ARG002 - the base's signature
        """Return what restores the checkpoint, and trains no further."""
        return _Restored(self.checkpoint)

    def finish(self, model: Trained) -> None:
        """Write nothing."""


class _Restored(Callback):
    """Restore a checkpoint, and end training there."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint

    def on_restore(self, state: State) -> None:
        """Restore the state; before the end of the first epoch, its weights are the best."""
        restore(self.checkpoint, state)
        if not state.history.epochs:
            state.best.weights = copy_weights(state.model, state.objective)
        if not state.done:
            state.done, state.history.ended = True, f"opened at {self.checkpoint.name}"
