"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from itertools import islice
from typing import Any

import torch

from genevae.cells import Cells
from genevae.data.loader import Loader
from genevae.errors import TrainingError
from genevae.models.vae import VAE
from genevae.objectives.objective import Loss, Objective
from genevae.session import settings as session
from genevae.training.autocast import drawing_nothing, half_precision
from genevae.training.batch_norm import MEMORY, reestimate_norm
from genevae.training.callbacks import Callback, StopTraining
from genevae.training.graph import Recorder
from genevae.training.history import Epoch, History, Means, RunningEpoch
from genevae.training.malloc import keep_freed_memory
from genevae.training.settings import Training
from genevae.training.state import State
from genevae.training.threads import FastestThreads
from genevae.training.world import World

__all__ = ["take_step", "train", "validate"]

SHARE_OF_CELLS = 4
"""A GPU keeps the cells if they take at most one part in so many of its free memory."""


def train(
    model: VAE,
    objective: Objective,
    training: Loader,
    validation: Loader,
    settings: Training,
    *,
    device: torch.device,
    world: World | None = None,
    callbacks: Sequence[Callback] = (),
    parameter_groups: Sequence[dict[str, Any]] | None = None,
    recorder: Recorder | None = None,
) -> History:
    """Minimise the objective on the training cells, and keep the weights that are best on the validation cells.

    Parameters
    ----------
    model, objective
        What is trained, in place.
    training, validation
        Minibatches, of all processes together. Without validation cells the training loss takes their place.
    settings
        How long, how fast, and when to stop.
    device
        Where the model is.
    world
        The processes that train together; by default only this one.
    callbacks
        What takes part, such as progress and checkpoints, in this order.
    parameter_groups
        Adam's groups of parameters; by default one group of all.
    recorder
        Records steps and replays them; by default none is.

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
        raise TrainingError(f"There are {training.sampler.n_cells} cells to train on; at least two are needed.")

    # A GPU keeps cells that are in memory anyway. Each process loads its shard of the same minibatches.
    world = world or World()
    training, validation = _resident(training, validation, device)
    training, validation = world.shards_of(training), world.shards_of(validation)

    # The state is all that training changes; a checkpoint puts an earlier one back.
    state = State.begin(model, objective, training, settings, device, world, parameter_groups)
    state.recorder = recorder or Recorder()
    with ExitStack() as stack:
        stack.callback(state.recorder.forget)
        stack.enter_context(torch.cuda.device(device) if device.type == "cuda" else nullcontext())
        stack.enter_context(keep_freed_memory())
        if session.num_threads == "auto" and world.is_alone and device.type == "cpu":
            callbacks = [FastestThreads(), *callbacks]
        stack.enter_context(half_precision((model, objective), settings.precision, device))
        for callback in callbacks:
            stack.callback(callback.on_close)
        for callback in reversed(callbacks):
            callback.on_restore(state)
        for callback in callbacks:
            callback.on_start(state)

        # Epoch by epoch: train, validate, and stop early where validation does not improve.
        while not state.done:
            _run_epoch(state, training, validation, settings, callbacks)
        epochs = state.history.epochs  # none if a checkpoint before the end of the first is opened
        if epochs and not (math.isfinite(state.best.loss) and math.isfinite(epochs[-1].train_loss)):
            raise TrainingError(
                f"Training ended without a finite loss: {state.guard.skipped:,} of {state.step:,} steps were skipped, "
                "all of the last epoch among them. "
                f"Lower the learning rate ({settings.learning_rate:g}) or the weights of the objective's terms, and "
                "check the values with `genevae inspect`."
            )
        if settings.keep_best:
            state.best.restore()
        for callback in callbacks:
            callback.on_end(state)
    return state.history


def _resident(training: Loader, validation: Loader, device: torch.device) -> tuple[Loader, Loader]:
    """Let a GPU keep the cells where they fit."""
    if device.type != "cuda":
        return training, validation
    most = torch.cuda.mem_get_info(device)[0] // SHARE_OF_CELLS
    if validation.source is not training.source:
        return training.resident(device, most), validation.resident(device, most)
    resident = training.resident(device, most, validation.sampler)
    return resident, resident.over(validation.sampler)


def _run_epoch(
    state: State, training: Loader, validation: Loader, settings: Training, callbacks: Sequence[Callback]
) -> None:
    """Train and validate, unless a callback ends training before."""
    try:
        _train_epoch(state, training, settings, callbacks)
        epoch = _end_epoch(state, training, validation, settings)
        for callback in callbacks:
            callback.on_epoch(state, epoch)
    except StopTraining as stop:
        if not state.history.epochs:  # the weights of the epoch under way are the best so far
            _end_epoch(state, training, validation, settings)
        state.history.ended, state.done = str(stop), True


def _train_epoch(state: State, training: Loader, settings: Training, callbacks: Sequence[Callback]) -> None:
    """Take the steps of the current epoch that are left."""
    state.model.train()
    state.objective.train()
    with closing(state.world.epoch(training, state.epoch, first=state.running.minibatches)) as minibatches:
        on_device = (cells.to(state.device) for cells in state.running.timed(minibatches))
        while parts := list(islice(on_device, settings.accumulate)):
            state.optimizer.rate_factor = settings.rate_factor(state.step, state.n_steps)
            take_step(state, parts, settings.clip)
            for callback in callbacks:
                callback.on_step(state)


def take_step(state: State, minibatches: Sequence[Cells], clip: float) -> None:
    """Take one optimiser step on the mean loss of some minibatches, or skip it where that is not finite.

    Parameters
    ----------
    state
        Of training; changed in place.
    minibatches
        The cells, in parts that pass through the model one after the other. Each part counts by its number of cells,
        so that the gradient of a loss that is a mean over cells is that of one large minibatch. Batch norm and the
        comparison of pairs stay within each part.
    clip
        Largest norm of the gradient.
    """
    # Forward and backward; gradients add up over the parts, and over processes in the last of them.
    recorded = state.recorder.step_of(state, minibatches)
    if recorded is not None:
        losses, norm = recorded.gradient(minibatches[0], state.progress)
    else:
        state.optimizer.zero_grad()
        losses = list(_backward(state, minibatches))
        losses = state.world.mean_losses(losses, minibatches)
        state.scaler.unscale_(state.optimizer)
        norm = state.optimizer.gradient_norm()

    # Step, with a gradient of bounded norm; all processes have the same losses and the same norm here.
    if math.isfinite(norm) and all(math.isfinite(loss.total.item()) for loss in losses):
        factor = clip / norm if norm > clip else 1.0
        if recorded is not None:
            recorded.update(factor)
        else:
            state.optimizer.scale_gradients(factor)
            state.scaler.step(state.optimizer)
        state.guard.good_step()
        for cells, loss in zip(minibatches, losses, strict=True):
            state.running.means.add(cells.n_total, {"loss": loss.total.detach(), **loss.terms})
    else:
        _skip(state, minibatches, losses)
    state.scaler.update()
    state.step += 1
    state.running.minibatches += len(minibatches)


def _backward(state: State, minibatches: Sequence[Cells]) -> Iterator[Loss]:
    """Add up the gradients of all parts, and yield their losses on this process."""
    n_cells = sum(cells.n_total for cells in minibatches)
    state.compute = state.world.wrap(state.compute, minibatches[0], state.progress)
    for number, cells in enumerate(minibatches, 1):
        with state.world.gradients(state.compute, is_last=number == len(minibatches)):
            loss = state.compute(cells, state.progress)
            weight = state.world.n_ranks * cells.n_cells / n_cells  # gradients are averaged over processes
            total = loss.total if weight == 1 else loss.total * weight
            state.scaler.scale(total).backward()
        yield loss


def _skip(state: State, minibatches: Sequence[Cells], losses: Sequence[Loss]) -> None:
    """Skip a step; a gradient that only half precision has made too large does not count as a bad step."""
    bad = [pair for pair in zip(minibatches, losses, strict=True) if not math.isfinite(pair[1].total.item())]
    if not bad and state.scaler.is_enabled() and state.scaler.get_scale() > 1:
        state.guard.overflow()
    else:
        state.guard.bad_step(*(bad or [(minibatches[-1], losses[-1])])[0])


def _end_epoch(state: State, training: Loader, validation: Loader, settings: Training) -> Epoch:
    """Validate, update the history and the best weights, and decide whether to stop."""
    if settings.fresh_norm and -(-len(training) // settings.accumulate) < MEMORY:
        with closing(state.world.epoch(training, state.epoch)) as minibatches:
            reestimate_norm(state.model, minibatches, state.device)
    epoch = _epoch(state, training, _validation_terms(state, validation))
    state.history.epochs.append(epoch)
    state.running = RunningEpoch(skipped_before=state.guard.skipped)

    # Losses of different epochs can be compared once every schedule has reached its target.
    settled = state.objective.settled(state.progress)
    state.best.update(epoch.epoch - 1, epoch.validation_loss, settled, epoch.terms.get("validation_mse"))
    state.history.best_epoch = state.best.epoch
    state.guard.snapshot()
    if reason := state.best.stop_reason():
        state.history.ended = reason
    state.done = bool(reason) or epoch.epoch == state.n_epochs
    if state.plateau and settled and not reason:
        state.plateau.step(epoch.validation_loss)
    return epoch


def _epoch(state: State, training: Loader, validation_terms: dict[str, float]) -> Epoch:
    """Summarise the current epoch."""
    running, terms = state.running, state.running.means.result()
    train_loss = terms.pop("loss", math.nan)
    return Epoch(
        epoch=state.epoch + 1,
        step=state.step,
        train_loss=train_loss,
        validation_loss=validation_terms.pop("loss", train_loss),
        learning_rate=state.learning_rate,
        cells_per_second=training.sampler.n_cells / running.seconds,
        waiting_share=running.waiting / running.seconds,
        skipped=state.guard.skipped - running.skipped_before,
        terms={**terms, **{f"validation_{name}": value for name, value in validation_terms.items()}},
    )


def _validation_terms(state: State, validation: Loader) -> dict[str, float]:
    if not validation.sampler.n_cells:
        return {}
    minibatches = state.world.epoch(validation, 0)
    return validate(state.model, state.objective, minibatches, state.device, world=state.world)


@torch.no_grad()
def validate(
    model: VAE,
    objective: Objective,
    cells: Iterable[Cells],
    device: torch.device,
    seed: int = 0,
    world: World = World(),  # noqa: B008 - it is frozen
) -> dict[str, float]:
    """Return the mean loss and its terms at every schedule's target, with the same noise at every call."""
    model.eval()
    objective.eval()
    means = Means()
    with drawing_nothing(device):
        torch.manual_seed(seed)
        for minibatch in cells:
            loss = objective(model, minibatch.to(device))
            means.add(minibatch.n_cells, {"loss": loss.total, **loss.terms})
    return world.merge_means(means).result()
