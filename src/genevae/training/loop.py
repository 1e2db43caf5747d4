"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice

import torch
from torch import Tensor

from genevae.cells import Cells
from genevae.data.loader import Loader
from genevae.errors import TrainingError
from genevae.models.vae import VAE
from genevae.nn.sharding import sharing
from genevae.objectives.objective import Loss, Objective
from genevae.training.autocast import half_precision
from genevae.training.callbacks import NoCheckpoints
from genevae.training.history import Epoch, History, Log, Means, UnderWay
from genevae.training.malloc import keep_freed_memory
from genevae.training.progress import ProgressBar
from genevae.training.settings import Training
from genevae.training.state import State
from genevae.training.world import World

__all__ = ["take_step", "train", "validate"]


def train(
    model: VAE,
    objective: Objective,
    training: Loader,
    validation: Loader,
    settings: Training,
    *,
    device: torch.device,
    progress: bool = True,
    ranks: World | None = None,
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
    ranks = ranks or World.alone()
    training, validation = ranks.own(training), ranks.own(validation)
    state = State.begin(model, objective, training, settings, device, ranks)
    checkpoints = checkpoints or NoCheckpoints()
    checkpoints.restore(state)
    for log in logs:
        log.start(state.history)
    lower = half_precision((model, objective), settings.precision, device)
    with keep_freed_memory(), lower, ProgressBar(state.n_epochs, progress and ranks.is_first, state.epoch) as bar:
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
    ranks: World = World.alone(),  # noqa: B008 - it is frozen
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


def take_step(state: State, minibatches: Sequence[Cells], clip: float) -> None:
    """Go down the gradient of the mean loss of all these cells, or skip the step where that is not finite.

    Parameters
    ----------
    state
        Of training; changed in place.
    minibatches
        The cells, in parts that are passed through the model one after the other. Each counts by its number of cells,
        so that the gradient of a loss that is a mean over cells is that of one large minibatch. What joins the cells
        of a minibatch – batch norm, or the comparison of its pairs – is still done within each part.
    clip
        Largest norm of the gradient.
    """
    parameters = state.parameters
    losses = state.ranks.add_up(_backward(state, minibatches), minibatches, parameters)
    state.scaler.unscale_(state.optimizer)
    norm = _gradient_norm(parameters)
    if math.isfinite(norm) and all(math.isfinite(loss.total.item()) for loss in losses):
        if norm > clip:
            torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], clip / norm)
        state.scaler.step(state.optimizer)
        state.guard.passed()
        for cells, loss in zip(minibatches, losses, strict=True):
            state.under_way.means.add(cells.n_shared, {"loss": loss.total.detach(), **loss.terms})
    else:
        _skip(state, minibatches, losses)
    state.scaler.update()
    state.step += 1
    state.under_way.minibatches += len(minibatches)


def _backward(state: State, minibatches: Sequence[Cells]) -> list[Loss]:
    """Add up the gradients of all parts."""
    state.optimizer.zero_grad()
    n_cells = sum(cells.n_shared for cells in minibatches)
    losses = []
    for cells in minibatches:
        with sharing(cells):
            loss = state.objective(state.model, cells, state.progress)
        state.scaler.scale(loss.total * (cells.n_cells / n_cells)).backward()
        losses.append(loss)
    return losses


def _gradient_norm(parameters: list[Tensor]) -> float:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))


def _skip(state: State, minibatches: Sequence[Cells], losses: Sequence[Loss]) -> None:
    """Tell the guard; a gradient that only half precision has made too large is no fault of the cells."""
    broken = [pair for pair in zip(minibatches, losses, strict=True) if not math.isfinite(pair[1].total.item())]
    if not broken and state.scaler.is_enabled() and state.scaler.get_scale() > 1:
        state.guard.overflowed()
    else:
        state.guard.failed(*(broken or [(minibatches[-1], losses[-1])])[0])
