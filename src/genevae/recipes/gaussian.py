"""CVAE: log-normalised expression as Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from genevae.data.schema import Schema
from genevae.data.transforms.transform import AsIs, LogNormalise, Standardise, Transform
from genevae.data.value_kind import Kind
from genevae.models.likelihoods import Decoder, NormalLikelihood
from genevae.recipes.recipe import Recipe

__all__ = ["Conditional", "Gaussian"]


def _as_it_is(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, kw_only=True)
class Gaussian(Recipe):
    """Conditional VAE of log-normalised expression, Gaussian; counts are log-normalised first.

    Parameters
    ----------
    target_size
        The size that cells are scaled to before the logarithm, in counts.
    standardise
        Whether each gene is given mean zero and unit variance over the training cells; answers are scaled back.
    """

    needs_counts: ClassVar[bool] = False
    enter: ClassVar[Callable[[Tensor], Tensor]] = _as_it_is

    target_size: float = 1e4
    standardise: bool = False

    def transform(self, kind: Kind) -> Transform:
        """Log-normalise what is on the linear scale, and leave the rest as it is."""
        is_linear = kind in {Kind.COUNTS, Kind.FRACTIONAL, Kind.NORMALISED}
        logged: Transform = LogNormalise(self.target_size) if is_linear else AsIs()
        return Standardise(logged) if self.standardise else logged

    def likelihood(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        return NormalLikelihood(decoder, len(schema.genes))


@dataclass(frozen=True, kw_only=True)
class Conditional(Gaussian):
    """Gaussian CVAE with embeddings 32/32/16 (cell type, perturbation, experiment), hidden 512-256, latent 128.

    It is trained to do without labels too, so that it can embed cells of unknown type, and infer the type.
    """

    n_latent: int = 128
    hidden: tuple[int, ...] = (512, 256)
    embedding_widths: tuple[int, ...] = (32, 32, 16)
    category_dropout: float = 0.1
