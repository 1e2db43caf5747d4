"""Draws from the posterior, and its divergence from the prior."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution, Normal, kl_divergence

from genevae.kernels.arrays import array, fits
from genevae.kernels.compile import load
from genevae.models.posterior import LIMIT, HeadNormal
from genevae.models.prior import LabelNormal, StandardNormal

__all__ = ["draw_with_kl"]


def draw_with_kl(q: Normal, p: Distribution, noise_snk: Tensor) -> tuple[Tensor, Tensor]:
    """Return μ + σ · noise, and KL(q ‖ p) of each cell; where q is a head and p is N(0, I), in one compiled pass.

    Where the divergence has no closed form, it is the mean of log q(z) − log p(z) over the draws.

    Parameters
    ----------
    q, p
        Of ``(n, k)``.
    noise_snk
        Standard normal noise; broadcasts over cells.
    """
    if isinstance(q, HeadNormal) and isinstance(p, StandardNormal) and q.both.ndim == 2:
        noise_snk = noise_snk.expand(-1, len(q.both), -1)
        if fits("layers", q.both, noise_snk):
            return _Draws.apply(q.both, noise_snk)  # type: ignore[no-any-return,no-untyped-call]
    z_snk = q.mean + q.scale * noise_snk
    if p.event_shape:  # a prior without a closed form
        return z_snk, (q.log_prob(z_snk).sum(-1) - p.log_prob(z_snk)).mean(0)
    return z_snk, p.kl_n(q) if isinstance(p, LabelNormal) else kl_divergence(q, p).sum(-1)


class _Draws(torch.autograd.Function):
    """Draws and divergences of a head of means and log-variances."""

    @staticmethod
    def forward(ctx: Any, both_nk: Tensor, noise_snk: Tensor) -> tuple[Tensor, Tensor]:
        both, noise = array(both_nk), array(noise_snk)
        z, kl = np.empty_like(noise), np.empty(len(both), np.float32)
        load("layers").normal_draws(both, noise, LIMIT, z, kl)
        ctx.arrays = both, noise
        return torch.from_numpy(z), torch.from_numpy(kl)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_snk: Tensor, grad_n: Tensor) -> tuple[Tensor, None]:
        both, noise = ctx.arrays
        gradient = np.empty_like(both)
        load("layers").normal_draws_gradient(both, noise, LIMIT, array(grad_snk), array(grad_n), gradient)
        return torch.from_numpy(gradient), None
