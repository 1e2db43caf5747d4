"""The Gaussian likelihood."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genevae.cells import Condition
from genevae.distributions import Normal
from genevae.models.likelihoods.decoder import Decoder

__all__ = ["NormalLikelihood"]


class NormalLikelihood(nn.Module):
    """x ~ Normal(mean(z, c), σ), one σ per gene.

    Parameters
    ----------
    decoder
        Returns the hidden units.
    n_genes
        Genes of x.
    """

    def __init__(self, decoder: Decoder, n_genes: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.mean = nn.Linear(decoder.n_out, n_genes)
        self.log_scale_g = nn.Parameter(torch.zeros(n_genes))

    @property
    def gene_embeddings_gh(self) -> Tensor:
        """Weights of each gene's mean."""
        return self.mean.weight

    def forward(self, z: Tensor, condition: Condition) -> Normal:
        """Return p(x | z, c), of ``(…, n, g)``; σ is at least 0.01."""
        scale_g = self.log_scale_g.clamp(-4.6, 10).exp()
        return Normal(self.mean(self.decoder(z, condition)), scale_g, validate_args=False)
