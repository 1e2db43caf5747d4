"""Expected expression of cells, averaged over their posterior."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from genevae.cells import Cells, Condition
from genevae.models.vae import VAE

__all__ = ["expectations_sng", "in_pieces", "latents_snk"]

MAX_NUMBERS = 2**24
"""Numbers held at once: particles × cells × genes, 64 MiB."""


def in_pieces(cells: Cells, n_draws: int) -> Iterator[Cells]:
    """Cut a minibatch so that expectations of every draw fit in bounded memory."""
    at_once = max(1, MAX_NUMBERS // (n_draws * cells.x.n_genes))
    for first in range(0, cells.n_cells, at_once):
        yield cells[first : first + at_once]


def latents_snk(module: VAE, cells: Cells, n_draws: int) -> Tensor:
    """Draw z from q(z | x, c) of each cell; the module is in evaluation mode."""
    q = module.posterior(cells)
    return q.mean + q.scale * torch.randn(n_draws, *q.mean.shape, device=q.mean.device)


def expectations_sng(module: VAE, cells: Cells, target: Condition, n_draws: int) -> Tensor:
    """Return the mean of p(x | z, target) for draws of z from q(z | x, c).

    Parameters
    ----------
    module
        In evaluation mode.
    cells
        Cells under the condition that they were seen in.
    target
        The condition to decode them under; its size is used.
    n_draws
        Draws from the posterior of each cell.
    """
    return module.likelihood(latents_snk(module, cells, n_draws), target).mean
