"""CVAE with Poisson counts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from genevae.data.schema import Schema
from genevae.models.likelihoods import Decoder, PoissonLikelihood
from genevae.recipes.recipe import Recipe

__all__ = ["Poisson"]


@dataclass(frozen=True, kw_only=True)
class Poisson(Recipe):
    """Conditional VAE of counts, Poisson: for counts no more variable than their mean."""

    def likelihood(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        return PoissonLikelihood(decoder, len(schema.genes))
