"""Priors: p(z | c), the latent of a cell given its condition alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn
from torch.distributions.kl import register_kl

from genevae.cells import Condition
from genevae.models.posterior import MLPPosterior, NormalHead
from genevae.nn.conditioning import Conditioning
from genevae.nn.mlp import MLP, LayerStyle

__all__ = [
    "ConditionalNormalPrior", "FlowPrior", "LabelNormal", "LabelPrior", "MixturePrior", "StandardNormalPrior",
    "VampPrior", "log_prior_n",
]  # fmt: skip

LOG_SCALE = 3.0
"""|log standard deviation| of a component, and of the factors of a flow, is kept below this."""
N_MEAN = 512
"""Draws that the mean of a flow is computed from."""


def log_prior_n(p: td.Distribution, z: Tensor) -> Tensor:
    """Return log p(z | c) of each cell, summed over latent dimensions where these are independent."""
    log_p: Tensor = p.log_prob(z)
    return log_p if p.event_shape else log_p.sum(-1)


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


class MixturePrior(nn.Module):
    """p(z) = Σ_m π_m N(z; μ_m, σ_m²), with shares, means and standard deviations that are learned.

    Parameters
    ----------
    n_components
        Normal distributions.
    n_latent
        Latent dimensions.

    References
    ----------
    Dilokthanakul et al., arXiv:1611.02648 (2016); Grønbech et al., Bioinformatics 36:4415 (2020), for single cells.
    """

    def __init__(self, n_components: int, n_latent: int) -> None:
        super().__init__()
        self.mean_mk = nn.Parameter(torch.randn(n_components, n_latent))
        self.log_scale_mk = nn.Parameter(torch.zeros(n_components, n_latent))
        self.logit_m = nn.Parameter(torch.zeros(n_components))

    def forward(self, condition: Condition) -> td.Distribution:
        """Return p(z), of ``z_nk`` with dependent dimensions."""
        scale_mk = self.log_scale_mk.clamp(-LOG_SCALE, LOG_SCALE).exp()
        return _mixture(self.logit_m, td.Normal(self.mean_mk, scale_mk, validate_args=False), condition.n_cells)


class VampPrior(nn.Module):
    """p(z) = Σ_m π_m q(z | u_m): a mixture of the posteriors of pseudo-inputs, which are learned.

    A pseudo-input is what the first layer of the posterior would have made of a cell.

    Parameters
    ----------
    n_components
        Pseudo-inputs.
    posterior
        The posterior; its weights are its own, and are not those of the prior.

    References
    ----------
    Tomczak and Welling, AISTATS (2018).
    """

    def __init__(self, n_components: int, posterior: MLPPosterior) -> None:
        super().__init__()
        n_hidden = posterior.expression.bias_h.numel()
        self.pseudo_mh = nn.Parameter(torch.randn(n_components, n_hidden))
        self.logit_m = nn.Parameter(torch.zeros(n_components))
        self._of = (posterior,)  # in a tuple, so that the weights are saved once

    def forward(self, condition: Condition) -> td.Distribution:
        """Return p(z), of ``z_nk`` with dependent dimensions."""
        (posterior,) = self._of
        with _evaluated(posterior):  # cells alone decide the statistics of batch norm
            q = posterior.after_first_layer(self.pseudo_mh)
        return _mixture(self.logit_m, q, condition.n_cells)


def _mixture(logit_m: Tensor, components: td.Normal, n_cells: int) -> td.Distribution:
    """Return the same mixture for each cell."""
    p = td.MixtureSameFamily(
        td.Categorical(logits=logit_m, validate_args=False),
        td.Independent(td.Normal(components.mean, components.scale, validate_args=False), 1, validate_args=False),
        validate_args=False,
    )
    expanded: td.Distribution = p.expand(torch.Size([n_cells]))
    return expanded


@contextmanager
def _evaluated(module: nn.Module) -> Iterator[None]:
    """Put a module and its parts in evaluation mode for a while."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


class FlowPrior(nn.Module):
    """p(z) = N(T(z); 0, I) |det ∂T/∂z|, with T of affine couplings: half of the dimensions scale and shift the others.

    Parameters
    ----------
    n_latent
        Latent dimensions, two at least.
    n_layers
        Couplings; they take turns in which half they change.
    n_hidden
        Hidden units of the network of each.

    References
    ----------
    Dinh, Sohl-Dickstein and Bengio, ICLR (2017); Chen et al., ICLR (2017), for a prior.
    """

    def __init__(self, n_latent: int, n_layers: int = 4, n_hidden: int = 64) -> None:
        super().__init__()
        if n_latent < 2:
            raise ValueError("A flow of couplings needs two latent dimensions at least.")
        self.n_latent = n_latent
        self.networks = nn.ModuleList(
            nn.Sequential(nn.Linear(n_latent, n_hidden), nn.Tanh(), nn.Linear(n_hidden, 2 * n_latent))
            for _ in range(n_layers)
        )
        for network in self.networks:  # begins as N(0, I)
            last: Any = network[-1]  # type: ignore[index]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, condition: Condition) -> td.Distribution:
        """Return p(z), of ``z_nk`` with dependent dimensions."""
        return FlowDistribution(self, condition.n_cells)

    def coupling(self, number: int, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithm of the scale, and the shift, of each dimension; zero for those that are kept."""
        kept_k = (torch.arange(self.n_latent, device=z.device) % 2 == number % 2).to(z.dtype)
        log_scale, shift = self.networks[number](z * kept_k).chunk(2, -1)
        return (1 - kept_k) * LOG_SCALE * torch.tanh(log_scale / LOG_SCALE), (1 - kept_k) * shift


class FlowDistribution(td.Distribution):
    """The distribution of a flow, the same for each cell.

    Parameters
    ----------
    flow
        Its layers.
    n_cells
        Cells.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's
    support = td.constraints.real_vector

    def __init__(self, flow: FlowPrior, n_cells: int) -> None:
        self.flow = flow
        super().__init__(torch.Size([n_cells]), torch.Size([flow.n_latent]), validate_args=False)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z), by the change of variables."""
        log_det = z.new_zeros(z.shape[:-1])
        for number in range(len(self.flow.networks)):
            log_scale, shift = self.flow.coupling(number, z)
            z, log_det = z * log_scale.exp() + shift, log_det + log_scale.sum(-1)
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1) + log_det

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return draws, with gradients: the couplings are undone from the last to the first."""
        weight = next(self.flow.parameters())
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        return self._undone(torch.randn(shape, device=weight.device, dtype=weight.dtype))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return draws."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    @property
    def mean(self) -> Tensor:
        """The mean, over draws that are always the same."""
        weight = next(self.flow.parameters())
        noise = torch.randn(N_MEAN // 2, self.flow.n_latent, generator=torch.Generator().manual_seed(0)).to(weight)
        mean_k = self._undone(torch.cat([noise, -noise])).mean(0)
        return mean_k.expand(self.batch_shape + self.event_shape)

    def _undone(self, z: Tensor) -> Tensor:
        for number in reversed(range(len(self.flow.networks))):
            log_scale, shift = self.flow.coupling(number, z)
            z = (z - shift) * (-log_scale).exp()
        return z
