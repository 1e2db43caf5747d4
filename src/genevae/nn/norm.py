"""Batch norm and dropout over the whole minibatch, of which this process may have only a shard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genevae.cells import Shard
from genevae.kernels.arrays import array, fits
from genevae.kernels.compile import load
from genevae.nn.sharding import all_gather, all_sum, draw

__all__ = ["BatchNorm", "Dropout", "norm_relu"]


class BatchNorm(nn.BatchNorm1d):
    """torch's batch norm; over the cells of all processes where several train together.

    From the mean mᵣ and the variance vᵣ of each process's cells, and its share wᵣ of them, the mean over all cells is
    m = Σ wᵣ mᵣ, and their variance Σ wᵣ (vᵣ + (mᵣ − m)²).

    References
    ----------
    Ioffe and Szegedy, ICML (2015); Chan, Golub and LeVeque, The American Statistician 37:242 (1983), to pool variances.
    """

    def forward(self, input: Tensor, shard: Shard | None = None) -> Tensor:  # noqa: A002 - torch's name
        """Normalise ``(n, h)`` over cells."""
        if shard is None or not self.training:
            return super().forward(input)
        x_nh = input.to(torch.promote_types(input.dtype, torch.float32))
        mean_h, variance_h = _pooled(torch.stack([x_nh.mean(0), x_nh.var(0, correction=0)]), shard)
        self._update_running(mean_h, variance_h, len(x_nh), shard)
        return self._scaled((x_nh - mean_h) * (variance_h + self.eps).rsqrt()).to(input.dtype)

    def _scaled(self, x_nh: Tensor) -> Tensor:
        return x_nh if self.weight is None else x_nh * self.weight + self.bias

    @torch.no_grad()
    def _update_running(self, mean_h: Tensor, variance_h: Tensor, n_rows: int, shard: Shard) -> None:
        """Update the running statistics as torch does: with the unbiased variance."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        n = n_rows // shard.sizes[shard.rank] * shard.n_total  # particles count as cells
        self.running_mean.lerp_(mean_h, momentum)
        self.running_var.lerp_(variance_h * (n / (n - 1)), momentum)


def _pooled(moments_2h: Tensor, shard: Shard) -> tuple[Tensor, Tensor]:
    """Return mean and variance of the cells of all processes, given those of this one's."""
    mean_rh, variance_rh = all_gather(moments_2h).unbind(1)
    share_r1 = moments_2h.new_tensor(shard.sizes).unsqueeze(-1) / shard.n_total
    mean_h = (share_r1 * mean_rh).sum(0)
    return mean_h, (share_r1 * (variance_rh + (mean_rh - mean_h).square())).sum(0)


class Dropout(nn.Dropout):
    """torch's dropout; the mask is drawn for the cells of all processes where several train together."""

    def forward(self, input: Tensor, shard: Shard | None = None) -> Tensor:  # noqa: A002 - torch's name
        """Set some entries of ``(n, h)`` to zero, and scale the others."""
        if shard is None or not self.training or self.p == 0:
            return super().forward(input)

        def kept(shape: Sequence[int]) -> Tensor:
            return input.new_empty(shape).bernoulli_(1 - self.p).div_(1 - self.p)

        return input * draw(kept, input.shape, shard)


def norm_relu(x_nh: Tensor, norm: BatchNorm, dropout: nn.Dropout, shard: Shard | None = None) -> Tensor | None:
    """Return batch norm → ReLU → dropout in training, in one compiled pass; None where that is not compiled.

    The mask of the dropout is drawn as torch draws it, for the cells of all processes.
    """
    known = (norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum)
    if not (norm.training and dropout.training) or any(each is None for each in known):
        return None
    if shard is None and len(x_nh) < 2:
        return None
    if not fits("layers", x_nh, norm.weight, norm.bias, norm.running_mean, norm.running_var):
        return None
    kept_nh = x_nh.new_empty(0, x_nh.shape[1])
    if dropout.p:
        kept_nh = draw(lambda shape: x_nh.new_empty(shape).bernoulli_(1 - dropout.p), x_nh.shape, shard).contiguous()
    return _NormReLU.apply(x_nh, norm.weight, norm.bias, norm, kept_nh, 1 - dropout.p, shard)  # type: ignore[no-any-return,no-untyped-call]


class _NormReLU(torch.autograd.Function):
    """max(0, γ (x − m) / √(v + ε) + β) · kept / share; updates the running statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        x_nh: Tensor,
        weight_h: Tensor,
        bias_h: Tensor,
        norm: BatchNorm,
        kept_nh: Tensor,
        share: float,
        shard: Shard | None,
    ) -> Tensor:
        kernels, n = load("layers"), len(x_nh)
        weight, kept = array(weight_h), array(kept_nh)
        x = array(x_nh)
        moments_2h, out = np.empty((2, len(weight)), np.float32), np.empty_like(x)
        kernels.moments(x, *moments_2h)
        if shard is not None:
            moments_2h = array(torch.stack(_pooled(torch.from_numpy(moments_2h), shard)))
            n = n // shard.sizes[shard.rank] * shard.n_total  # particles count as cells
        mean, variance = moments_2h
        kernels.norm_relu(x, weight, array(bias_h), norm.eps, kept, share, mean, variance, out)
        for running, found in ((norm.running_mean, mean), (norm.running_var, variance * np.float32(n / (n - 1)))):
            kept_h = array(running)
            kept_h += np.float32(norm.momentum) * (found - kept_h)
        array(norm.num_batches_tracked)[()] += 1
        ctx.arrays = (x, weight, norm.eps, kept, share, mean, variance, out)
        ctx.shard, ctx.n = shard, n
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nh: Tensor) -> tuple[Tensor | None, ...]:
        kernels = load("layers")
        x, weight, epsilon, kept, share, mean, variance, out = ctx.arrays
        dx, dboth_2h = np.empty_like(x), np.empty((2, len(weight)), np.float32)
        kernels.norm_relu_sums(x, epsilon, kept, share, mean, variance, out, array(grad_nh), dx, *dboth_2h)
        of_all_2h = array(all_sum(torch.from_numpy(dboth_2h), ctx.shard))
        kernels.norm_gradient(x, weight, epsilon, mean, variance, *of_all_2h, ctx.n, dx)
        return torch.from_numpy(dx), *torch.from_numpy(dboth_2h).unbind(), None, None, None, None
