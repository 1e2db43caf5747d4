"""The Poisson likelihood of counts."""

from __future__ import annotations

from torch import Tensor, nn

from genevae.cells import Condition
from genevae.distributions import Poisson
from genevae.models.likelihoods.decoder import CountMean, Decoder

__all__ = ["PoissonLikelihood"]


class PoissonLikelihood(nn.Module):
    """x ~ Poisson(size × proportion(z, c)).

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
        self.proportion = CountMean(decoder.n_out, n_genes)

    @property
    def gene_embeddings_gh(self) -> Tensor:
        """Weights of the logit of each gene's proportion."""
        return self.proportion.logits.weight

    def forward(self, z: Tensor, condition: Condition) -> Poisson:
        """Return p(x | z, c), of ``(…, n, g)``."""
        mean = self.proportion(self.decoder(z, condition), condition)
        return Poisson(mean, validate_args=False)
