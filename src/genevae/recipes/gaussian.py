"""CVAE: log-normalised expression as Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from genevae.data.schema import Schema
from genevae.data.transforms.transform import AsIs, LogNormalise, Standardise, Transform
from genevae.data.value_kind import Kind
from genevae.models.likelihoods import Decoder, NormalLikelihood
from genevae.models.likelihoods.normal import SQUARED_ERROR
from genevae.models.principal import PrincipalLikelihood, PrincipalPosterior
from genevae.nn.mlp import identity
from genevae.recipes import DESCRIPTIONS
from genevae.recipes.bound import Bound
from genevae.recipes.recipe import Recipe
from genevae.recipes.vae import VAESettings
from genevae.training.settings import setting

__all__ = ["CONDITIONAL", "GAUSSIAN", "GaussianModel"]


@dataclass(frozen=True, kw_only=True)
class GaussianModel(VAESettings):
    """Settings of a conditional VAE of log-normalised expression.

    Parameters
    ----------
    target_size
        The size that cells are scaled to before the logarithm, in counts.
    standardise
        Whether each gene gets mean zero and unit variance over the training cells; results are scaled back.
    scale_floor
        Least standard deviation that a gene is divided by to standardise it, as a share of the median gene's.
    components
        Whether latents and means are the principal components of the training samples plus networks that correct them,
        and start at zero; only of standardised genes.
    sigma
        Whether σ is learned for each gene, or fixed at √½, so that the loss is the squared error plus the KL term.
    """

    needs_counts: ClassVar[bool] = False

    target_size: float = setting(1e4, above=0)
    standardise: bool = False
    scale_floor: float = setting(0.25, at_least=0)
    components: bool = False
    sigma: Literal["learned", "fixed"] = "learned"

    @property
    def input_function(self) -> Callable[[Tensor], Tensor]:
        """The function of expression that enters the posterior."""
        return identity

    @property
    def has_zero_mean(self) -> bool:
        """Whether each gene has mean zero, so that zero stands for a missing value."""
        return self.standardise

    def transform(self, kind: Kind) -> Transform:
        """Log-normalise values on the linear scale, and keep others as they are."""
        is_linear = kind in {Kind.COUNTS, Kind.FRACTIONAL, Kind.NORMALISED}
        logged: Transform = LogNormalise(self.target_size) if is_linear else AsIs()
        return Standardise(logged, floor=self.scale_floor) if self.standardise else logged

    def likelihood(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        scale = SQUARED_ERROR if self.sigma == "fixed" else None
        if self.components and self.standardise:
            return PrincipalLikelihood(decoder, len(schema.genes), self.n_latent, scale)
        return NormalLikelihood(decoder, len(schema.genes), scale)

    def posterior(self, schema: Schema, n_latent: int, learns_missing: bool) -> nn.Module:
        """Make q(z | x, c)."""
        network = super().posterior(schema, n_latent, learns_missing)
        return (
            PrincipalPosterior(network, len(schema.genes), n_latent)
            if self.components and self.standardise
            else network
        )


GAUSSIAN = Recipe(
    name="gaussian",
    description=DESCRIPTIONS["gaussian"],
    model=GaussianModel(),
    objective=Bound(),
)
CONDITIONAL = Recipe(
    name="conditional",
    description=DESCRIPTIONS["conditional"],
    model=GaussianModel(n_latent=128, hidden=(512, 256), embedding_widths=(32, 32, 16)),
    objective=Bound(category_dropout=0.1),
)
