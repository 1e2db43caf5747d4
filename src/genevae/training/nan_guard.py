"""The guard against losses and gradients that are not finite: skip, roll back, and at last stop and name the cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from genevae.cells import Cells
from genevae.errors import TrainingError, shorten
from genevae.models.vae import VAE
from genevae.objectives.objective import Loss
from genevae.training.early_stopping import copy_weights
from genevae.training.world import World

__all__ = ["Guard"]

NO_CULPRITS = "The loss of every cell is finite; only the gradient is not."


class Guard:
    """Skip a step whose loss or gradient is not finite; after several in a row, roll back and lower the learning rate.

    Parameters
    ----------
    model, objective
        What is trained; :meth:`snapshot` keeps their weights.
    optimizer
        Its learning rate is halved at each roll-back.
    genes, cell_names
        Names for the message.
    world
        The processes that train together.
    skips
        Bad steps in a row before a roll-back.
    rollbacks
        Roll-backs before training stops with an error.
    """

    def __init__(
        self,
        model: VAE,
        objective: nn.Module,
        optimizer: Optimizer,
        genes: Sequence[str],
        cell_names: Sequence[str],
        world: World = World(),  # noqa: B008 - it is frozen
        skips: int = 3,
        rollbacks: int = 3,
    ) -> None:
        self.model, self.objective, self.optimizer = model, objective, optimizer
        self.genes, self.cell_names, self.world = genes, cell_names, world
        self.skips, self.rollbacks = skips, rollbacks
        self.in_a_row = self.rolled_back = self.skipped = 0
        self.snapshot()

    def snapshot(self) -> None:
        """Keep the current weights as good ones."""
        self.good = copy_weights(self.model, self.objective)

    def good_step(self) -> None:
        """Record a good step."""
        self.in_a_row = 0

    def overflow(self) -> None:
        """Record a step that was skipped because its gradient was too large for half precision."""
        self.skipped += 1
        self._restore_buffers()

    def bad_step(self, cells: Cells, loss: Loss) -> None:
        """Record a bad step, and roll back after several.

        Raises
        ------
        TrainingError
            After the last roll-back.
        """
        self.skipped += 1
        self.in_a_row += 1
        self._restore_buffers()
        if self.in_a_row <= self.skips:
            return
        if self.rolled_back == self.rollbacks:
            culprits = " ".join(filter(None, self.world.texts(self._culprits(cells, loss))))
            raise TrainingError(
                f"The loss or its gradient is not finite, after {self.rollbacks} returns to earlier weights, each "
                f"with a lower learning rate. {culprits or NO_CULPRITS} Check those values with `genevae inspect`, "
                "remove those cells or genes, or lower the learning rate."
            )
        self.rolled_back += 1
        self.in_a_row = 0
        for module, weights in zip((self.model, self.objective), self.good, strict=True):
            module.load_state_dict(weights)
        self.optimizer.state.clear()
        for group in self.optimizer.param_groups:
            group["lr"] /= 2

    @torch.no_grad()
    def _restore_buffers(self) -> None:
        """Restore the statistics of batch norm, which the forward pass of a bad step has changed."""
        for module, weights in zip((self.model, self.objective), self.good, strict=True):
            for name, buffer in module.named_buffers():
                if name in weights:
                    buffer.copy_(weights[name])

    @torch.no_grad()
    def _culprits(self, cells: Cells, loss: Loss) -> str:
        """Name the cells and genes whose values, or whose log-probabilities, are not finite, if there are any."""
        bad_n = ~torch.isfinite(loss.per_cell_n)
        if not bad_n.any():
            return ""
        names = [self.cell_names[row] for row in cells.row_n[bad_n].tolist()]
        x_ng = cells.x.dense()[bad_n]
        bad_g = ~torch.isfinite(x_ng).all(0)
        if not bad_g.any():
            condition = cells.with_shard(None).condition  # only this process computes it
            p = self.model.likelihood(self.model.prior(condition).mean, condition)
            bad_g = ~torch.isfinite(p.log_prob(cells.x.dense())[bad_n]).all(0)
        genes = [self.genes[gene] for gene in bad_g.nonzero().flatten().tolist()]
        return f"Cells: {shorten(names)}. Genes: {shorten(genes) if genes else 'none in particular'}."
