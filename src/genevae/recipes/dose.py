"""System C's drug response: CVAE-NB in which a dose scales what its drug does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genevae.data.schema import Categorical, Continuous, Schema
from genevae.errors import RecipeError, nearest
from genevae.nn.conditioning import Conditioning
from genevae.nn.dose import RESPONSES, DosedConditioning, Doses
from genevae.recipes.nb import NB

__all__ = ["Dose"]


@dataclass(frozen=True, kw_only=True)
class Dose(NB):
    """CVAE-NB of drugs and doses: a drug's embedding is scaled by a response that rises with the dose from 0 to 1.

    Dose zero of any drug and the control are the same to the model. Doses are given in their own units, not as
    logarithms; those below a millionth of the largest count as zero. The numbers of training suit tens of bulk samples;
    for single cells choose a larger batch_size.

    Parameters
    ----------
    drug
        The condition that is the drug; by default the one with a control, or else the first.
    dose
        The continuous condition that is its dose; by default the first.
    dose_response
        Shape of the response: hill, d^n / (d^n + EC50^n) with an EC50 and a slope for each drug; or free, any curve
        that never falls.
    """

    n_latent: int = 4
    norm: str = "none"
    batch_size: int = 16
    learning_rate: float = 5e-3

    drug: str | None = None
    dose: str | None = None
    dose_response: Literal["hill", "free"] = "hill"

    def _conditioning(self, schema: Schema) -> Conditioning:
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
