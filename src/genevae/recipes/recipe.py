"""A recipe: a model, an objective and training numbers, chosen to work together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

from torch import nn

from genevae.data.schema import Schema
from genevae.data.transforms.transform import Transform
from genevae.data.value_kind import Kind
from genevae.errors import RecipeError, nearest
from genevae.models.vae import VAE
from genevae.objectives.objective import Objective
from genevae.recipes.bound import ObjectiveSettings
from genevae.training.settings import Training, edit, flat

__all__ = ["Model", "Recipe"]


class Model(Protocol):
    """Settings of a model."""

    @property
    def needs_counts(self) -> bool:
        """Whether the likelihood is one of counts."""

    @property
    def needs_unknown(self) -> bool:
        """Whether a cell's categories may be unknown even where training replaces none."""

    @property
    def n_latent(self) -> int:
        """Latent dimensions."""

    def transform(self, kind: Kind) -> Transform:
        """Return the transform of such values into what the model sees."""

    def build(self, schema: Schema, masked: bool) -> VAE:
        """Make the model for these genes and covariates, with fresh weights."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A choice of model, objective and training numbers.

    Every setting of the three has a name of its own; :meth:`settings` lists them, and :meth:`edit` changes them.

    Parameters
    ----------
    name
        Its name in :data:`~genevae.recipes.registry.RECIPES`.
    description
        One sentence.
    model, objective, training
        The settings.
    """

    name: str
    description: str
    model: Model
    objective: ObjectiveSettings
    training: Training = Training()

    @property
    def has_unknown(self) -> bool:
        """Whether a cell's categories may be unknown."""
        return self.model.needs_unknown or self.objective.drops_categories

    @property
    def has_unknown_batch(self) -> bool:
        """Whether a cell's technical batch may be unknown."""
        return self.has_unknown or self.objective.drops_batches

    def settings(self) -> dict[str, Any]:
        """Return all settings by name."""
        return {**flat(self.model), **flat(self.objective), **flat(self.training)}

    def edit(self, settings: Mapping[str, Any]) -> Self:
        """Return this recipe with other settings.

        Raises
        ------
        RecipeError
            If a setting is unknown, not of its type, or out of range.
        """
        known = self.settings()
        for name in settings:
            if name not in known:
                raise RecipeError(f"The recipe {self.name} has no setting '{name}'. {nearest(name, known, len(known))}")
        parts = {name: edit(getattr(self, name), settings) for name in ("model", "objective", "training")}
        return replace(self, **parts)

    def variant(self, name: str, description: str, **settings: Any) -> Self:
        """Return this recipe under another name, with other settings."""
        return replace(self.edit(settings), name=name, description=description)

    def build(self, schema: Schema) -> VAE:
        """Make the model for these genes and covariates, with fresh weights."""
        vae = self.model.build(schema, self.objective.masks)
        self.objective.extend(vae, self.model, schema)
        return vae

    def make_objective(self, schema: Schema, n_epochs: int) -> Objective:
        """Make the objective."""
        return self.objective.make(schema, n_epochs, self.model)

    def parameter_groups(self, vae: VAE, objective: nn.Module) -> Sequence[dict[str, Any]]:
        """Return all that is trained, in groups that may have numbers of their own, such as a weight decay."""
        grouped = getattr(self.model, "parameter_groups", None)
        if grouped is not None:
            return list(grouped(vae, objective))
        groups = [{"params": [*vae.parameters()]}, {"params": [*objective.parameters()], **self.objective.optimizer}]
        return [group for group in groups if group["params"]]
