"""Settings of the evidence lower bound: annealing of β, masking, and category dropout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from genevae.data.sampler import InOrder, Sampler, Shuffled
from genevae.data.schema import Schema
from genevae.errors import RecipeError
from genevae.models.vae import VAE
from genevae.objectives.elbo import ELBO
from genevae.objectives.masking import CategoryDropout, GeneMask
from genevae.objectives.objective import Objective
from genevae.objectives.schedules import Curve, Cyclic, Ramp, Schedule
from genevae.training.settings import Training, check, setting

if TYPE_CHECKING:
    from genevae.recipes.recipe import Model

__all__ = ["Annealing", "Bound", "Masking", "ObjectiveSettings", "RowNumbers", "Weights"]

RowNumbers = NDArray[np.int64]
Weights = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Annealing:
    """How β changes over training.

    Parameters
    ----------
    beta
        Weight of the KL term: at the end, or at the peak of a cycle.
    beta_schedule
        How it rises from zero: linear, cosine, exponential, or cyclic.
    beta_ramp
        Share of training, or of each cycle, over which it rises.
    beta_cycle
        Epochs in a cycle.
    beta_decay
        The peak of a cycle over that of the cycle before.
    beta_curve
        How it rises in a cycle: linear, cosine or exponential.
    beta_anchor
        Which peak is ``beta``: the first, so that it does not depend on the number of epochs; or the last, so that the
        first is the higher the more cycles there are.
    """

    beta: float = setting(1.0, at_least=0)
    beta_schedule: Literal["linear", "cosine", "exponential", "cyclic"] = "linear"
    beta_ramp: float = setting(0.25, at_least=0, at_most=1)
    beta_cycle: int = setting(40, at_least=1)
    beta_decay: float = setting(1.0, above=0, at_most=1)
    beta_curve: Curve = "linear"
    beta_anchor: Literal["first", "last"] = "first"

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)

    def schedule(self, n_epochs: int) -> Schedule:
        """Make the schedule of β."""
        if self.beta_schedule != "cyclic":
            return Ramp(self.beta, self.beta_ramp, self.beta_schedule)
        cyclic = Cyclic(self.beta, self.beta_cycle, n_epochs, self.beta_decay, self.beta_ramp, self.beta_curve)
        if self.beta_anchor == "first":
            return cyclic
        return replace(cyclic, peak=self.beta / self.beta_decay ** (cyclic.n_cycles - 1))


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Masking of the posterior's input in training; the loss is that of all entries.

    Parameters
    ----------
    mask_low, mask_high
        The masked share of the entries is drawn uniformly between these in each step. A masked gene enters as its
        mean, which is zero once genes are standardised; without ``standardise``, as a number that is learned for it.
    """

    mask_low: float = setting(0.05, at_least=0, below=1)
    mask_high: float = setting(0.25, at_least=0, below=1)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)
        if self.mask_low > self.mask_high:
            raise RecipeError(f"mask_low must be mask_high ({self.mask_high}) or less, not {self.mask_low}.")

    def make(self) -> GeneMask | None:
        """Make the mask, if it can mask anything."""
        return GeneMask(self.mask_low, self.mask_high) if self.mask_high else None


class ObjectiveSettings:
    """Settings of an objective."""

    @property
    def drops_categories(self) -> bool:
        """Whether training replaces categories by “unknown”."""
        return False

    @property
    def drops_batches(self) -> bool:
        """Whether training replaces the technical batch by “unknown”."""
        return self.drops_categories

    @property
    def masks(self) -> bool:
        """Whether training masks entries of the posterior's input."""
        return False

    @property
    def integrates(self) -> bool:
        """Whether the latent is to be without the technical batch."""
        return False

    @property
    def optimizer(self) -> dict[str, Any]:
        """The options of Adam for networks of the objective, where they are not those of the model."""
        return {}

    @property
    def needs_trained(self) -> bool:
        """Whether training must start from a trained model."""
        return False

    def make(self, schema: Schema, n_epochs: int, model: Model) -> Objective:
        """Make the objective."""
        raise NotImplementedError

    def extend(self, vae: VAE, model: Model, schema: Schema) -> None:
        """Add the parts to a model that only this objective needs."""

    def training_sampler(
        self,
        rows: RowNumbers,
        group_n: RowNumbers | None,  # noqa: ARG002 - for objectives that compare cells of a group
        weights: Weights | None,
        training: Training,
        seed: int,
        view_n: RowNumbers | None = None,  # noqa: ARG002 - as above
    ) -> Sampler:
        """Return the order of the training cells; ``group_n`` and ``view_n`` are those of all cells, where given."""
        return Shuffled(
            rows, training.minibatch(len(rows)), seed, weights=weights, n_cells_per_epoch=training.cells_per_epoch
        )

    def validation_sampler(
        self,
        rows: RowNumbers,
        group_n: RowNumbers | None,  # noqa: ARG002 - as above
        training: Training,  # noqa: ARG002 - as above
        seed: int,  # noqa: ARG002 - as above
        view_n: RowNumbers | None = None,  # noqa: ARG002 - as above
    ) -> Sampler:
        """Return the order of the validation cells."""
        return InOrder(rows, 512)


@dataclass(frozen=True, kw_only=True)
class Bound(ObjectiveSettings):
    """Settings of the evidence lower bound.

    Parameters
    ----------
    annealing
        Of β.
    masking
        Of the posterior's input, if any.
    reconstruction_weight
        Weight of the log-likelihood.
    category_dropout
        Share of the cells whose category is replaced by “unknown” in a step, for each condition; above zero, the model
        can be applied to cells whose category is not known.
    batch_dropout
        The same for the technical batch, if it is more: cells of a new batch then have an embedding that was learned.
    """

    annealing: Annealing = Annealing()
    masking: Masking | None = None
    reconstruction_weight: float = setting(1.0, at_least=0)
    category_dropout: float = setting(0.0, at_least=0, below=1)
    batch_dropout: float = setting(0.0, at_least=0, below=1)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)

    @property
    def drops_categories(self) -> bool:
        """Whether training replaces categories by “unknown”."""
        return self.category_dropout > 0

    @property
    def drops_batches(self) -> bool:
        """Whether training replaces the technical batch by “unknown”."""
        return max(self.category_dropout, self.batch_dropout) > 0

    @property
    def masks(self) -> bool:
        """Whether training masks entries of the posterior's input."""
        return self.masking is not None and self.masking.make() is not None

    def make(self, schema: Schema, n_epochs: int, model: Model | None = None) -> ELBO:  # noqa: ARG002 - of any model
        """Make the bound."""
        share = dict.fromkeys(schema.unknown, self.category_dropout)
        if schema.batch in share:
            share[schema.batch] = max(self.category_dropout, self.batch_dropout)
        dropout = CategoryDropout(share, schema.unknown) if share else None
        mask = self.masking.make() if self.masking is not None else None
        beta, invert = self.annealing.schedule(n_epochs), schema.transform.invert
        return ELBO(beta, self.reconstruction_weight, mask=mask, dropout=dropout, invert=invert)
