"""Target conditions: names and categories, as a user writes them, turned into the codes and values of a model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from genevae.cells import Condition
from genevae.data.schema import Categorical, Schema

__all__ = ["TargetCondition", "all_combinations", "parse_condition"]


@dataclass(frozen=True)
class TargetCondition:
    """The covariates to set, and their values. All other covariates keep the value of each cell.

    Parameters
    ----------
    codes
        Codes of categorical covariates.
    values
        Standardised values of continuous covariates.
    """

    codes: Mapping[str, int]
    values: Mapping[str, float]

    def apply(self, condition: Condition) -> Condition:
        """Set these covariates in every cell of a condition."""
        return condition.replace(
            {name: torch.full_like(condition.codes[name], code) for name, code in self.codes.items()},
            {name: torch.full_like(condition.values[name], value) for name, value in self.values.items()},
        )


def parse_condition(schema: Schema, options: Mapping[str, object]) -> TargetCondition:
    """Turn names and categories into codes and values.

    Raises
    ------
    CategoryError
        If a covariate or a category is unknown. The message names the nearest known one.
    """
    covariates = {name: schema[name] for name in options}
    return TargetCondition(
        {name: c.code(options[name]) for name, c in covariates.items() if isinstance(c, Categorical)},
        {name: c.value(options[name]) for name, c in covariates.items() if not isinstance(c, Categorical)},
    )


def all_combinations(options: Mapping[str, object | Sequence[object]]) -> Iterator[dict[str, object]]:
    """Yield every combination of values, where each covariate has one value or a list of values.

    >>> list(all_combinations({"type": ["A", "B"], "drug": "x"}))
    [{'type': 'A', 'drug': 'x'}, {'type': 'B', 'drug': 'x'}]
    """
    choices = [[v] if isinstance(v, str) or not isinstance(v, Sequence) else list(v) for v in options.values()]
    for combination in itertools.product(*choices):
        yield dict(zip(options, combination, strict=True))
