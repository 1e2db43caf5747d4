"""The training loop."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from genevae.cells import Cells
from genevae.data.loader import Loader
from genevae.errors import TrainingError
from genevae.models.vae import VAE
from genevae.objectives.objective import Objective, Progress
from genevae.training.allocator import kept_memory
from genevae.training.guard import Guard
from genevae.training.history import Epoch, History
from genevae.training.progress import ProgressBar
from genevae.training.settings import Training, default_epochs
from genevae.training.stopping import Best

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
) -> History:
    """Make the objective small on the training cells, and keep the weights that are best on the validation cells.

    Parameters
    ----------
    model, objective
        What is trained, in place.
    training, validation
        Minibatches. Without validation cells the training loss takes their place.
    settings
        How long, how fast, and when to stop.
    device
        Where.
    progress
        Whether to show a bar.

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
    n_epochs = settings.epochs or default_epochs(training.sampler.n_cells)
    n_steps = n_epochs * len(training)
    optimizer = _optimizer(model, objective, settings, device)
    plateau = (
        ReduceLROnPlateau(optimizer, factor=0.5, patience=settings.plateau, threshold=0.0) if settings.plateau else None
    )
    best = Best((model, objective), settings)
    guard = Guard(model, objective, optimizer, training.schema.genes, training.source.obs.index)
    history = History()
    with kept_memory(), ProgressBar(n_epochs, progress) as bar:
        for number in range(n_epochs):
            epoch = _train_epoch(model, objective, training, optimizer, guard, settings, number, n_steps, device)
            epoch = _with_validation(epoch, model, objective, validation, device)
            history.epochs.append(epoch)
            bar.show(epoch)
            settled = objective.settled(Progress(epoch.step, n_steps))
            best.see(number, epoch.validation_loss, settled)
            guard.keep()
            if verdict := best.verdict():
                history.ended = verdict
                break
            if plateau and settled:
                plateau.step(epoch.validation_loss)
    if settings.keep_best:
        best.restore()
    history.best_epoch = best.epoch
    return history


def _optimizer(model: VAE, objective: Objective, settings: Training, device: torch.device) -> Adam:
    return Adam(
        settings.parameter_groups(model, objective),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        eps=settings.epsilon,
        fused=device.type in {"cpu", "cuda"},
    )


def _train_epoch(
    model: VAE,
    objective: Objective,
    training: Loader,
    optimizer: Adam,
    guard: Guard,
    settings: Training,
    number: int,
    n_steps: int,
    device: torch.device,
) -> Epoch:
    """Take one step per minibatch."""
    model.train()
    objective.train()
    means, waiting, skipped_before = _Means(), _Stopwatch(), guard.skipped
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    first_step = number * len(training)
    started = time.perf_counter()
    minibatches = waiting.timed(training.epoch(number))
    for step, cells in enumerate((minibatch.to(device) for minibatch in minibatches), first_step):
        loss = objective(model, cells, Progress(step, n_steps))
        optimizer.zero_grad()
        loss.total.backward()
        norm = _gradient_norm(parameters)
        if math.isfinite(norm) and math.isfinite(loss.total.item()):
            if norm > settings.clip:
                torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], settings.clip / norm)
            optimizer.step()
            guard.passed()
            means.add(cells.n_cells, {"loss": loss.total.detach(), **loss.terms})
        else:
            guard.failed(cells, loss)
    seconds = time.perf_counter() - started
    terms = means.result()
    return Epoch(
        epoch=number + 1,
        step=first_step + len(training),
        train_loss=terms.pop("loss", math.nan),
        validation_loss=math.nan,
        learning_rate=optimizer.param_groups[0]["lr"],
        cells_per_second=training.sampler.n_cells / seconds,
        waiting_share=waiting.seconds / seconds,
        skipped=guard.skipped - skipped_before,
        terms=terms,
    )


def _gradient_norm(parameters: list[Tensor]) -> float:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))


def _with_validation(epoch: Epoch, model: VAE, objective: Objective, validation: Loader, device: torch.device) -> Epoch:
    terms = validate(model, objective, validation, device) if validation.sampler.n_cells else {}
    loss = terms.pop("loss", epoch.train_loss)
    named = {f"validation_{name}": value for name, value in terms.items()}
    return replace(epoch, validation_loss=loss, terms={**epoch.terms, **named})


@torch.no_grad()
def validate(
    model: VAE, objective: Objective, cells: Iterable[Cells], device: torch.device, seed: int = 0
) -> dict[str, float]:
    """Return the mean loss and its terms at every schedule's target, with the same noise at every call."""
    model.eval()
    objective.eval()
    means = _Means()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for minibatch in cells:
            loss = objective(model, minibatch.to(device))
            means.add(minibatch.n_cells, {"loss": loss.total, **loss.terms})
    return means.result()


class _Means:
    """Means over cells of the terms of a loss, kept on the device until they are asked for."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, Tensor | float] = defaultdict(float)
        self._n_cells = 0

    def add(self, n_cells: int, terms: dict[str, Tensor]) -> None:
        self._n_cells += n_cells
        for name, value in terms.items():
            self._sums[name] = self._sums[name] + value * n_cells

    def result(self) -> dict[str, float]:
        return {name: float(value) / self._n_cells for name, value in self._sums.items()}


class _Stopwatch:
    """The time that an iterator takes to give its items."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, items: Iterator[Cells]) -> Iterator[Cells]:
        while True:
            started = time.perf_counter()
            item = next(items, None)
            self.seconds += time.perf_counter() - started
            if item is None:
                return
            yield item
