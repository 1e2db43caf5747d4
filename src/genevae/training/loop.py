"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice

import torch

from genevae.cells import Cells
from genevae.data.loader import Loader
from genevae.errors import TrainingError
from genevae.models.vae import VAE
from genevae.nn.part import sharing
from genevae.objectives.objective import Objective
from genevae.training.allocator import kept_memory
from genevae.training.checkpoint import NoCheckpoints
from genevae.training.history import Epoch, History
from genevae.training.log import Log
from genevae.training.means import Means, UnderWay
from genevae.training.precision import lowered
from genevae.training.progress import ProgressBar
from genevae.training.ranks import Ranks
from genevae.training.settings import Training
from genevae.training.state import State
from genevae.training.step import take_step

__all__ = ["train", "validate"]


def train(
    model: VAE,
    objective: Objective,
    training: Loader,
    validation: Loader,
    settings: Training,
    *,
    device: torch.device,
    progress: bool = True,
    ranks: Ranks | None = None,
    logs: Sequence[Log] = (),
    checkpoints: NoCheckpoints | None = None,
) -> History:
    """Make the objective small on the training cells, and keep the weights that are best on the validation cells.

    Parameters
    ----------
    model, objective
        What is trained, in place.
    training, validation
        Minibatches, of all processes together. Without validation cells the training loss takes their place.
    settings
        How long, how fast, and when to stop.
    device
        Where.
    progress
        Whether to show a bar.
    ranks
        The processes that train together; this one alone by default.
    logs
        Who is told of every epoch.
    checkpoints
        Where the state is kept every now and then, and taken from at first, if it is there.

    Returns
    -------
    History
        Of every epoch, and why training ended.

    Raises
    ------
    TrainingError
        If the loss stays not finite; the message names cells and genes.
    """
    if training.sampler.n_cells < 2:
        raise TrainingError(f"There are {training.sampler.n_cells} cells to train on, and two at least are needed.")
    ranks = ranks or Ranks.alone()
    training, validation = ranks.own(training), ranks.own(validation)
    state = State.begin(model, objective, training, settings, device, ranks)
    checkpoints = checkpoints or NoCheckpoints()
    checkpoints.restore(state)
    for log in logs:
        log.start(state.history)
    lower = lowered((model, objective), settings.precision, device)
    with kept_memory(), lower, ProgressBar(state.n_epochs, progress and ranks.is_first, state.epoch) as bar:
        while not state.done:
            _train_epoch(state, training, settings, checkpoints)
            epoch = _end_epoch(state, training, validation)
            bar.show(epoch)
            for log in logs:
                log.epoch(epoch)
            checkpoints.after_epoch(state)
    if settings.keep_best:
        state.best.restore()
    for log in logs:
        log.end(state.history)
    return state.history


def _train_epoch(state: State, training: Loader, settings: Training, checkpoints: NoCheckpoints) -> None:
    """Take the steps of the epoch under way that are left."""
    state.model.train()
    state.objective.train()
    training.restore({"epoch": state.epoch, "minibatch": state.under_way.minibatches})
    with closing(state.ranks.epoch(training, state.epoch)) as minibatches:
        moved = (cells.to(state.device) for cells in state.under_way.timed(minibatches))
        for together in _by(settings.accumulate, moved):
            take_step(state, together, settings.clip)
            checkpoints.after_step(state)


def _by(n: int, minibatches: Iterator[Cells]) -> Iterator[list[Cells]]:
    """Yield so many minibatches at once; the last may be fewer."""
    while together := list(islice(minibatches, n)):
        yield together


def _end_epoch(state: State, training: Loader, validation: Loader) -> Epoch:
    """Validate, and draw the consequences."""
    found = _validated(state, validation)
    epoch = _epoch(state, training, found)
    state.history.epochs.append(epoch)
    state.under_way = UnderWay(skipped_before=state.guard.skipped)
    settled = state.objective.settled(state.progress)
    state.best.see(epoch.epoch - 1, epoch.validation_loss, settled)
    state.history.best_epoch = state.best.epoch
    state.guard.keep()
    if verdict := state.best.verdict():
        state.history.ended = verdict
    state.done = bool(verdict) or epoch.epoch == state.n_epochs
    if state.plateau and settled and not verdict:
        state.plateau.step(epoch.validation_loss)
    return epoch


def _validated(state: State, validation: Loader) -> dict[str, float]:
    if not validation.sampler.n_cells:
        return {}
    minibatches = state.ranks.epoch(validation, 0)
    return validate(state.model, state.objective, minibatches, state.device, ranks=state.ranks)


def _epoch(state: State, training: Loader, found: dict[str, float]) -> Epoch:
    """Sum the epoch under way up."""
    under_way, terms = state.under_way, state.under_way.means.result()
    train_loss = terms.pop("loss", math.nan)
    return Epoch(
        epoch=state.epoch + 1,
        step=state.step,
        train_loss=train_loss,
        validation_loss=found.pop("loss", train_loss),
        learning_rate=state.learning_rate,
        cells_per_second=training.sampler.n_cells / under_way.seconds,
        waiting_share=under_way.waiting / under_way.seconds,
        skipped=state.guard.skipped - under_way.skipped_before,
        terms={**terms, **{f"validation_{name}": value for name, value in found.items()}},
    )


@torch.no_grad()
def validate(
    model: VAE,
    objective: Objective,
    cells: Iterable[Cells],
    device: torch.device,
    seed: int = 0,
    ranks: Ranks = Ranks.alone(),  # noqa: B008 - it is frozen
) -> dict[str, float]:
    """Return the mean loss and its terms at every schedule's target, with the same noise at every call."""
    model.eval()
    objective.eval()
    means = Means()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for minibatch in cells:
            with sharing(minibatch):
                loss = objective(model, minibatch.to(device))
            means.add(minibatch.n_cells, {"loss": loss.total, **loss.terms})
    return ranks.means(means).result()
