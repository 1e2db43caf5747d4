"""All that training changes, in one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim.lr_scheduler import ReduceLROnPlateau

from genevae.cells import Cells
from genevae.data.loader import Loader
from genevae.models.vae import VAE
from genevae.objectives.objective import Loss, Objective, Progress
from genevae.training.adam import Adam
from genevae.training.early_stopping import Best
from genevae.training.graph import Recorder
from genevae.training.history import History, RunningEpoch
from genevae.training.nan_guard import Guard
from genevae.training.settings import Training
from genevae.training.world import World

__all__ = ["State"]


class Compute(nn.Module):
    """A model and its objective as one module, whose forward pass is the loss of a minibatch."""

    def __init__(self, model: VAE, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, cells: Cells, progress: Progress) -> Loss:
        """Return the loss."""
        loss: Loss = self.objective(self.model, cells, progress)
        return loss


@dataclass
class State:
    """All that training changes: two trainings in the same state continue alike, given the same data.

    Parameters
    ----------
    model, objective
        What is trained.
    compute
        Both as one module, whose gradients are averaged over processes.
    optimizer, plateau, scaler
        Adam; what halves its learning rate, if anything; and what keeps gradients of half precision above zero.
    best, guard
        The best weights so far, and the last that were good.
    device
        Where all of them are.
    n_epochs, n_steps
        How long training is at most.
    step
        Optimiser steps so far, those that were skipped among them.
    history
        Of the epochs that are done.
    running
        The current epoch.
    done
        Whether training has ended.
    world
        The processes that train together; all are in the same state.
    recorder
        Replays steps on a GPU, where that is wanted.

    Notes
    -----
    Beside these there is the state of torch's random numbers. Those of NumPy and of Python are not used by training:
    the order of the cells is a function of the seed, the epoch and the minibatch.
    """

    model: VAE
    objective: Objective
    compute: nn.Module
    optimizer: Adam
    plateau: ReduceLROnPlateau | None
    scaler: GradScaler
    best: Best
    guard: Guard
    device: torch.device
    n_epochs: int
    n_steps: int
    step: int = 0
    history: History = field(default_factory=History)
    running: RunningEpoch = field(default_factory=RunningEpoch)
    done: bool = False
    world: World = field(default_factory=World)
    recorder: Recorder = field(default_factory=Recorder)

    @classmethod
    def begin(
        cls,
        model: VAE,
        objective: Objective,
        training: Loader,
        settings: Training,
        device: torch.device,
        world: World,
        parameter_groups: Sequence[dict[str, Any]] | None = None,
    ) -> Self:
        """Return the state before the first step."""
        n_epochs = settings.n_epochs(training.sampler.n_cells)
        optimizer = Adam(
            parameter_groups or [{"params": [*model.parameters(), *objective.parameters()]}],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            eps=settings.epsilon,
            fused=device.type in {"cpu", "cuda"},
        )
        return cls(
            model,
            objective,
            Compute(model, objective),
            optimizer,
            _plateau(optimizer, settings),
            GradScaler(device.type, enabled=settings.precision == "fp16"),
            Best((model, objective), settings),
            Guard(model, objective, optimizer, training.schema.genes, training.source.obs.index, world),
            device,
            n_epochs,
            n_epochs * -(-len(training) // settings.accumulate),
            world=world,
        )

    @property
    def epoch(self) -> int:
        """The number of the epoch under way, from zero."""
        return len(self.history.epochs)

    @property
    def progress(self) -> Progress:
        """Where training is."""
        return Progress(self.step, self.n_steps)

    @property
    def parameters(self) -> list[Tensor]:
        """All that is trained."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    @property
    def learning_rate(self) -> float:
        """Of the last step."""
        factor = self.best.settings.rate_factor(max(0, self.step - 1), self.n_steps)
        return float(self.optimizer.param_groups[0]["lr"]) * factor


def _plateau(optimizer: Adam, settings: Training) -> ReduceLROnPlateau | None:
    """Make what halves the learning rate where validation does not improve."""
    if not settings.plateau:
        return None
    floor = settings.least_learning_rate
    return ReduceLROnPlateau(optimizer, factor=0.5, patience=settings.plateau, threshold=0.0, min_lr=floor)
