"""Two thinned views of each cell, whose latents agree dimension by dimension."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from genevae.cells import Cells, ExpressionRows
from genevae.models.vae import VAE
from genevae.nn.sharding import all_rows, draw
from genevae.objectives.objective import Added

__all__ = ["ThinnedViews", "redundancy", "thin"]

LOW, HIGH = 0.1, 0.9
"""Shares of a cell's counts that a view keeps."""
BETWEEN = 0.01
"""Weight of the correlation between different dimensions."""


def thin(cells: Cells, share_n1: Tensor) -> Cells:
    """Keep each count with a probability, x′ ~ Binomial(x, share), as if fewer molecules had been sequenced.

    Parameters
    ----------
    cells
        Counts. Their condition stays as it is.
    share_n1
        The probability in each cell, from 0 to 1.
    """
    x, shard = cells.x, cells.shard
    if shard is not None:  # every process draws for all cells, and so needs the counts of all
        x, share_n1 = ExpressionRows.from_dense(all_rows(x.dense(), shard)), all_rows(share_n1, shard)
    share = share_n1[x.cell_e, 0] if x.is_sparse else share_n1.expand(x.n_cells, x.n_genes)
    kept = x.map(lambda values: torch.binomial(values.round(), share.to(values)))
    return replace(cells, x=kept if shard is None else kept[shard.rows])


def redundancy(a_nk: Tensor, b_nk: Tensor) -> Tensor:
    """Return Σᵢ (1 − Cᵢᵢ)² + 0.01 · Σᵢ≠ⱼ Cᵢⱼ², where C is the correlation over cells of two views' dimensions.

    It is zero where the views agree on every dimension, and no dimension repeats another.

    References
    ----------
    Zbontar et al., Barlow Twins, ICML (2021).
    """
    a_nk, b_nk = ((z_nk - z_nk.mean(0)) / (z_nk.std(0, correction=0) + 1e-4) for z_nk in (a_nk, b_nk))
    correlation_kk = a_nk.T @ b_nk / len(a_nk)
    diagonal_k = correlation_kk.diagonal()
    return (1 - diagonal_k).square().sum() + BETWEEN * (correlation_kk.square().sum() - diagonal_k.square().sum())


class ThinnedViews(Added):
    """The loss of another objective + weight · redundancy of the latents of two thinned views of each cell.

    Each view keeps a share of the counts between 0.1 and 0.9, drawn for each cell, so that the latent holds what can be
    seen at any depth. Latents are posterior means.

    Parameters
    ----------
    base, weight
        As for :class:`~genevae.objectives.objective.Added`.
    """

    def term(self, model: VAE, cells: Cells) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the redundancy, as ``views``."""
        views = redundancy(*(all_rows(self._view_nk(model, cells), cells.shard) for _ in range(2)))
        return views, {"views": views.detach()}

    def _view_nk(self, model: VAE, cells: Cells) -> Tensor:
        uniform = partial(torch.rand, device=cells.condition.size_n1.device)
        share_n1 = LOW + (HIGH - LOW) * draw(uniform, (cells.n_cells, 1), cells.shard)
        return model.posterior(thin(cells, share_n1)).mean
