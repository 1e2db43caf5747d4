"""All that training changes, in one record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from genevae.data.loader import Loader
from genevae.models.vae import VAE
from genevae.objectives.objective import Objective, Progress
from genevae.training.early_stopping import Best
from genevae.training.history import History, UnderWay
from genevae.training.nan_guard import Guard
from genevae.training.settings import Training, default_epochs
from genevae.training.world import World

__all__ = ["State"]


@dataclass
class State:
    """All that training changes: two trainings in the same state go on alike, given the same data.

    Parameters
    ----------
    model, objective
        What is trained.
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
    under_way
        The epoch that is not.
    done
        Whether training has ended.
    ranks
        The processes that train together; all are in the same state.

    Notes
    -----
    Beside these there is the state of torch's random numbers. Those of NumPy and of Python are not used by training:
    the order of the cells is a function of the seed, the epoch and the minibatch.
    """

    model: VAE
    objective: Objective
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
    under_way: UnderWay = field(default_factory=UnderWay)
    done: bool = False
    ranks: World = field(default_factory=World.alone)

    @classmethod
    def begin(
        cls,
        model: VAE,
        objective: Objective,
        training: Loader,
        settings: Training,
        device: torch.device,
        ranks: World,
    ) -> Self:
        """Return the state before the first step."""
        n_epochs = settings.epochs or default_epochs(training.sampler.n_cells)
        optimizer = Adam(
            settings.parameter_groups(model, objective),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            eps=settings.epsilon,
            fused=device.type in {"cpu", "cuda"},
        )
        patience = settings.plateau
        return cls(
            model,
            objective,
            optimizer,
            ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, threshold=0.0) if patience else None,
            GradScaler(device.type, enabled=settings.precision == "fp16"),
            Best((model, objective), settings),
            Guard(model, objective, optimizer, training.schema.genes, training.source.obs.index, ranks),
            device,
            n_epochs,
            n_epochs * -(-len(training) // settings.accumulate),
            ranks=ranks,
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
        """Of the optimiser."""
        return float(self.optimizer.param_groups[0]["lr"])
