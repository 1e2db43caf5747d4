"""System B, second part: profiles of one donor find each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genevae.data.pair_sampler import Pairs
from genevae.data.sampler import Sampler
from genevae.data.schema import Schema
from genevae.errors import RecipeError
from genevae.models.projection import Projection
from genevae.models.vae import VAE
from genevae.objectives.contrastive import Contrastive
from genevae.objectives.objective import Objective
from genevae.recipes.bulk import Bulk
from genevae.recipes.recipe import RowNumbers, Weights

__all__ = ["ContrastiveBulk"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveBulk(Bulk):
    """As bulk, and two profiles that share a group (--group donor) are pulled together, those of other groups apart.

    Parameters
    ----------
    posterior
        Whether pairs train the posterior too (joint), or only the projection that is put on it (frozen).
    contrastive_weight
        Of InfoNCE beside the bound, in nats.
    temperature
        Of InfoNCE.
    n_projection
        Dimensions of the projection.
    """

    posterior: Literal["joint", "frozen"] = "joint"
    contrastive_weight: float = 100.0
    temperature: float = 0.07
    n_projection: int = 32

    def __post_init__(self) -> None:
        """Refuse settings that no model can use."""
        super().__post_init__()
        if self.n_projection < 1:
            raise RecipeError(f"n_projection must be 1 or more, not {self.n_projection}.")
        if not self.temperature > 0 or not self.contrastive_weight >= 0:
            raise RecipeError(
                f"temperature must be above 0 and contrastive_weight 0 or more, not {self.temperature} and "
                f"{self.contrastive_weight}."
            )
        if self.cells_per_epoch is not None:
            raise RecipeError("This recipe draws every cell in each epoch, with its pair: leave out cells_per_epoch.")

    def build(self, schema: Schema) -> VAE:
        """Join the parts, and a projection on the latent."""
        model = super().build(schema)
        model.projection = Projection(self.n_latent, self.n_projection, self._style(dropout=0.0))
        return model

    def objective(self, schema: Schema, n_epochs: int) -> Objective:
        """Make the bound of all genes given some of them, and the comparison of pairs."""
        if schema.group is None:
            raise RecipeError(
                "This recipe compares cells that share a group, and no group was named. Say which obs column makes two "
                "cells a pair, such as --group donor."
            )
        return Contrastive(
            self.elbo(schema, n_epochs, self.mask),
            schema.group.name,
            unknown=len(schema.group.categories),
            weight=self.contrastive_weight,
            temperature=self.temperature,
            frozen=self.posterior == "frozen",
        )

    def training_sampler(
        self, rows: RowNumbers, group_n: RowNumbers | None, weights: Weights | None, seed: int
    ) -> Sampler:
        """Put two cells of a group beside each other."""
        if weights is not None:
            raise RecipeError("This recipe draws cells by their group, and cannot balance them too: leave out balance.")
        return self._pairs(rows, group_n, seed)

    def validation_sampler(self, rows: RowNumbers, group_n: RowNumbers | None, seed: int) -> Sampler:
        """Validate on the same pairs after every epoch."""
        return self._pairs(rows, group_n, seed)

    def _pairs(self, rows: RowNumbers, group_n: RowNumbers | None, seed: int) -> Sampler:
        if group_n is None:  # the objective will refuse, in words
            return super().validation_sampler(rows, group_n, seed)
        return Pairs(rows, group_n, self.batch_size, seed)
