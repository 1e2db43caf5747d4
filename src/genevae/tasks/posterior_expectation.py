"""Expected expression of cells, averaged over their posterior."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from genevae.cells import Cells, Condition
from genevae.models.vae import VAE

__all__ = ["expectations_sng", "in_blocks", "latents_snk"]

MAX_NUMBERS = 2**24
"""Largest number of values in memory at once: particles × cells × genes, 64 MiB."""


def in_blocks(cells: Cells, n_draws: int) -> Iterator[Cells]:
    """Split a minibatch into blocks of cells, small enough that the expectations of all draws fit in memory."""
    block_size = max(1, MAX_NUMBERS // (n_draws * cells.x.n_genes))
    for start in range(0, cells.n_cells, block_size):
        yield cells[start : start + block_size]


def latents_snk(module: VAE, cells: Cells, n_draws: int) -> Tensor:
    """Sample z from q(z | x, c) of each cell. The module must be in evaluation mode."""
    q = module.posterior(cells)
    return q.mean + q.scale * torch.randn(n_draws, *q.mean.shape, device=q.mean.device)


def expectations_sng(module: VAE, cells: Cells, target: Condition, n_draws: int) -> Tensor:
    """Return the mean of p(x | z, target) for samples of z from q(z | x, c).

    Parameters
    ----------
    module
        A model in evaluation mode.
    cells
        Cells with the condition they were observed in.
    target
        The condition to decode in. Its size is used.
    n_draws
        Samples from the posterior of each cell.
    """
    return module.likelihood(latents_snk(module, cells, n_draws), target).mean
