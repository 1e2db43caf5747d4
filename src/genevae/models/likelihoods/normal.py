"""The Gaussian likelihood."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from genevae.cells import Condition
from genevae.distributions import Normal
from genevae.models.likelihoods.decoder import Decoder
from genevae.models.likelihoods.dispersion import SPEED

__all__ = ["SQUARED_ERROR", "NormalLikelihood"]

SQUARED_ERROR = math.sqrt(0.5)
"""The σ for which −log p(x) is the squared error (x − μ)², up to a constant."""
MIN_SCALE = 0.01
"""Smallest σ, so that a gene that is nearly constant has a likelihood."""


class NormalLikelihood(nn.Module):
    """x ~ Normal(mean(z, c), σ), one σ per gene.

    Parameters
    ----------
    decoder
        Returns the hidden units.
    n_genes
        Genes of x.
    scale
        σ of all genes, if it is not learned.

    Notes
    -----
    A learned σ is the root of 0.01² + exp(10 s)², with a parameter s. Ten times s moves as fast as the logarithm
    of a negative binomial's θ. Where σ is at its lower limit s still has a gradient, so that a gene of which the first
    minibatches have no expression does not stay there.
    """

    def __init__(self, decoder: Decoder, n_genes: int, scale: float | None = None) -> None:
        super().__init__()
        self.decoder = decoder
        self.mean = nn.Linear(decoder.n_out, n_genes)
        self.scale = scale
        self.log_scale_tenth_g = nn.Parameter(torch.zeros(n_genes)) if scale is None else None
        self.register_load_state_dict_pre_hook(_convert_former_scale)  # type: ignore[no-untyped-call]

    @property
    def gene_embeddings_gh(self) -> Tensor:
        """Weights of each gene's mean."""
        return self.mean.weight

    def forward(self, z: Tensor, condition: Condition) -> Normal:
        """Return p(x | z, c), of ``(…, n, g)``; σ is at least 0.01 where it is learned."""
        mean = self._mean(z, condition)
        return Normal(mean, self._scale_g(mean), validate_args=False)

    def _mean(self, z: Tensor, condition: Condition) -> Tensor:
        return self.mean(self.decoder(z, condition))  # type: ignore[no-any-return]

    def _scale_g(self, mean: Tensor) -> Tensor:
        if self.log_scale_tenth_g is None:
            return mean.new_tensor(self.scale)
        free_g = (SPEED * self.log_scale_tenth_g).clamp(max=10).exp()
        return (free_g.square() + MIN_SCALE**2).sqrt()


def _convert_former_scale(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:  # noqa: ARG001
    """Load models whose parameter was log σ itself."""
    if (log_scale_g := state.pop(f"{prefix}log_scale_g", None)) is not None:
        squared_g = (2 * log_scale_g.clamp(-4.6, 10)).exp() - MIN_SCALE**2
        state[f"{prefix}log_scale_tenth_g"] = squared_g.clamp(min=1e-8).log() / (2 * SPEED)
