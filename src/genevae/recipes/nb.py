"""CVAE-NB: counts as negative binomials."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from genevae.data.schema import Schema
from genevae.models.likelihoods import Decoder, NegativeBinomialLikelihood, PoissonLikelihood, ZeroInflatedLikelihood
from genevae.recipes.dispersion import DISPERSIONS, Dispersion
from genevae.recipes.recipe import Recipe

__all__ = ["NB", "ZINB", "Poisson"]


@dataclass(frozen=True, kw_only=True)
class NB(Recipe):
    """Conditional VAE of counts, negative binomial: the first choice for UMI counts.

    Parameters
    ----------
    dispersion
        What the inverse dispersion depends on.
    """

    dispersion: Dispersion = "gene"

    def likelihood(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        return NegativeBinomialLikelihood(decoder, len(schema.genes), DISPERSIONS[self.dispersion](decoder, schema))


@dataclass(frozen=True, kw_only=True)
class ZINB(Recipe):
    """Conditional VAE of counts, zero-inflated negative binomial: for full-length protocols with excess zeros.

    Parameters
    ----------
    dispersion
        What the inverse dispersion depends on.
    """

    dispersion: Dispersion = "gene"

    def likelihood(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        return ZeroInflatedLikelihood(decoder, len(schema.genes), DISPERSIONS[self.dispersion](decoder, schema))


@dataclass(frozen=True, kw_only=True)
class Poisson(Recipe):
    """Conditional VAE of counts, Poisson: for counts no more variable than their mean."""

    def likelihood(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        return PoissonLikelihood(decoder, len(schema.genes))
