"""Likelihoods with a convolutional decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genevae.cells import Condition
from genevae.distributions import NegativeBinomial, Normal
from genevae.distributions.deferred import SoftmaxMean
from genevae.models.convolution import ImageDecoder
from genevae.models.likelihoods.normal import SQUARED_ERROR

__all__ = ["ImageNegativeBinomialLikelihood", "ImageNormalLikelihood"]


class ImageNormalLikelihood(nn.Module):
    """x ~ Normal(sigmoid(image(z, c)), σ² = ½), over the genes, without the padding.

    −log p(x | z, c) = Σ_g (x_g − μ_g)² + ½ g log π: with weights of one, the loss is squared error plus KL.

    Parameters
    ----------
    decoder
        Returns one value per gene.
    """

    scale: Tensor

    def __init__(self, decoder: ImageDecoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("scale", torch.tensor(SQUARED_ERROR), persistent=False)

    def forward(self, z: Tensor, condition: Condition) -> Normal:
        """Return p(x | z, c), of ``(…, n, g)``."""
        return Normal(self.decoder(z, condition).sigmoid(), self.scale, validate_args=False)


class ImageNegativeBinomialLikelihood(nn.Module):
    """x ~ NB(size × softmax over genes of (image(z, c) + b_g), θ_g).

    Parameters
    ----------
    decoder
        Returns one value per gene.
    n_genes
        Genes of x.
    inverse_dispersion
        Called with these values and the condition: one of the modules in ``dispersion``.
    """

    def __init__(self, decoder: ImageDecoder, n_genes: int, inverse_dispersion: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.level_g = nn.Parameter(torch.zeros(n_genes))
        self.inverse_dispersion = inverse_dispersion

    def forward(self, z: Tensor, condition: Condition) -> NegativeBinomial:
        """Return p(x | z, c), of ``(…, n, g)``."""
        logits = self.decoder(z, condition)
        mean = SoftmaxMean(logits, self.level_g, condition.size_n1, condition.measured_ng)
        return NegativeBinomial(mean, self.inverse_dispersion(logits + self.level_g, condition), validate_args=False)
