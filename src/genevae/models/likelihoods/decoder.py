"""The decoder that MLP likelihoods share: from latent and condition to hidden units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genevae.cells import Condition
from genevae.nn.conditioning import Conditioning
from genevae.nn.mlp import MLP, LayerStyle

__all__ = ["Decoder", "Proportion", "proportions"]


class Decoder(nn.Module):
    """Hidden units as an MLP of z and the condition.

    Parameters
    ----------
    n_latent
        Latent dimensions.
    conditioning
        Encodes the condition as a vector.
    hidden
        Width of each hidden layer.
    style
        Normalisation, activation and dropout after each linear layer.
    """

    def __init__(self, n_latent: int, conditioning: Conditioning, hidden: Sequence[int], style: LayerStyle) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.trunk = MLP(n_latent + conditioning.n_out, hidden, style)
        self.n_out = self.trunk.n_out

    def forward(self, z: Tensor, condition: Condition) -> Tensor:
        """Map ``(…, n, k)`` to ``(…, n, h)``."""
        c = self.conditioning(condition).expand(*z.shape[:-1], -1)
        h: Tensor = self.trunk(torch.cat([z, c], -1), condition.shard)
        return h


class Proportion(nn.Module):
    """Proportion of each gene in a cell's counts, log-linear in the hidden units."""

    def __init__(self, n_hidden: int, n_genes: int) -> None:
        super().__init__()
        self.logits = nn.Linear(n_hidden, n_genes)

    def forward(self, h: Tensor, condition: Condition) -> Tensor:
        """Map ``(…, n, h)`` to ``(…, n, g)``."""
        return proportions(self.logits(h), condition)


def proportions(logits: Tensor, condition: Condition) -> Tensor:
    """Proportion of each gene in a cell's counts: a softmax over genes.

    If only some genes were measured, the proportions of those sum to one, as the cell's size is counted over them. The
    other genes are scaled by the same factor.

    Parameters
    ----------
    logits
        ``(…, n, g)``.
    condition
        Gives the genes that were measured.
    """
    if condition.measured_ng is None:
        return logits.softmax(-1)
    total = logits.masked_fill(~condition.measured_ng, -torch.inf).logsumexp(-1, keepdim=True)
    return (logits - total).exp()
