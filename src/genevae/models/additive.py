"""A model whose expression is a sum of heads: hidden states without noise, and what every head adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Normal as Gaussian
from torch.distributions.kl import register_kl

from genevae.cells import Cells, Condition, ExpressionRows, Shard
from genevae.distributions import Normal
from genevae.models.prior import StandardNormal, StandardNormalPrior
from genevae.models.vae import VAE
from genevae.nn.heads import AdditiveHeads
from genevae.nn.sharding import all_sum

__all__ = ["Additive", "AdditiveLikelihood", "Delta", "PointPosterior"]

SMALLEST_VARIANCE = 1e-4
"""Of a gene, so that one that never varied has a likelihood too."""
MOMENTUM = 0.01
"""Weight of new cells in the running variance, once there were a hundred minibatches."""


class Delta(Gaussian):
    """All probability at one place: a normal without spread. To draw from it is to take its mean."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__(mean, torch.zeros_like(mean), validate_args=False)


@register_kl(Delta, StandardNormal)  # type: ignore[untyped-decorator]
def _kl_of_a_point(q: Delta, p: StandardNormal) -> Tensor:  # noqa: ARG001 - whatever the prior
    """Zero: hidden states without noise are not charged for."""
    return torch.zeros_like(q.mean)


class PointPosterior(nn.Module):
    """q(z | x, c) = all at z = encode(x, c).

    Parameters
    ----------
    encode
        Returns hidden states, of rows and the codes of every field. The weights are its own, not this module's: the
        heads that read are in part those that write.
    """

    def __init__(self, encode: Callable[[ExpressionRows, Mapping[str, Tensor]], Tensor]) -> None:
        super().__init__()
        self.encode = encode

    def forward(self, cells: Cells) -> Delta:
        """Return q(z | x, c), of ``z_nk``."""
        return Delta(self.encode(cells.x, cells.condition.codes))


class AdditiveLikelihood(nn.Module):
    """x ~ Normal(sum of what the heads write, σ), one σ per gene.

    Parameters
    ----------
    heads
        What writes.
    n_genes
        Genes of x.

    Notes
    -----
    σ² is the mean squared error of each gene, averaged over about a hundred minibatches by
    :meth:`update_variance`: its optimum, without being part of the loss.
    """

    variance_g: Tensor
    n_updates: Tensor

    def __init__(self, heads: AdditiveHeads, n_genes: int) -> None:
        super().__init__()
        self.heads = heads
        self.register_buffer("variance_g", torch.ones(n_genes))
        self.register_buffer("n_updates", torch.zeros(()))

    def forward(self, z: Tensor, condition: Condition) -> Normal:
        """Return p(x | z, c), of ``(…, n, g)``."""
        return Normal(self.heads.decode(z, condition.codes), self.variance_g.clamp(min=SMALLEST_VARIANCE).sqrt())

    @torch.no_grad()
    def update_variance(self, z: Tensor, cells: Cells, shard: Shard | None = None) -> None:
        """Update σ² with the squared errors of these cells, which are of a shard of a minibatch."""
        error_ng = (cells.x.dense() - self.heads.decode(z, cells.condition.codes)).square()
        measured = cells.condition.measured_ng
        n_g = error_ng.new_full((1,), len(error_ng)) if measured is None else measured.sum(0)
        sum_g = error_ng.sum(0) if measured is None else error_ng.masked_fill(~measured, 0).sum(0)
        n_g, sum_g = all_sum(n_g, shard), all_sum(sum_g, shard)
        self.n_updates += 1
        weight = (1 / self.n_updates).clamp(min=MOMENTUM)
        weight_g = torch.where(n_g > 0, weight, 0.0)
        self.variance_g.lerp_(sum_g / n_g.clamp(min=1), weight_g.expand_as(sum_g))


class Additive(VAE):
    """The model of :class:`~genevae.nn.heads.AdditiveHeads`: encode with one condition, decode with any.

    Parameters
    ----------
    heads
        The base and the head of every field.
    n_genes
        Genes of x.
    """

    _likelihood: AdditiveLikelihood

    def __init__(self, heads: AdditiveHeads, n_genes: int) -> None:
        super().__init__(
            PointPosterior(heads.encode), StandardNormalPrior(heads.n_hidden), AdditiveLikelihood(heads, n_genes)
        )

    @property
    def heads(self) -> AdditiveHeads:
        """The base and the head of every field."""
        return self._likelihood.heads

    def update_variance(self, z: Tensor, cells: Cells, shard: Shard | None = None) -> None:
        """Update the likelihood's σ²; see :meth:`AdditiveLikelihood.update_variance`."""
        self._likelihood.update_variance(z, cells, shard)
