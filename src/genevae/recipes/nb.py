"""CVAE-NB, CVAE-ZINB and CVAE-Poisson: counts, given a latent and the condition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from torch import nn

from genevae.data.schema import Schema
from genevae.models.likelihoods import Decoder, NegativeBinomialLikelihood, PoissonLikelihood, ZeroInflatedLikelihood
from genevae.recipes import DESCRIPTIONS
from genevae.recipes.bound import Bound
from genevae.recipes.dispersion import DISPERSIONS, Dispersion
from genevae.recipes.recipe import Recipe
from genevae.recipes.vae import VAESettings
from genevae.training.settings import check

__all__ = ["NB", "POISSON", "ZINB", "CountLikelihood", "CountModel", "NegativeBinomial", "Poisson", "ZeroInflated"]


class CountLikelihood(Protocol):
    """Settings of a likelihood of counts."""

    def make(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""


@dataclass(frozen=True)
class NegativeBinomial:
    """Negative binomial.

    Parameters
    ----------
    dispersion
        What the inverse dispersion depends on.
    """

    likelihood: ClassVar[type[nn.Module]] = NegativeBinomialLikelihood

    dispersion: Dispersion = "gene"

    def __post_init__(self) -> None:
        """Check the values."""
        check(self)

    def make(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        return self.likelihood(decoder, len(schema.genes), DISPERSIONS[self.dispersion](decoder, schema))


@dataclass(frozen=True)
class ZeroInflated(NegativeBinomial):
    """Zero-inflated negative binomial, with the same settings."""

    likelihood: ClassVar[type[nn.Module]] = ZeroInflatedLikelihood


@dataclass(frozen=True)
class Poisson:
    """Poisson."""

    def make(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        return PoissonLikelihood(decoder, len(schema.genes))


@dataclass(frozen=True, kw_only=True)
class CountModel(VAESettings):
    """Settings of a conditional VAE of counts.

    Parameters
    ----------
    counts
        The likelihood.
    """

    counts: CountLikelihood = NegativeBinomial()

    def likelihood(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        return self.counts.make(decoder, schema)


NB = Recipe(
    name="nb",
    description=DESCRIPTIONS["nb"],
    model=CountModel(),
    objective=Bound(batch_dropout=0.1),
)
ZINB = replace(
    NB,
    name="zinb",
    description=DESCRIPTIONS["zinb"],
    model=CountModel(counts=ZeroInflated()),
)
POISSON = replace(
    NB,
    name="poisson",
    description=DESCRIPTIONS["poisson"],
    model=CountModel(counts=Poisson()),
)
