"""p(z | c): what the latent of a cell may be before its expression is seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions.kl import register_kl

from genevae.cells import Condition
from genevae.models.posterior import NormalHead
from genevae.nn.conditioning import Conditioning
from genevae.nn.mlp import MLP, LayerStyle

__all__ = ["ConditionalNormalPrior", "StandardNormalPrior"]


class StandardNormal(Normal):
    """N(0, I), to which the divergence of a normal takes half the steps."""


@register_kl(Normal, StandardNormal)  # type: ignore[untyped-decorator]
def _kl_to_standard_normal(q: Normal, p: StandardNormal) -> Tensor:  # noqa: ARG001 - p is known
    """½ (μ² + σ² − 1) − log σ."""
    return 0.5 * (q.mean.square() + q.scale.square() - 1) - q.scale.log()


class StandardNormalPrior(nn.Module):
    """N(0, I), whatever the condition."""

    zero: Tensor

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(n_latent), persistent=False)

    def forward(self, condition: Condition) -> Normal:
        """Return p(z), of ``z_nk``."""
        mean = self.zero.expand(condition.n_cells, -1)
        return StandardNormal(mean, torch.ones_like(mean), validate_args=False)


class ConditionalNormalPrior(nn.Module):
    """A normal prior whose parameters are an MLP of the condition.

    Parameters
    ----------
    conditioning
        Makes a vector of the condition.
    hidden
        Width of each hidden layer.
    n_latent
        Latent dimensions.
    style
        What follows each linear layer.
    """

    def __init__(self, conditioning: Conditioning, hidden: Sequence[int], n_latent: int, style: LayerStyle) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.trunk = MLP(conditioning.n_out, hidden, style)
        self.head = NormalHead(self.trunk.n_out, n_latent)

    def forward(self, condition: Condition) -> Normal:
        """Return p(z | c), of ``z_nk``."""
        return self.head(self.trunk(self.conditioning(condition), condition.shard))  # type: ignore[no-any-return]
