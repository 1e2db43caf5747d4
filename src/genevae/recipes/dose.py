"""System C's drug response: CVAE-NB in which the dose scales the effect of the drug."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from genevae.data.schema import Categorical, Continuous, Schema
from genevae.errors import RecipeError, nearest
from genevae.models.likelihoods import Decoder
from genevae.nn.conditioning import Conditioning
from genevae.nn.dose import RESPONSES, DosedConditioning, Doses
from genevae.recipes import DESCRIPTIONS
from genevae.recipes.bound import Bound
from genevae.recipes.nb import NB, CountLikelihood, NegativeBinomial
from genevae.recipes.vae import VAESettings
from genevae.training.settings import Training

__all__ = ["DOSE", "DoseModel"]


@dataclass(frozen=True, kw_only=True)
class DoseModel(VAESettings):
    """Settings of a CVAE of drugs and doses: a response from 0 to 1 to the dose scales the embedding of the drug.

    Dose zero of any drug and the control are the same to the model. Doses are in their own units, not logarithms; those
    below a millionth of the largest count as zero.

    Parameters
    ----------
    counts
        The likelihood.
    drug
        The condition that is the drug; by default the one with a control, or else the first.
    dose
        The continuous condition that is its dose; by default the first.
    dose_response
        Shape of the response: hill, d^n / (d^n + EC50^n) with an EC50 and a slope for each drug; or free, any curve
        that never falls.
    """

    counts: CountLikelihood = NegativeBinomial()
    drug: str | None = None
    dose: str | None = None
    dose_response: Literal["hill", "free"] = "hill"

    def likelihood(self, decoder: Decoder, schema: Schema) -> nn.Module:
        """Make p(x | z, c)."""
        return self.counts.make(decoder, schema)

    def conditioning(self, schema: Schema) -> Conditioning:
        """Make a vector of the condition, with the drug scaled by the response to its dose."""
        drug, dose = self._drug(schema), self._dose(schema)
        codes = schema.n_codes
        return DosedConditioning(
            drug.name,
            dose.name,
            Doses(dose.mean, dose.scale, dose.maximum),
            RESPONSES[self.dose_response](codes[drug.name], dose.maximum),
            n_categories=codes,
            continuous=[field.name for field in schema.continuous],
            widths=self.embedding_widths,
            parts=schema.parts,
            vectors=schema.vectors,
            control=None if drug.control is None else drug.code(drug.control),
        )

    def _drug(self, schema: Schema) -> Categorical:
        named = {field.name: field for field in schema.categorical if not field.technical}
        if self.drug is not None and self.drug not in named:
            raise RecipeError(f"The drug '{self.drug}' is not among the conditions. {nearest(self.drug, named)}")
        if not named:
            raise RecipeError("The recipe dose needs the drug as a condition, as in --condition compound.")
        with_control = [name for name, field in named.items() if field.control is not None]
        return named[self.drug or next(iter(with_control or named))]

    def _dose(self, schema: Schema) -> Continuous:
        named = {field.name: field for field in schema.continuous}
        if self.dose is not None and self.dose not in named:
            raise RecipeError(f"The dose '{self.dose}' is not among the continuous ones. {nearest(self.dose, named)}")
        if not named:
            raise RecipeError("The recipe dose needs the dose as a continuous condition, as in --continuous dose.")
        dose = named[self.dose or next(iter(named))]
        if dose.minimum < 0 or dose.maximum <= 0:
            raise RecipeError(
                f"The dose '{dose.name}' goes from {dose.minimum:g} to {dose.maximum:g}, and doses are zero or more. "
                "Give doses in their own units, not as logarithms."
            )
        return dose


DOSE = replace(
    NB,
    name="dose",
    description=DESCRIPTIONS["dose"],
    model=DoseModel(n_latent=4, norm="none"),
    objective=Bound(),
    training=Training(batch_size=16, learning_rate=5e-3),  # for tens of bulk samples
)
