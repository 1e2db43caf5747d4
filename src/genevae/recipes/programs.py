"""Linear likelihoods, whose latent dimensions can be read: factors with loadings, and gene programs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn

from genevae.data.schema import Schema
from genevae.errors import RecipeError
from genevae.models.likelihoods import Decoder
from genevae.models.likelihoods.decoder import CountMean
from genevae.models.vae import VAE
from genevae.objectives.elbo import ELBO
from genevae.objectives.lasso import GroupLasso
from genevae.recipes import DESCRIPTIONS
from genevae.recipes.bound import Bound, ObjectiveSettings
from genevae.recipes.nb import NB, CountModel
from genevae.recipes.recipe import Model
from genevae.training.settings import check, setting

__all__ = ["LINEAR", "PROGRAMS", "LassoSettings", "LinearModel", "ProgramsModel"]

START, START_OF_FREE = 0.2, 0.05
"""The first loading of each gene of a program, and what the first loadings of free factors are multiplied by."""


@dataclass(frozen=True, kw_only=True)
class LinearModel(CountModel):
    """Settings of a model of counts whose logits are linear in the latent and the condition."""

    @property
    def decoder_hidden(self) -> tuple[int, ...]:
        """No hidden layer."""
        return ()


@dataclass(frozen=True, kw_only=True)
class ProgramsModel(CountModel):
    """Settings of a linear model with a latent dimension for each gene set, which loads on the genes of its set alone.

    Parameters
    ----------
    n_latent
        Further latent dimensions, which load on all genes.
    """

    has_programs: ClassVar[bool] = True

    n_latent: int = setting(3, at_least=1)

    @property
    def decoder_hidden(self) -> tuple[int, ...]:
        """No hidden layer."""
        return ()

    def build(self, schema: Schema, masked: bool) -> VAE:
        """Make the model, with a latent dimension for each gene set before the free ones."""
        if not schema.programs:
            raise RecipeError(
                "The recipe programs needs gene sets: --gene-sets FILE.gmt. Or use the recipe linear, whose factors "
                "are free."
            )
        every = replace(self, n_latent=len(schema.programs) + self.n_latent)
        return super(ProgramsModel, every).build(schema, masked)

    def likelihood(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        mask_gh = torch.ones(len(schema.genes), decoder.n_out)
        for k, (_, places) in enumerate(schema.programs):
            mask_gh[:, k] = 0
            mask_gh[list(places), k] = 1
        likelihood = super().likelihood(decoder, schema)
        likelihood.proportion = CountMean(decoder.n_out, len(schema.genes), mask_gh)
        n = len(schema.programs)
        with torch.no_grad():  # programs come first: free factors take what is left
            weight_gh = likelihood.proportion.logits.weight
            weight_gh[:, :n] = START * mask_gh[:, :n]
            weight_gh[:, n : decoder.n_latent] *= START_OF_FREE
        return likelihood


@dataclass(frozen=True, kw_only=True)
class LassoSettings(ObjectiveSettings):
    """Settings of the bound with a group lasso.

    Parameters
    ----------
    bound
        The bound.
    lasso
        Weight of the length of each dimension's loadings, in nats of the bound.
    """

    bound: Bound = Bound()
    lasso: float = setting(0.005, at_least=0)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)

    @property
    def drops_categories(self) -> bool:
        """Whether training replaces categories by “unknown”."""
        return self.bound.drops_categories

    def make(self, schema: Schema, n_epochs: int, model: Model) -> GroupLasso:
        """Make the bound and the group lasso."""
        base: ELBO = self.bound.make(schema, n_epochs, model)
        return GroupLasso(base, self.lasso)


LINEAR = replace(
    NB,
    name="linear",
    description=DESCRIPTIONS["linear"],
    model=LinearModel(),
    objective=Bound(),
)
PROGRAMS = replace(
    NB,
    name="programs",
    description=DESCRIPTIONS["programs"],
    model=ProgramsModel(),
    objective=LassoSettings(),
)
