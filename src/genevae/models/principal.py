"""A VAE that contains principal components: linear maps, and networks whose corrections start at zero."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from genevae.cells import Cells, Condition
from genevae.models.likelihoods.decoder import Decoder
from genevae.models.likelihoods.normal import NormalLikelihood
from genevae.models.posterior import MLPPosterior
from genevae.models.vae import VAE
from genevae.nn.linear import product

__all__ = ["PrincipalLikelihood", "PrincipalPosterior", "start_from_components"]

RIDGE = 1e-3
"""What is added to the least squares of samples that lack genes, over the mean of their diagonal."""
MAX_VALUES = 40_000_000
"""Samples × genes at most that components are computed from."""


class PrincipalPosterior(nn.Module):
    """q(z | x, c) with the mean x W + g(x, c); g starts at zero.

    Where a sample lacks genes, x W is the score that fits the others best, by least squares; in training, where genes
    are masked at random, it is x W over the share of the genes that were measured.

    Parameters
    ----------
    network
        Gives g as its mean, and the standard deviation. Genes of x have mean zero.
    n_genes, n_latent
        Rows and columns of W, which training does not change.
    """

    weight_gk: Tensor

    def __init__(self, network: nn.Module, n_genes: int, n_latent: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("weight_gk", torch.zeros(n_genes, n_latent))

    def forward(self, cells: Cells) -> Normal:
        """Return q(z | x, c), of ``z_nk``."""
        q = self.network(cells)
        return Normal(self._scores(cells) + q.mean, q.scale, validate_args=False)

    def _scores(self, cells: Cells) -> Tensor:
        linear_nk, measured_ng = product(cells.x, self.weight_gk), cells.condition.measured_ng
        if measured_ng is None or measured_ng.all():
            return linear_nk
        if self.training:
            return linear_nk / measured_ng.to(linear_nk).mean(-1, keepdim=True).clamp(min=1e-3)
        all_kk = self.weight_gk.T @ self.weight_gk
        ridge_kk = (RIDGE * all_kk.diagonal().mean()).clamp(min=1e-12) * torch.eye(len(all_kk)).to(all_kk)
        fitted_nk = torch.empty_like(linear_nk)
        patterns, pattern_n = measured_ng.unique(dim=0, return_inverse=True)
        for number, measured_g in enumerate(patterns):  # (WᵀW)(W_oᵀW_o)⁻¹ W_oᵀx_o, with the rows of measured genes
            known_mk = self.weight_gk[measured_g]
            here_n = pattern_n == number
            solved = torch.linalg.solve(known_mk.T @ known_mk + ridge_kk, linear_nk[here_n].T)
            fitted_nk[here_n] = ((all_kk + ridge_kk) @ solved).T
        return fitted_nk


class PrincipalLikelihood(NormalLikelihood):
    """x ~ Normal(z W + h(z, c), σ), one σ per gene.

    h is linear in the decoder's hidden units, and starts at zero. Training does not change W.

    Parameters
    ----------
    decoder, n_genes, scale
        As for the parent.
    n_latent
        Rows of W.
    """

    weight_kg: Tensor

    def __init__(self, decoder: Decoder, n_genes: int, n_latent: int, scale: float | None = None) -> None:
        super().__init__(decoder, n_genes, scale)
        self.register_buffer("weight_kg", torch.zeros(n_latent, n_genes))
        nn.init.zeros_(self.mean.weight)

    def _mean(self, z: Tensor, condition: Condition) -> Tensor:
        return z @ self.weight_kg + super()._mean(z, condition)


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
    size_k, component_gk = _components(torch.cat(rows).double(), n_latent)
    n_components = len(size_k)
    scale = math.sqrt(max(float(size_k.square().mean()) / n_rows, 1e-6))
    posterior.weight_gk[:, :n_components] = (component_gk / scale).float()
    likelihood.weight_kg[:n_components] = (scale * component_gk.T).float()
    if isinstance(posterior.network, MLPPosterior):
        nn.init.zeros_(posterior.network.head.both.weight[:n_latent])
        nn.init.zeros_(posterior.network.head.both.bias[:n_latent])
        posterior.network.head.both.bias[n_latent:] -= math.log(1 + scale**2)


def _components(x_ng: Tensor, n_most: int) -> tuple[Tensor, Tensor]:
    """Return the largest singular values of a matrix and their right singular vectors, by its smaller Gram matrix."""
    wide = x_ng.shape[0] < x_ng.shape[1]
    square_m, vector_m = torch.linalg.eigh(x_ng @ x_ng.T if wide else x_ng.T @ x_ng)
    size_m = square_m.clamp(min=0).sqrt()
    keep = [m for m in range(len(size_m) - 1, -1, -1) if size_m[m] > 1e-6 * size_m[-1]][:n_most]
    size_k, vector_k = size_m[keep], vector_m[:, keep]
    return size_k, x_ng.T @ vector_k / size_k if wide else vector_k
