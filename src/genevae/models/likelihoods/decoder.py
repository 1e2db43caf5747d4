"""The decoder that MLP likelihoods share: from latent and condition to hidden units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genevae.cells import Condition
from genevae.distributions.deferred import SoftmaxMean
from genevae.nn.conditioning import Conditioning
from genevae.nn.mlp import MLP, LayerStyle

__all__ = ["CountMean", "Decoder"]


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
        self.n_latent = n_latent
        self.conditioning = conditioning
        self.trunk = MLP(n_latent + conditioning.n_out, hidden, style)
        self.n_out = self.trunk.n_out

    def forward(self, z: Tensor, condition: Condition) -> Tensor:
        """Map ``(…, n, k)`` to ``(…, n, h)``."""
        if self.conditioning.n_out:
            z = torch.cat([z, self.conditioning(condition).expand(*z.shape[:-1], -1)], -1)
        h: Tensor = self.trunk(z, condition.shard)
        return h


class CountMean(nn.Module):
    """Mean counts of each gene: size × proportion, a softmax whose logits are linear in the hidden units.

    Parameters
    ----------
    n_hidden, n_genes
        Hidden units and genes.
    mask_gh
        Which weights there are; the others are zero. By default all.
    """

    def __init__(self, n_hidden: int, n_genes: int, mask_gh: Tensor | None = None) -> None:
        super().__init__()
        self.logits = _Weights(n_hidden, n_genes) if mask_gh is None else _MaskedWeights(mask_gh)

    def forward(self, h: Tensor, condition: Condition) -> SoftmaxMean:
        """Return the means, size × proportion, of hidden units ``(…, n, h)``."""
        return SoftmaxMean(self.logits(h), self.logits.bias, condition.size_n1, condition.measured_ng)


class _Weights(nn.Linear):
    """A linear layer that leaves its bias to what follows."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Map ``(…, n, h)`` to ``(…, n, g)``."""
        return F.linear(input, self.weight)


class _MaskedWeights(_Weights):
    """The same, of which some weights are zero and stay so.

    Parameters
    ----------
    mask_gh
        Zeros and ones.
    """

    mask_gh: Tensor

    def __init__(self, mask_gh: Tensor) -> None:
        super().__init__(mask_gh.shape[1], mask_gh.shape[0])
        self.register_buffer("mask_gh", mask_gh, persistent=False)
        with torch.no_grad():
            self.weight *= mask_gh

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Map ``(…, n, h)`` to ``(…, n, g)``."""
        return F.linear(input, self.weight * self.mask_gh)
