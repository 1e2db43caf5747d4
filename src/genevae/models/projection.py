"""The projection head of contrastive objectives."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from genevae.cells import Shard
from genevae.nn.mlp import MLP, LayerStyle

__all__ = ["Projection"]


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
