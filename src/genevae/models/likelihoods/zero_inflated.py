"""The zero-inflated negative binomial likelihood of counts."""

from __future__ import annotations

from torch import Tensor, nn

from genevae.cells import Condition
from genevae.distributions import NegativeBinomial, ZeroInflated
from genevae.models.likelihoods.decoder import CountMean, Decoder

__all__ = ["ZeroInflatedLikelihood"]


class ZeroInflatedLikelihood(nn.Module):
    """x is zero with probability π(z, c), else NB(size × proportion(z, c), θ).

    Parameters
    ----------
    decoder
        Returns the hidden units, for both the gate and the mean.
    n_genes
        Genes of x.
    inverse_dispersion
        Called with the hidden units and the condition: one of the modules in ``dispersion``.

    References
    ----------
    Lopez et al., Nature Methods 15:1053 (2018).
    """

    def __init__(self, decoder: Decoder, n_genes: int, inverse_dispersion: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.proportion = CountMean(decoder.n_out, n_genes)
        self.inverse_dispersion = inverse_dispersion
        self.gate_logits = nn.Linear(decoder.n_out, n_genes)

    @property
    def gene_embeddings_gh(self) -> Tensor:
        """Weights of the logit of each gene's proportion."""
        return self.proportion.logits.weight

    def forward(self, z: Tensor, condition: Condition) -> ZeroInflated:
        """Return p(x | z, c), of ``(…, n, g)``."""
        h = self.decoder(z, condition)
        mean = self.proportion(h, condition)
        base = NegativeBinomial(mean, self.inverse_dispersion(h, condition), validate_args=False)
        return ZeroInflated(base, self.gate_logits(h), validate_args=False)
