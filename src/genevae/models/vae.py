"""The conditional variational autoencoder: a posterior, a prior and a likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, kl_divergence

from genevae.cells import Cells, Condition
from genevae.distributions import ExpressionDistribution
from genevae.models.draws import draw_with_kl
from genevae.models.prior import LabelPrior
from genevae.models.protocols import HasGeneEmbeddings, HasLoadings, Likelihood, Posterior, Prior
from genevae.models.size import LearnedSize
from genevae.nn.sharding import draw

__all__ = ["VAE", "BoundTerms"]


@dataclass(frozen=True)
class BoundTerms:
    """The terms of the bound log p(x | c) ≥ E_q[log p(x | z, c)] − KL(q(z | x, c) ‖ p(z | c)).

    Parameters
    ----------
    log_px_sn
        log p(x | z, c) of each particle and cell, in nats.
    kl_n
        KL divergence of the latent (and of the size, if it is learned), in nats.
    z_snk
        The sampled latents, for objectives with further terms.
    px
        p(x | z, c), of ``(s, n, g)``.
    """

    log_px_sn: Tensor
    kl_n: Tensor
    z_snk: Tensor
    px: ExpressionDistribution

    @property
    def bound_n(self) -> Tensor:
        """The bound of each cell, in nats."""
        return self.log_px_sn.mean(0) - self.kl_n


class VAE(nn.Module):
    """Three conditional distributions.

    Parameters
    ----------
    posterior
        ``posterior(cells)`` returns q(z | x, c).
    prior
        ``prior(condition)`` returns p(z | c).
    likelihood
        ``likelihood(z, condition)`` returns p(x | z, c).
    size
        How the size is inferred; None uses the observed size.
    projection
        Maps latents to the unit vectors that a contrastive objective compares; None without such an objective.

    References
    ----------
    Kingma and Welling, ICLR (2014); Sohn, Lee and Yan, NeurIPS (2015).
    """

    def __init__(
        self,
        posterior: Posterior,
        prior: Prior,
        likelihood: Likelihood,
        size: LearnedSize | None = None,
        projection: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self._posterior = posterior
        self._prior = prior
        self._likelihood = likelihood
        self.size = size
        self.projection = projection

    @property
    def decoder(self) -> Likelihood:
        """The module of the likelihood."""
        return self._likelihood

    def posterior(self, cells: Cells) -> Normal:
        """q(z | x, c), of ``z_nk``."""
        return self._posterior(cells)

    def prior(self, condition: Condition) -> Distribution:
        """p(z | c), of ``z_nk``."""
        return self._prior(condition)

    def likelihood(self, z: Tensor, condition: Condition) -> ExpressionDistribution:
        """p(x | z, c), of ``(…, n, g)``."""
        return self._likelihood(z, condition)

    @property
    def label_field(self) -> str | None:
        """The field whose missing labels are summed over, if there is one."""
        return self._prior.field if isinstance(self._prior, LabelPrior) else None

    def fix_posterior(self) -> None:
        """Use the posterior as it is: without gradients, dropout or updates of batch norm."""
        cast("nn.Module", self._posterior).requires_grad_(False).eval()

    def gene_embeddings(self) -> Tensor | None:
        """Return the likelihood's vector of each gene, ``gh``, or None if it has none."""
        return self._likelihood.gene_embeddings_gh if isinstance(self._likelihood, HasGeneEmbeddings) else None

    def loadings(self) -> Tensor | None:
        """Return the weight of each latent dimension for each gene, ``gk``, or None if the likelihood is not linear."""
        return self._likelihood.loadings_gk if isinstance(self._likelihood, HasLoadings) else None

    def sized(self, cells: Cells) -> Condition:
        """Return the condition with the inferred size: the observed one, or the posterior median if it is learned."""
        if self.size is None:
            return cells.condition
        return cells.condition.with_size(self.size.posterior(cells).mean.exp())

    def terms(
        self, cells: Cells, n_particles: int = 1, noise_snk: Tensor | None = None, seen: Cells | None = None
    ) -> BoundTerms:
        """Compute the terms of the bound.

        Parameters
        ----------
        cells
            A minibatch.
        n_particles
            Samples from the posterior.
        noise_snk
            Standard normal noise to use instead of new noise; broadcasts over cells. If the size is learned, there is
            one more column, whose first particle gives the size.
        seen
            The same cells as input of the posterior, if that differs from ``cells`` (masking).
        """
        seen = cells if seen is None else seen
        q, condition = self.posterior(seen), cells.condition
        n, k = q.batch_shape
        if noise_snk is None:
            width = k + (self.size is not None)
            randn = partial(torch.randn, device=condition.size_n1.device, dtype=condition.size_n1.dtype)
            noise_snk = draw(randn, (n_particles, n, width), cells.shard, axis=1)
        z_snk, kl_n = draw_with_kl(q, self.prior(condition), noise_snk[..., :k])
        if self.size is not None:
            q_size = self.size.posterior(seen)
            kl_n = kl_n + kl_divergence(q_size, self.size.prior(condition)).sum(-1)
            condition = condition.with_size((q_size.mean + q_size.scale * noise_snk[0, :, k:]).exp())
        px = self.likelihood(z_snk, condition)
        return BoundTerms(px.log_prob_n(cells.x, condition.measured_ng), kl_n, z_snk, px)

    def bound_n(self, cells: Cells, n_particles: int = 1, noise_snk: Tensor | None = None) -> Tensor:
        """Return the bound of each cell, in nats."""
        return self.terms(cells, n_particles, noise_snk).bound_n
