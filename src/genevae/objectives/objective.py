"""What an objective is, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from genevae.cells import Cells
from genevae.models.vae import VAE

__all__ = ["Loss", "Objective", "Progress"]


@dataclass(frozen=True)
class Progress:
    """Where training is: the optimiser step, and how many there will be."""

    step: int
    n_steps: int


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

    def forward(self, model: VAE, cells: Cells, progress: Progress | None = None) -> Loss:
        """Return the loss; without ``progress``, at the targets of every schedule."""
        raise NotImplementedError

    def settled(self, progress: Progress) -> bool:
        """Say whether every schedule has reached its target, so that losses can be compared."""
        raise NotImplementedError
