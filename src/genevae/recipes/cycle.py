"""System E: a context-conditioned autoencoder with cycle consistency, as a sum of interpretable heads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
from genevae.recipes import DESCRIPTIONS
from genevae.recipes.bound import Annealing, ObjectiveSettings
from genevae.recipes.recipe import Model, Recipe
from genevae.recipes.vae import Activation
from genevae.training.settings import Training, check, setting

__all__ = ["CYCLE", "AdditiveModel", "CycleSettings"]


@dataclass(frozen=True, kw_only=True)
class AdditiveModel:
    """Settings of an additive autoencoder of log-normalised expression: a tied base, and one head per condition.

    A cell may lack any of its conditions.

    Parameters
    ----------
    n_latent
        Hidden units of the base.
    hidden
        Widths of each condition's head.
    activation
        After each layer of the heads' networks.
    shared_networks
        Whether each category has one network for encoding and decoding, instead of one for each; all widths in hidden
        must then be the same.
    head_scale
        The factor of what the heads of the conditions add, where it is constant, and its first value where it is
        learned.
    head_scaling
        Whether that is fitted so that, at the start, they add as much as the base, whatever the widths and the number
        of genes are; or constant, or learned.
    head_weight_decay
        Of the heads of the conditions; ``weight_decay`` is that of the base.
    target_size
        The size that cells are scaled to before the logarithm, in counts.
    """

    needs_counts: ClassVar[bool] = False
    needs_unknown: ClassVar[bool] = True

    n_latent: int = setting(64, at_least=1)
    hidden: tuple[int, ...] = setting((16,), at_least=1, required=True)
    activation: Activation = "relu"
    shared_networks: bool = False
    head_scale: float = setting(0.0159, above=0)
    head_scaling: Scaling = "fitted"
    head_weight_decay: float = setting(0.0, at_least=0)
    target_size: float = setting(1e4, above=0)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)
        if self.shared_networks and len(set(self.hidden)) > 1:
            raise RecipeError(
                f"shared_networks needs layers of one width, and hidden is {', '.join(map(str, self.hidden))}: "
                "decoding has the widths of encoding in reverse. Make them the same, or leave shared_networks out."
            )

    def transform(self, kind: Kind) -> Transform:
        """Log-normalise values on the linear scale, and keep logarithms as they are."""
        if kind is Kind.SCALED:
            raise RecipeError(
                "The recipe cycle adds up values that are never negative, and these are centred. Give it counts or "
                "logarithms, perhaps from another layer (--layer)."
            )
        return AsIs() if kind is Kind.LOG else LogNormalise(self.target_size)

    def build(self, schema: Schema, masked: bool) -> VAE:  # noqa: ARG002 - its objective masks no entries
        """Make the heads for these genes and conditions."""
        _require_categories(schema)
        heads = AdditiveHeads(
            len(schema.genes), schema.n_categories, self.n_latent, self.hidden, ACTIVATIONS[self.activation],
            self.head_scale, self.head_scaling, self.shared_networks,
        )  # fmt: skip
        return Additive(heads, len(schema.genes))

    def parameter_groups(self, vae: VAE, objective: nn.Module) -> list[dict[str, Any]]:
        """Give the heads of the conditions a weight decay of their own."""
        heads = list(cast("Additive", vae).heads.heads.parameters())
        of_heads = {id(parameter) for parameter in heads}
        rest: Iterable[nn.Parameter] = [
            p for p in [*vae.parameters(), *objective.parameters()] if id(p) not in of_heads
        ]
        return [{"params": rest}, *([{"params": heads, "weight_decay": self.head_weight_decay}] if heads else [])]


def _require_categories(schema: Schema) -> None:
    """Raise for conditions that heads cannot use."""
    if schema.continuous:
        raise RecipeError(
            f"The recipe cycle has one network per category, and '{schema.continuous[0].name}' is a number. Cut "
            "it into categories and give it as a condition, or leave it out."
        )
    if schema.parts:
        raise RecipeError(f"The recipe cycle cannot add up categories: leave out --combine {next(iter(schema.parts))}.")


@dataclass(frozen=True, kw_only=True)
class CycleSettings(ObjectiveSettings):
    """Settings of cycle consistency.

    Parameters
    ----------
    annealing
        Of β, the weight of integration and target consistency.
    reconstruction_weight, integration_weight, target_weight
        Weights of the three terms.
    category_dropout
        Share of the cells whose category is replaced by “unknown” in a step, for each condition.
    base_share
        The share of the norm of the prediction that the base adds at least, by a penalty; zero leaves it free.
    """

    annealing: Annealing = Annealing()
    reconstruction_weight: float = setting(1.0, at_least=0)
    integration_weight: float = setting(0.1, at_least=0)
    target_weight: float = setting(1.0, at_least=0)
    category_dropout: float = setting(0.0, at_least=0, below=1)
    base_share: float = setting(0.28, at_least=0, below=1)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)

    @property
    def drops_categories(self) -> bool:
        """Whether training replaces categories by “unknown”."""
        return self.category_dropout > 0

    def make(self, schema: Schema, n_epochs: int, model: Model) -> Cycle:  # noqa: ARG002 - the base's signature
        """Make the objective."""
        dropout = CategoryDropout(self.category_dropout, schema.unknown) if self.category_dropout else None
        weights = (self.reconstruction_weight, self.integration_weight, self.target_weight)
        categories = {field.name: field.categories for field in schema.categorical}
        beta = self.annealing.schedule(n_epochs)
        return Cycle(len(schema.genes), categories, beta, weights, dropout, self.base_share)


CYCLE = Recipe(
    name="cycle",
    description=DESCRIPTIONS["cycle"],
    model=AdditiveModel(),
    objective=CycleSettings(),
    training=Training(
        batch_size=512, learning_rate=5e-3, typical_epochs=100, epsilon=1e-8, clip=10.0, weight_decay=0.0
    ),
)
