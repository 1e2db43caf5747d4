"""Poisson counts given a latent."""

from __future__ import annotations

from torch import Tensor, nn

from genevae.cells import Condition
from genevae.distributions import Poisson
from genevae.models.likelihoods.decoder import Decoder, Proportion

__all__ = ["PoissonLikelihood"]


class PoissonLikelihood(nn.Module):
    """x ~ Poisson(size × proportion(z, c)).

    Parameters
    ----------
    decoder
        Makes the hidden units.
    n_genes
        Genes of x.
    """

    def __init__(self, decoder: Decoder, n_genes: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.proportion = Proportion(decoder.n_out, n_genes)

    @property
    def gene_vectors_gh(self) -> Tensor:
        """What the hidden units are multiplied by to make each gene's logit."""
        return self.proportion.logits.weight

    def forward(self, z: Tensor, condition: Condition) -> Poisson:
        """Return p(x | z, c), of ``(…, n, g)``."""
        return Poisson(condition.size_n1 * self.proportion(self.decoder(z, condition), condition))
