"""What an objective is, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from genevae.cells import Cells
from genevae.models.vae import VAE
from genevae.objectives.schedules import Schedule

__all__ = ["Added", "Loss", "Objective", "Progress"]


@dataclass(frozen=True)
class Progress:
    """Where training is: the optimiser step, and how many there will be."""

    step: int
    n_steps: int

    def weight(self, schedule: Schedule) -> float | Tensor:
        """Return the weight of a schedule now; where a step is recorded, as a tensor that holds it at each replay."""
        return schedule(self.step, self.n_steps)


@dataclass(frozen=True)
class Loss:
    """A loss of some cells.

    Parameters
    ----------
    total
        What is minimised: a mean over cells, so that it does not depend on the batch size.
    terms
        The numbers it is made of, by name, for the history.
    per_cell_n
        The part of each cell, by which a cell that breaks training can be named.
    """

    total: Tensor
    terms: dict[str, Tensor]
    per_cell_n: Tensor = field(repr=False)


class Objective(nn.Module):
    """A function of a model and some cells, to be minimised. It may own networks."""

    @property
    def is_static(self) -> bool:
        """Whether it does the same with every minibatch, and all that changes is in tensors: it can be recorded."""
        return False

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the loss; without ``progress``, at the targets of every schedule."""
        raise NotImplementedError

    def settled(self, progress: Progress) -> bool:
        """Say whether every schedule has reached its target, so that losses can be compared."""
        raise NotImplementedError


class Added(Objective):
    """The loss of another objective plus a weighted term.

    Parameters
    ----------
    base
        The other objective, whose schedules these are.
    weight
        Of the term, in nats of the other loss.
    """

    def __init__(self, base: Objective, weight: float) -> None:
        super().__init__()
        self.base: Any = base
        self.weight = weight

    @property
    def beta(self) -> Schedule:
        """The schedule of β."""
        schedule: Schedule = self.base.beta
        return schedule

    def term(self, model: VAE, cells: Cells) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what is added, and numbers for the history."""
        raise NotImplementedError

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the loss, in nats per cell."""
        loss = self.base(model, cells, progress)
        term, named = self.term(model, cells)
        return Loss(loss.total + self.weight * term, {**loss.terms, **named}, loss.per_cell_n)

    def settled(self, progress: Progress) -> bool:
        """Whether the schedules of the other objective have reached their targets."""
        is_settled: bool = self.base.settled(progress)
        return is_settled
