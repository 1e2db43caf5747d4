"""System C's batch correction: CVAE-NB whose latent an adversary cannot tell the technical batch from."""

from __future__ import annotations

from dataclasses import dataclass

from genevae.data.schema import Schema
from genevae.errors import RecipeError
from genevae.objectives.adversary import Adversary, Discriminator
from genevae.objectives.objective import Objective
from genevae.objectives.schedules import Ramp
from genevae.recipes.nb import NB

__all__ = ["Adversarial"]


@dataclass(frozen=True, kw_only=True)
class Adversarial(NB):
    """CVAE-NB with an adversary on the latent: it tells the technical batch, and training takes that from it.

    The posterior is given the batch, as in ``nb``: knowing it, it can take the batch away, where without it the same
    expression would have to be read alike in every batch.

    Parameters
    ----------
    adversary_strength
        Weight of the adversary at the end of its rise, in nats of the bound per nat of its cross-entropy. Much more
        than the default leaves more of the batch, not less: the latent then runs from an adversary that cannot follow.
    adversary_ramp
        Share of training over which the strength rises from zero.
    adversary_hidden
        Width of each hidden layer of the adversary.
    """

    adversary_strength: float = 30.0
    adversary_ramp: float = 0.25
    adversary_hidden: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        """Refuse settings that no adversary can use."""
        super().__post_init__()
        if not self.adversary_strength >= 0:
            raise RecipeError(f"adversary_strength must be 0 or more, not {self.adversary_strength}.")
        if not 0 <= self.adversary_ramp <= 1:
            raise RecipeError(f"adversary_ramp is a share, from 0 to 1, and cannot be {self.adversary_ramp}.")
        if not self.adversary_hidden or min(self.adversary_hidden) < 1:
            raise RecipeError(f"Layers need one unit at least, not adversary_hidden={self.adversary_hidden}.")

    def objective(self, schema: Schema, n_epochs: int) -> Objective:
        """Set the adversary against the bound."""
        if schema.batch is None:
            raise RecipeError(
                "The recipe adversarial takes the technical batch from the latent, and no batch was named. "
                "Name its obs column, as in --batch lane, or use the recipe nb."
            )
        n_batches = schema.n_categories[schema.batch]
        if n_batches < 2:
            raise RecipeError(
                f"All cells are in one batch of '{schema.batch}', and there is nothing to take from the latent. "
                "Name another column with --batch, or use the recipe nb."
            )
        return Adversary(
            self.elbo(schema, n_epochs),
            schema.batch,
            Discriminator(self.n_latent, self.adversary_hidden, n_batches),
            Ramp(self.adversary_strength, self.adversary_ramp),
        )
