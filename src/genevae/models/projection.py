"""The projection head of contrastive objectives."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genevae.cells import Shard
from genevae.nn.mlp import MLP, LayerStyle

__all__ = ["Projection", "ViewProjections", "project_pairs"]


class Projection(nn.Module):
    """z ↦ h(z) / ‖h(z)‖, with h an MLP of one hidden layer as wide as z: a unit vector that is compared between cells.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    n_out
        Dimensions of the unit vectors.
    style
        What follows the hidden layer.

    References
    ----------
    Chen et al., ICML (2020).
    """

    def __init__(self, n_latent: int, n_out: int, style: LayerStyle) -> None:
        super().__init__()
        self.hidden = MLP(n_latent, [n_latent], style)
        self.out = nn.Linear(n_latent, n_out)

    def forward(self, z: Tensor, shard: Shard | None = None) -> Tensor:
        """Map ``(…, k)`` to directions of length one."""
        return F.normalize(self.out(self.hidden(z, shard)), dim=-1)


class ViewProjections(nn.Module):
    """A projection for each of two views, such as pseudobulk and cell types.

    Parameters
    ----------
    n_latent, n_out, style
        Of each, as for :class:`Projection`.
    """

    def __init__(self, n_latent: int, n_out: int, style: LayerStyle) -> None:
        super().__init__()
        self.first, self.second = Projection(n_latent, n_out, style), Projection(n_latent, n_out, style)

    def forward(self, z: Tensor, shard: Shard | None = None, view_n: Tensor | None = None) -> Tensor:
        """Map ``(n, k)`` to directions: by the second projection where the view is 1, else by the first."""
        first = self.first(z, shard)
        return first if view_n is None else torch.where((view_n == 1)[:, None], self.second(z, shard), first)


def project_pairs(projection: nn.Module, z_nk: Tensor, shard: Shard | None = None) -> Tensor:
    """Project the cells of pairs, rows 2i and 2i + 1: with two projections, the first of each pair by the first."""
    if not isinstance(projection, ViewProjections):
        projected: Tensor = projection(z_nk, shard)
        return projected
    half = None if shard is None else replace(shard, sizes=tuple(size // 2 for size in shard.sizes))
    return torch.stack([projection.first(z_nk[::2], half), projection.second(z_nk[1::2], half)], 1).flatten(0, 1)
