"""Priors: p(z | c), the latent of a cell given its condition alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn
from torch.distributions.kl import register_kl

from genevae.cells import Condition
from genevae.models.posterior import NormalHead
from genevae.nn.conditioning import Conditioning
from genevae.nn.mlp import MLP, LayerStyle

__all__ = ["ConditionalNormalPrior", "StandardNormalPrior"]


class StandardNormal(td.Normal):
    """N(0, I). Its own class lets the KL divergence to it skip the terms that are zero.

    Parameters
    ----------
    loc, scale
        Zeros and ones of one shape.
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale
        td.Distribution.__init__(self, loc.shape, validate_args=False)  # there is nothing to broadcast

    def expand(self, batch_shape: Any, _instance: Any = None) -> StandardNormal:
        """Return the same distribution with a larger batch shape."""
        shape = torch.Size(batch_shape)
        return StandardNormal(self.loc.expand(shape), self.scale.expand(shape))


@register_kl(td.Normal, StandardNormal)  # type: ignore[untyped-decorator]
def _kl_to_standard_normal(q: td.Normal, p: StandardNormal) -> Tensor:  # noqa: ARG001 - p is known
    """½ (μ² + σ² − 1) − log σ."""
    return 0.5 * (q.mean.square() + q.scale.square() - 1) - q.scale.log()


class StandardNormalPrior(nn.Module):
    """N(0, I), independent of the condition."""

    zero: Tensor
    one: Tensor

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(n_latent), persistent=False)
        self.register_buffer("one", torch.ones(n_latent), persistent=False)

    def forward(self, condition: Condition) -> td.Normal:
        """Return p(z), of ``z_nk``."""
        shape = (condition.n_cells, -1)
        return StandardNormal(self.zero.expand(shape), self.one.expand(shape))


class ConditionalNormalPrior(nn.Module):
    """A normal prior whose parameters are an MLP of the condition.

    Parameters
    ----------
    conditioning
        Encodes the condition as a vector.
    hidden
        Width of each hidden layer.
    n_latent
        Latent dimensions.
    style
        Normalisation, activation and dropout after each linear layer.
    """

    def __init__(self, conditioning: Conditioning, hidden: Sequence[int], n_latent: int, style: LayerStyle) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.trunk = MLP(conditioning.n_out, hidden, style)
        self.head = NormalHead(self.trunk.n_out, n_latent)

    def forward(self, condition: Condition) -> td.Normal:
        """Return p(z | c), of ``z_nk``."""
        p: td.Normal = self.head(self.trunk(self.conditioning(condition), condition.shard))
        return p
