"""Partly labelled data: a latent with a place for each label, where labels that are missing are summed over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from genevae.data.schema import Categorical, Schema
from genevae.errors import RecipeError
from genevae.models.prior import LabelPrior
from genevae.nn.conditioning import Conditioning
from genevae.objectives.labelled import LabelledLatent
from genevae.objectives.objective import Objective
from genevae.objectives.views import ThinnedViews
from genevae.recipes import DESCRIPTIONS
from genevae.recipes.adversarial import ADVERSARIAL, AdversarialSettings
from genevae.recipes.bound import Bound, ObjectiveSettings
from genevae.recipes.nb import NB, CountModel
from genevae.recipes.recipe import Model
from genevae.training.settings import check, setting

__all__ = ["SEMI", "LabelledModel", "SemiSettings", "label_of"]


def label_of(schema: Schema) -> Categorical:
    """Return the field of the labels: the first condition that is neither a batch nor a perturbation.

    Raises
    ------
    RecipeError
        If there is none.
    """
    for field in schema.categorical:
        if not (field.technical or field.combined or field.control is not None):
            if not field.categories:
                raise RecipeError(
                    f"No cell has a label in '{field.name}'. The recipe semi needs some; or use adversarial."
                )
            return field
    raise RecipeError(
        "The recipe semi needs the field of the labels, of which cells may have none. Name its obs column, as in "
        "--labels cell_type, or use the recipe adversarial or nb."
    )


@dataclass(frozen=True, kw_only=True)
class LabelledModel(CountModel):
    """Settings of a model of counts whose labels have a prior each, p(z | y), and reach expression by the latent alone.

    The posterior sees neither labels nor other conditions; the likelihood sees the other conditions.
    """

    needs_unknown: ClassVar[bool] = True

    encode_condition: bool = False

    def conditioning(self, schema: Schema) -> Conditioning:
        """Make a vector of the condition without the label."""
        label = label_of(schema)
        others = tuple(field for field in schema.categorical if field is not label)
        nested = tuple(each for each in schema.nested if label.name not in (each.inner, each.outer))
        return super().conditioning(replace(schema, categorical=others, nested=nested))

    def prior_module(self, schema: Schema, posterior: nn.Module) -> nn.Module:  # noqa: ARG002 - as of its base
        """Make p(z | y)."""
        label = label_of(schema)
        return LabelPrior(label.name, len(label.categories), self.n_latent)


@dataclass(frozen=True, kw_only=True)
class SemiSettings(ObjectiveSettings):
    """Settings of the objective of recipe adversarial, or of its bound where there are no two batches, with labels.

    Parameters
    ----------
    integration
        The bound, with an adversary and thinned views.
    label_weight
        Weight of the log-probability of known labels, in nats of the bound.
    """

    integration: AdversarialSettings = AdversarialSettings(bound=Bound(category_dropout=0.1))
    label_weight: float = setting(50.0, at_least=0)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)

    @property
    def drops_categories(self) -> bool:
        """Whether training replaces categories by “unknown”."""
        return self.integration.drops_categories

    @property
    def integrates(self) -> bool:
        """Whether the latent is to be without the technical batch."""
        return True

    @property
    def optimizer(self) -> dict[str, Any]:
        """The options of Adam for the adversary."""
        return self.integration.optimizer

    def make(self, schema: Schema, n_epochs: int, model: Model) -> Objective:
        """Make the objective."""
        settings = self.integration
        if schema.batch is not None and schema.n_categories[schema.batch] > 1:
            return LabelledLatent(settings.make(schema, n_epochs, model), label_of(schema).name, self.label_weight)
        bound = settings.bound.make(schema, n_epochs, model)
        base = ThinnedViews(bound, settings.thinning_weight) if settings.thinning_weight else bound
        return LabelledLatent(base, label_of(schema).name, self.label_weight)


SEMI = replace(
    NB,
    name="semi",
    description=DESCRIPTIONS["semi"],
    model=LabelledModel(),
    objective=SemiSettings(),
    training=ADVERSARIAL.training,
)
