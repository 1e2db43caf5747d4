"""System B, second part: contrastive training of profiles that share a group, such as a donor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from genevae.data.pair_sampler import Pairs
from genevae.data.sampler import InOrder, Sampler
from genevae.data.schema import Schema
from genevae.errors import RecipeError
from genevae.models.projection import Projection, ViewProjections
from genevae.models.vae import VAE
from genevae.objectives.contrastive import Contrastive
from genevae.recipes import DESCRIPTIONS
from genevae.recipes.bound import Bound, ObjectiveSettings, RowNumbers, Weights
from genevae.recipes.bulk import BOUND, BULK
from genevae.recipes.recipe import Model
from genevae.recipes.vae import VAESettings
from genevae.training.settings import Training, check, setting

__all__ = ["CONTRASTIVE", "ContrastiveSettings"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveSettings(ObjectiveSettings):
    """Settings of the bound with InfoNCE between the cells of a pair.

    Parameters
    ----------
    bound
        The bound.
    posterior
        Whether pairs train the posterior too (joint); or only the projection on top of it, and the bound alone trains
        the posterior (bound); or nothing does, and that of the trained model of --from stays as it is (frozen).
    contrastive_weight
        Weight of InfoNCE, in nats.
    temperature
        Of InfoNCE.
    n_projection
        Dimensions of the projection.
    """

    bound: Bound = Bound()
    posterior: Literal["joint", "bound", "frozen"] = "joint"
    contrastive_weight: float = setting(100.0, at_least=0)
    temperature: float = setting(0.07, above=0)
    n_projection: int = setting(32, at_least=1)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)

    @property
    def needs_trained(self) -> bool:
        """Whether training must start from a trained model."""
        return self.posterior == "frozen"

    @property
    def drops_categories(self) -> bool:
        """Whether training replaces categories by “unknown”."""
        return self.bound.drops_categories

    @property
    def masks(self) -> bool:
        """Whether training masks entries of the posterior's input."""
        return self.bound.masks

    def extend(self, vae: VAE, model: Model, schema: Schema) -> None:
        """Add a projection of the latent, or one for each view."""
        if not isinstance(model, VAESettings):
            raise TypeError("contrastive training needs a model with an MLP posterior")
        kind = Projection if schema.view is None else ViewProjections
        vae.projection = kind(model.n_latent, self.n_projection, model.style(dropout=0.0))
        if self.posterior == "frozen":
            vae.fix_posterior()

    def make(self, schema: Schema, n_epochs: int, model: Model) -> Contrastive:
        """Make the bound and the comparison of pairs."""
        if schema.group is None:
            raise RecipeError(
                "This recipe compares cells that share a group, and no group was given. Name the obs column whose "
                "categories make pairs, such as --group donor."
            )
        return Contrastive(
            self.bound.make(schema, n_epochs, model),
            schema.group.name,
            unknown=len(schema.group.categories),
            weight=self.contrastive_weight,
            temperature=self.temperature,
            frozen=self.posterior != "joint",
            fixed=self.posterior == "frozen",
        )

    def training_sampler(
        self,
        rows: RowNumbers,
        group_n: RowNumbers | None,
        weights: Weights | None,
        training: Training,
        seed: int,
        view_n: RowNumbers | None = None,
    ) -> Sampler:
        """Put two cells of a group next to each other."""
        if weights is not None:
            raise RecipeError("This recipe draws cells by their group, and cannot balance them too: leave out balance.")
        if training.cells_per_epoch is not None:
            raise RecipeError("This recipe draws every cell in each epoch, with its pair: leave out cells_per_epoch.")
        return self.validation_sampler(rows, group_n, training, seed, view_n)

    def validation_sampler(
        self,
        rows: RowNumbers,
        group_n: RowNumbers | None,
        training: Training,
        seed: int,
        view_n: RowNumbers | None = None,
    ) -> Sampler:
        """Validate on the same pairs after every epoch."""
        if group_n is None:  # `make` raises the error that explains it
            return InOrder(rows, 512)
        pairs = Pairs(rows, group_n, training.minibatch(len(rows)), seed, view_n=view_n)
        if len(rows) and not pairs.n_cells:
            raise RecipeError(
                f"No group has cells of both views among the {len(rows):,} cells that train or validate. Keep groups "
                "whole with split_by (--split-by, the same column as --group), or give more of them."
            )
        return pairs


CONTRASTIVE = replace(
    BULK,
    name="contrastive",
    description=DESCRIPTIONS["contrastive"],
    objective=ContrastiveSettings(bound=BOUND),
)
