"""A VAE that contains principal components: linear maps, and networks whose corrections start at zero."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from genevae.cells import Cells, Condition
from genevae.models.likelihoods.normal import NormalLikelihood
from genevae.models.posterior import MLPPosterior
from genevae.models.vae import VAE
from genevae.nn.linear import product

__all__ = ["PrincipalLikelihood", "PrincipalPosterior", "start_from_components"]

MAX_VALUES = 40_000_000
"""Samples × genes at most that components are computed from."""


class PrincipalPosterior(nn.Module):
    """q(z | x, c) with the mean x W G / m + α g(x, c), where m of G genes were measured.

    Parameters
    ----------
    network
        Gives g as its mean, and the standard deviation. Genes of x have mean zero.
    """

    def __init__(self, network: nn.Module, n_genes: int, n_latent: int) -> None:
        super().__init__()
        self.network = network
        self.weight_gk = nn.Parameter(torch.zeros(n_genes, n_latent))
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, cells: Cells) -> Normal:
        """Return q(z | x, c), of ``z_nk``."""
        q = self.network(cells)
        linear_nk = product(cells.x, self.weight_gk)
        measured_ng = cells.condition.measured_ng
        if measured_ng is not None:
            linear_nk = linear_nk / measured_ng.to(linear_nk).mean(-1, keepdim=True).clamp(min=1e-3)
        return Normal(linear_nk + self.gain * q.mean, q.scale, validate_args=False)


class PrincipalLikelihood(NormalLikelihood):
    """x ~ Normal(z W + α h(z, c) + b, σ), one σ and one b per gene; parameters as those of its parent.

    h and b are the parent's mean, α h + α b; α starts at zero.
    """

    def __init__(self, *arguments: object, n_latent: int, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.weight_kg = nn.Parameter(torch.zeros(n_latent, self.mean.out_features))
        self.gain = nn.Parameter(torch.zeros(()))

    def _mean(self, z: Tensor, condition: Condition) -> Tensor:
        return z @ self.weight_kg + self.gain * super()._mean(z, condition)


@torch.no_grad()
def start_from_components(module: VAE, cells: Iterable[Cells]) -> None:
    """Set the linear maps of a model, where it has them, to the principal components of some training samples.

    With V the components of the genes (which have mean zero), λ_k the variance of the samples' scores, and c² the mean
    of the λ_k: the posterior's W is V / c, and the likelihood's is c Vᵀ. Latents then have unit variance on average,
    and keep the distances of the scores. Standard deviations start at 1 / √(1 + c²).

    Parameters
    ----------
    module
        The model.
    cells
        Minibatches of training samples, as the model gets them.
    """
    posterior, likelihood = module._posterior, module._likelihood
    if not isinstance(posterior, PrincipalPosterior) or not isinstance(likelihood, PrincipalLikelihood):
        return
    n_genes, n_latent = posterior.weight_gk.shape
    rows, n_rows = [], 0
    for minibatch in cells:
        rows.append(minibatch.x.dense().cpu())
        n_rows += minibatch.n_cells
        if n_rows * n_genes >= MAX_VALUES:
            break
    x_ng = torch.cat(rows)
    n_components = min(n_latent, *x_ng.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, size_k, component_gk = torch.pca_lowrank(x_ng, min(n_components + 10, *x_ng.shape), center=False, niter=4)
    size_k, component_gk = size_k[:n_components], component_gk[:, :n_components]
    scale = math.sqrt(max(float(size_k.square().mean()) / len(x_ng), 1e-6))
    posterior.weight_gk[:, :n_components] = component_gk / scale
    likelihood.weight_kg[:n_components] = scale * component_gk.T
    if isinstance(posterior.network, MLPPosterior):
        posterior.network.head.both.bias[n_latent:] -= math.log(1 + scale**2)
