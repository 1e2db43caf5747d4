"""Batch norm and dropout over the whole minibatch, of which this process may have only a shard."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genevae.cells import Shard
from genevae.nn.sharding import all_gather, draw

__all__ = ["BatchNorm", "Dropout"]


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
        each_r2h = all_gather(torch.stack([x_nh.mean(0), x_nh.var(0, correction=0)]))
        mean_rh, variance_rh = each_r2h.unbind(1)
        share_r1 = x_nh.new_tensor(shard.sizes).unsqueeze(-1) / shard.n_total
        mean_h = (share_r1 * mean_rh).sum(0)
        variance_h = (share_r1 * (variance_rh + (mean_rh - mean_h).square())).sum(0)
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


class Dropout(nn.Dropout):
    """torch's dropout; the mask is drawn for the cells of all processes where several train together."""

    def forward(self, input: Tensor, shard: Shard | None = None) -> Tensor:  # noqa: A002 - torch's name
        """Set some entries of ``(n, h)`` to zero, and scale the others."""
        if shard is None or not self.training or self.p == 0:
            return super().forward(input)

        def kept(shape: Sequence[int]) -> Tensor:
            return input.new_empty(shape).bernoulli_(1 - self.p).div_(1 - self.p)

        return input * draw(kept, input.shape, shard)
