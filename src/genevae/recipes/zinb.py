"""CVAE-ZINB: counts as zero-inflated negative binomials."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from genevae.data.schema import Schema
from genevae.models.likelihoods import Decoder, ZeroInflatedLikelihood
from genevae.recipes.dispersion import DISPERSIONS, Dispersion
from genevae.recipes.recipe import Recipe

__all__ = ["ZINB"]


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
