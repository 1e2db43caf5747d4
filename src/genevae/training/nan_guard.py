"""The guard against losses and gradients that are not finite: skip, roll back, and in the end name the culprit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from genevae.cells import Cells
from genevae.errors import TrainingError, shorten
from genevae.models.vae import VAE
from genevae.objectives.objective import Loss
from genevae.training.early_stopping import snapshot
from genevae.training.world import World

__all__ = ["Guard"]

NO_CULPRITS = "Every cell's own loss is finite: only the gradient is not."


class Guard:
    """Skip a step whose loss or gradient is not finite; after some in a row go back and slow down; then give up.

    Parameters
    ----------
    model, objective
        What is trained; their weights are kept at each :meth:`keep`.
    optimizer
        Its learning rate is halved at each roll-back.
    genes, cell_names
        To name the culprits with.
    ranks
        The processes that train together: each knows the culprits among its own cells.
    skips
        Bad steps in a row that are only skipped.
    rollbacks
        Roll-backs before training is given up.
    """

    def __init__(
        self,
        model: VAE,
        objective: nn.Module,
        optimizer: Optimizer,
        genes: Sequence[str],
        cell_names: Sequence[str],
        ranks: World = World.alone(),  # noqa: B008 - it is frozen
        skips: int = 3,
        rollbacks: int = 3,
    ) -> None:
        self.model, self.objective, self.optimizer = model, objective, optimizer
        self.genes, self.cell_names, self.ranks = genes, cell_names, ranks
        self.skips, self.rollbacks = skips, rollbacks
        self.in_a_row = self.rolled_back = self.skipped = 0
        self.keep()

    def keep(self) -> None:
        """Remember the present weights as good."""
        self.good = snapshot(self.model, self.objective)

    def passed(self) -> None:
        """Take note of a good step."""
        self.in_a_row = 0

    def overflowed(self) -> None:
        """Take note of a step that is left out because its gradient was too large for half precision."""
        self.skipped += 1
        self._restore_buffers()

    def failed(self, cells: Cells, loss: Loss) -> None:
        """Take note of a bad step.

        Raises
        ------
        TrainingError
            When neither skipping nor going back has helped.
        """
        self.skipped += 1
        self.in_a_row += 1
        self._restore_buffers()
        if self.in_a_row <= self.skips:
            return
        if self.rolled_back == self.rollbacks:
            culprits = " ".join(filter(None, self.ranks.texts(self._culprits(cells, loss))))
            raise TrainingError(
                f"The loss or its gradient is not finite, after {self.rollbacks} returns to earlier weights at ever "
                f"lower learning rates. {culprits or NO_CULPRITS} Look at those values with `genevae inspect`, "
                "leave those cells or genes out, or lower the learning rate."
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
        """Put back what batch norm remembers: the forward pass of a bad step has written into it."""
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
            p = self.model.likelihood(self.model.prior(cells.condition).mean, cells.condition)
            bad_g = ~torch.isfinite(p.log_prob(cells.x.dense())[bad_n]).all(0)
        genes = [self.genes[gene] for gene in bad_g.nonzero().flatten().tolist()]
        return f"Cells: {shorten(names)}. Genes: {shorten(genes) if genes else 'none in particular'}."
