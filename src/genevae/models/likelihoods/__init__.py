"""Likelihoods: p(x | z, c), one per file."""

from genevae.models.likelihoods.decoder import Decoder
from genevae.models.likelihoods.dispersion import PerCell, PerGene, PerGeneCategory
from genevae.models.likelihoods.image import ImageNegativeBinomialLikelihood, ImageNormalLikelihood
from genevae.models.likelihoods.negative_binomial import NegativeBinomialLikelihood
from genevae.models.likelihoods.normal import NormalLikelihood
from genevae.models.likelihoods.poisson import PoissonLikelihood
from genevae.models.likelihoods.zero_inflated import ZeroInflatedLikelihood

__all__ = [
    "Decoder",
    "ImageNegativeBinomialLikelihood",
    "ImageNormalLikelihood",
    "NegativeBinomialLikelihood",
    "NormalLikelihood",
    "PerCell",
    "PerGene",
    "PerGeneCategory",
    "PoissonLikelihood",
    "ZeroInflatedLikelihood",
]
