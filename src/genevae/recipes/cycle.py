"""System E: a context-conditioned autoencoder that must find its way to any context and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

from torch import nn

from genevae.data.schema import Schema
from genevae.data.transforms.transform import AsIs, LogNormalise, Transform
from genevae.data.value_kind import Kind
from genevae.errors import RecipeError
from genevae.models.additive import Additive
from genevae.models.vae import VAE
from genevae.nn.heads import AdditiveHeads, Scaling
from genevae.nn.mlp import ACTIVATIONS
from genevae.objectives.cycle import Cycle
from genevae.objectives.masking import CategoryDropout
from genevae.objectives.objective import Objective
from genevae.recipes.recipe import Recipe

__all__ = ["CycleRecipe"]

UNUSED = ("norm", "dropout", "embedding_widths", "encode_condition", "prior", "size")
"""Settings of other recipes that heads have no place for."""


@dataclass(frozen=True, kw_only=True)
class CycleRecipe(Recipe):
    """Cycle-consistency autoencoder of log-normalised expression: a sum of a tied base and of one head per condition.

    ``n_latent`` are the hidden units of the base, ``hidden`` the widths of each condition's head. ``beta`` weighs
    integration and target consistency beside reconstruction. A cell may lack any of its conditions.

    Parameters
    ----------
    head_scale
        What the heads of the conditions are multiplied by.
    head_scaling
        Whether that is constant, learned, or fitted so that, at the start, they add as much as the base.
    head_weight_decay
        Of the heads of the conditions; ``weight_decay`` is that of the base.
    integration_weight, target_weight
        Weights of two of the three terms; ``reconstruction_weight`` is that of the third.
    target_size
        The size that cells are scaled to before the logarithm, in counts.
    """

    needs_counts: ClassVar[bool] = False
    needs_unknown: ClassVar[bool] = True

    n_latent: int = 64
    hidden: tuple[int, ...] = (16,)
    batch_size: int = 512
    learning_rate: float = 5e-3
    epsilon: float = 1e-8
    clip: float = 10.0
    weight_decay: float = 0.0
    head_weight_decay: float = 0.0
    head_scale: float = 0.0159
    head_scaling: Scaling = "constant"
    integration_weight: float = 0.1
    target_weight: float = 1.0
    target_size: float = 1e4

    def __post_init__(self) -> None:
        """Refuse settings that no model can use."""
        super().__post_init__()
        for name in ("integration_weight", "target_weight", "head_weight_decay"):
            if not getattr(self, name) >= 0:
                raise RecipeError(f"{name} must be 0 or more, not {getattr(self, name)}.")
        if not self.head_scale > 0:
            raise RecipeError(f"head_scale must be above 0, not {self.head_scale}.")

    def transform(self, kind: Kind) -> Transform:
        """Log-normalise what is on the linear scale, and leave logarithms as they are."""
        if kind is Kind.SCALED:
            raise RecipeError(
                "The recipe cycle adds up what is never negative, and these are centred values. Give it counts or "
                "logarithms, perhaps from another layer (--layer)."
            )
        return AsIs() if kind is Kind.LOG else LogNormalise(self.target_size)

    def objective(self, schema: Schema, n_epochs: int) -> Objective:
        """Make what training makes small."""
        dropout = CategoryDropout(self.category_dropout, schema.unknown) if self.category_dropout else None
        weights = (self.reconstruction_weight, self.integration_weight, self.target_weight)
        categories = {field.name: field.categories for field in schema.categorical}
        return Cycle(len(schema.genes), categories, self.beta_over(n_epochs), weights, dropout)

    def build(self, schema: Schema) -> VAE:
        """Make the heads for these genes and conditions."""
        self._require_use(schema)
        heads = AdditiveHeads(
            len(schema.genes), schema.n_categories, self.n_latent, self.hidden, ACTIVATIONS[self.activation],
            self.head_scale, self.head_scaling,
        )  # fmt: skip
        return Additive(heads, len(schema.genes))

    def parameter_groups(self, model: nn.Module, objective: nn.Module) -> list[dict[str, Any]]:
        """Let the heads of the conditions have a weight decay of their own."""
        heads = list(cast("Additive", model).heads.heads.parameters())
        theirs = {id(parameter) for parameter in heads}
        rest: Iterable[nn.Parameter] = [
            p for p in [*model.parameters(), *objective.parameters()] if id(p) not in theirs
        ]
        return [{"params": rest}, *([{"params": heads, "weight_decay": self.head_weight_decay}] if heads else [])]

    def _require_use(self, schema: Schema) -> None:
        """Refuse what heads have no place for, rather than leave it out in silence."""
        defaults = {field.name: field.default for field in fields(self)}
        if changed := [name for name in UNUSED if getattr(self, name) != defaults[name]]:
            raise RecipeError(f"The recipe cycle has no use for the setting {changed[0]}. Leave it out.")
        if schema.continuous:
            raise RecipeError(
                f"The recipe cycle has one network per category, and '{schema.continuous[0].name}' is a number. Cut "
                "it into categories and give it as a condition, or leave it out."
            )
        if schema.parts:
            raise RecipeError(
                f"The recipe cycle cannot add categories up: leave out --combine {next(iter(schema.parts))}."
            )
