"""The additive model: expression as a sum of heads, with deterministic latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn
from torch.distributions.kl import register_kl

from genevae.cells import Cells, Condition, ExpressionRows, Shard
from genevae.distributions import Normal
from genevae.models.prior import StandardNormal, StandardNormalPrior
from genevae.models.vae import VAE
from genevae.nn.heads import AdditiveHeads
from genevae.nn.sharding import all_sum

__all__ = ["Additive", "AdditiveLikelihood", "Delta", "DeltaPosterior"]

MIN_VARIANCE = 1e-4
"""Smallest variance of a gene, so that a constant gene has a likelihood."""
MOMENTUM = 0.01
"""Weight of a minibatch in the running variance, after the first hundred minibatches."""


class Delta(td.Normal):
    """A point mass at the mean, as a normal distribution with standard deviation zero."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__(mean, torch.zeros_like(mean), validate_args=False)


@register_kl(Delta, StandardNormal)  # type: ignore[untyped-decorator]
def _kl_of_delta(q: Delta, p: StandardNormal) -> Tensor:  # noqa: ARG001 - for any prior
    """Zero by convention: deterministic latents have no KL term."""
    return torch.zeros_like(q.mean)


class DeltaPosterior(nn.Module):
    """q(z | x, c) = δ(z − encode(x, c)).

    Parameters
    ----------
    encode
        Returns latents, given rows and the codes of every field. Its weights do not belong to this module, because
        encoder and decoder share some of them.
    """

    def __init__(self, encode: Callable[[ExpressionRows, Mapping[str, Tensor]], Tensor]) -> None:
        super().__init__()
        self.encode = encode

    def forward(self, cells: Cells) -> Delta:
        """Return q(z | x, c), of ``z_nk``."""
        return Delta(self.encode(cells.x, cells.condition.codes))


class AdditiveLikelihood(nn.Module):
    """x ~ Normal(sum of the heads' outputs, σ), one σ per gene.

    Parameters
    ----------
    heads
        The decoder.
    n_genes
        Genes of x.

    Notes
    -----
    σ² is the mean squared error of each gene, a running mean over about a hundred minibatches, kept by
    :meth:`update_variance`. So σ is at its optimum without being part of the loss.
    """

    variance_g: Tensor
    n_updates: Tensor

    def __init__(self, heads: AdditiveHeads, n_genes: int) -> None:
        super().__init__()
        self.heads = heads
        self.register_buffer("variance_g", torch.ones(n_genes))
        self.register_buffer("n_updates", torch.zeros(()))
        self.register_load_state_dict_pre_hook(_rename_old_buffer)  # type: ignore[no-untyped-call]

    def forward(self, z: Tensor, condition: Condition) -> Normal:
        """Return p(x | z, c), of ``(…, n, g)``."""
        scale_g = self.variance_g.clamp(min=MIN_VARIANCE).sqrt()
        return Normal(self.heads.decode(z, condition.codes), scale_g, validate_args=False)

    @torch.no_grad()
    def update_variance(self, mean_ng: Tensor, cells: Cells, shard: Shard | None = None) -> None:
        """Update σ² with the squared errors of the means of these cells, which are of a shard of a minibatch."""
        error_ng = (cells.x.dense() - mean_ng).square()
        measured = cells.condition.measured_ng
        n_g = error_ng.new_full((1,), len(error_ng)) if measured is None else measured.sum(0)
        sum_g = error_ng.sum(0) if measured is None else error_ng.masked_fill(~measured, 0).sum(0)
        n_g, sum_g = all_sum(n_g, shard), all_sum(sum_g, shard)
        self.n_updates += 1
        weight = (1 / self.n_updates).clamp(min=MOMENTUM)
        weight_g = torch.where(n_g > 0, weight, 0.0)
        self.variance_g.lerp_(sum_g / n_g.clamp(min=1), weight_g.expand_as(sum_g))


def _rename_old_buffer(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:  # noqa: ARG001
    """Load models that were saved when ``n_updates`` was called ``n_watched``."""
    if (old := state.pop(f"{prefix}n_watched", None)) is not None:
        state[f"{prefix}n_updates"] = old


class Additive(VAE):
    """The model of :class:`~genevae.nn.heads.AdditiveHeads`: encode in one condition, decode in any.

    Parameters
    ----------
    heads
        The base head and the head of every field.
    n_genes
        Genes of x.
    """

    _likelihood: AdditiveLikelihood

    def __init__(self, heads: AdditiveHeads, n_genes: int) -> None:
        super().__init__(
            DeltaPosterior(heads.encode), StandardNormalPrior(heads.n_hidden), AdditiveLikelihood(heads, n_genes)
        )

    @property
    def heads(self) -> AdditiveHeads:
        """The base head and the head of every field."""
        return self._likelihood.heads

    def contributions(self, z: Tensor, condition: Condition) -> dict[str, Tensor]:
        """Return the output ``(…, n, g)`` of every head."""
        return self.heads.contributions(z, condition.codes)

    def update_variance(self, mean_ng: Tensor, cells: Cells, shard: Shard | None = None) -> None:
        """Update the likelihood's σ²; see :meth:`AdditiveLikelihood.update_variance`."""
        self._likelihood.update_variance(mean_ng, cells, shard)
