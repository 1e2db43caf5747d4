"""The negative binomial likelihood of counts."""

from __future__ import annotations

from torch import Tensor, nn

from genevae.cells import Condition
from genevae.distributions import NegativeBinomial
from genevae.models.likelihoods.decoder import CountMean, Decoder

__all__ = ["NegativeBinomialLikelihood"]


class NegativeBinomialLikelihood(nn.Module):
    """x ~ NB(mean = size × proportion(z, c), inverse dispersion θ).

    Parameters
    ----------
    decoder
        Returns the hidden units.
    n_genes
        Genes of x.
    inverse_dispersion
        Called with the hidden units and the condition: one of the modules in ``dispersion``.

    References
    ----------
    Lopez et al., Nature Methods 15:1053 (2018), without its zero inflation.
    """

    def __init__(self, decoder: Decoder, n_genes: int, inverse_dispersion: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.proportion = CountMean(decoder.n_out, n_genes)
        self.inverse_dispersion = inverse_dispersion

    @property
    def gene_embeddings_gh(self) -> Tensor:
        """Weights of the logit of each gene's proportion."""
        return self.proportion.logits.weight

    @property
    def loadings_gk(self) -> Tensor | None:
        """Weights of each latent dimension, where the decoder has no hidden layer."""
        return None if len(self.decoder.trunk.layers) else self.proportion.logits.weight[:, : self.decoder.n_latent]

    def forward(self, z: Tensor, condition: Condition) -> NegativeBinomial:
        """Return p(x | z, c), of ``(…, n, g)``."""
        h = self.decoder(z, condition)
        mean = self.proportion(h, condition)
        return NegativeBinomial(mean, self.inverse_dispersion(h, condition), validate_args=False)
