"""System C's batch correction: CVAE-NB with a discriminator that cannot predict the technical batch from the latent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from genevae.data.schema import Schema
from genevae.errors import RecipeError
from genevae.objectives.adversary import Adversary, Discriminator
from genevae.objectives.schedules import Ramp
from genevae.objectives.views import ThinnedViews
from genevae.recipes import DESCRIPTIONS
from genevae.recipes.bound import Bound, ObjectiveSettings
from genevae.recipes.nb import NB, CountModel
from genevae.recipes.recipe import Model
from genevae.training.settings import Training, check, setting

__all__ = ["ADVERSARIAL", "AdversarialSettings"]


@dataclass(frozen=True, kw_only=True)
class AdversarialSettings(ObjectiveSettings):
    """Settings of the bound with an adversary on the latent, and with two thinned views of each cell.

    The adversary mixes the batches. The views keep in the latent what can be seen at any depth, such as cell types. The
    posterior sees no conditions, so that cells with the same expression have the same latent.

    Parameters
    ----------
    bound
        The bound.
    adversary_strength
        Weight of the adversary at the end, in nats of the bound per nat of its cross-entropy. Much more than the
        default leaves more of the batch, not less: the posterior then changes faster than the adversary can follow.
    adversary_ramp
        Share of training over which the strength rises from zero.
    adversary_hidden
        Width of each hidden layer of the adversary.
    adversary_learning_rate
        Of the adversary, which must follow the posterior.
    thinning_weight
        Weight of the agreement of two thinned views, in nats of the bound; 0 for none.
    """

    bound: Bound = Bound()
    adversary_strength: float = setting(30.0, at_least=0)
    adversary_ramp: float = setting(0.25, at_least=0, at_most=1)
    adversary_hidden: tuple[int, ...] = setting((64, 64), at_least=1, required=True)
    adversary_learning_rate: float = setting(1e-2, above=0)
    thinning_weight: float = setting(100.0, at_least=0)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)

    @property
    def drops_categories(self) -> bool:
        """Whether training replaces categories by “unknown”."""
        return self.bound.drops_categories

    @property
    def integrates(self) -> bool:
        """Whether the latent is to be without the technical batch."""
        return True

    @property
    def optimizer(self) -> dict[str, Any]:
        """The options of Adam for the adversary, whose gradients are small beside the model's."""
        return {"lr": self.adversary_learning_rate, "eps": 1e-8}

    def make(self, schema: Schema, n_epochs: int, model: Model) -> Adversary | ThinnedViews:
        """Make the bound, its adversary and the views."""
        if schema.batch is None:
            raise RecipeError(
                "The recipe adversarial removes the technical batch from the latent, and no batch was given. "
                "Name its obs column, as in --batch lane, or use the recipe nb."
            )
        n_batches = schema.n_categories[schema.batch]
        if n_batches < 2:
            raise RecipeError(
                f"All cells are in one batch of '{schema.batch}', so there is nothing to remove from the latent. "
                "Name another column with --batch, or use the recipe nb."
            )
        adversary = Adversary(
            self.bound.make(schema, n_epochs, model),
            schema.batch,
            Discriminator(model.n_latent, self.adversary_hidden, n_batches),
            Ramp(self.adversary_strength, self.adversary_ramp),
        )
        return ThinnedViews(adversary, self.thinning_weight) if self.thinning_weight else adversary


ADVERSARIAL = replace(
    NB,
    name="adversarial",
    description=DESCRIPTIONS["adversarial"],
    model=CountModel(encode_condition=False),
    objective=AdversarialSettings(),
    training=Training(
        batch_size=128, learning_rate=2e-3, typical_epochs=60
    ),  # for encoder and discriminator to balance
)
