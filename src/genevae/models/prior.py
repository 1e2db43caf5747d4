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

__all__ = ["ConditionalNormalPrior", "LabelNormal", "LabelPrior", "StandardNormalPrior"]


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


class LabelNormal(td.Normal):
    """p(z | y) of each cell: N(m_y, s_y²) of its label y.

    Without a label it is the normal distribution with the mean and the variance of Σ_y π_y N(m_y, s_y²).

    Parameters
    ----------
    mean_ck, scale_ck, log_share_c
        m_y, s_y and log π_y of each label.
    code_n
        The label of each cell; cells whose code is no label have none.
    """

    def __init__(self, mean_ck: Tensor, scale_ck: Tensor, log_share_c: Tensor, code_n: Tensor) -> None:
        self.mean_ck, self.scale_ck, self.log_share_c, self.code_n = mean_ck, scale_ck, log_share_c, code_n
        share_c1 = log_share_c.exp().unsqueeze(-1)
        mean_k = (share_c1 * mean_ck).sum(0)
        scale_k = ((share_c1 * (scale_ck.square() + mean_ck.square())).sum(0) - mean_k.square()).clamp(min=1e-8).sqrt()
        loc, scale = torch.cat([mean_ck, mean_k[None]]), torch.cat([scale_ck, scale_k[None]])
        code_n = code_n.clamp(max=len(mean_ck))
        super().__init__(loc[code_n], scale[code_n], validate_args=False)

    def kl_nc(self, q: td.Normal) -> Tensor:
        """Return KL(q ‖ N(m_y, s_y²)) of each cell and label."""
        p = td.Normal(self.mean_ck, self.scale_ck, validate_args=False)
        each = td.Normal(q.mean.unsqueeze(-2), q.scale.unsqueeze(-2), validate_args=False)
        return td.kl_divergence(each, p).sum(-1)

    def log_labels_nc(self, q: td.Normal) -> Tensor:
        """Return log r(y) = log π_y − KL(q ‖ p(z | y)) + constant, normalised."""
        return (self.log_share_c - self.kl_nc(q)).log_softmax(-1)

    def kl_n(self, q: td.Normal) -> Tensor:
        """Return KL(q ‖ p(z | y)) or, without a label, −log Σ_y π_y exp(−KL(q ‖ p(z | y))).

        The second is KL(q(z) r(y) ‖ p(z, y)) at the best r, which is :meth:`log_labels_nc`.
        """
        kl_nc = self.kl_nc(q)
        without_n = -torch.logsumexp(self.log_share_c - kl_nc, -1)
        is_known_n = self.code_n < len(self.mean_ck)
        of_label_n = kl_nc.gather(-1, self.code_n.clamp(max=len(self.mean_ck) - 1).unsqueeze(-1)).squeeze(-1)
        return torch.where(is_known_n, of_label_n, without_n)


class LabelPrior(nn.Module):
    """A normal prior for each label of a field, with the share of each label.

    Parameters
    ----------
    field
        The labels.
    n_labels
        Their number; a further code stands for a missing label.
    n_latent
        Latent dimensions.
    """

    def __init__(self, field: str, n_labels: int, n_latent: int) -> None:
        super().__init__()
        self.field = field
        self.mean_ck = nn.Parameter(torch.randn(n_labels, n_latent))
        self.log_scale_ck = nn.Parameter(torch.zeros(n_labels, n_latent))
        self.logit_c = nn.Parameter(torch.zeros(n_labels))

    def forward(self, condition: Condition) -> td.Normal:
        """Return p(z | y), of ``z_nk``."""
        scale_ck = self.log_scale_ck.clamp(-3, 3).exp()
        return LabelNormal(self.mean_ck, scale_ck, self.logit_c.log_softmax(-1), condition.codes[self.field])
