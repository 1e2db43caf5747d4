"""What a user asks for, in words, as the codes and values that a model understands."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from genevae.cells import Condition
from genevae.data.schema import Categorical, Schema

__all__ = ["Asked", "every_combination", "parse_condition"]


@dataclass(frozen=True)
class Asked:
    """The fields that were set, and to what.

    Parameters
    ----------
    codes
        Of categorical fields.
    values
        Of continuous fields, standardised.
    """

    codes: Mapping[str, int]
    values: Mapping[str, float]

    def put(self, condition: Condition) -> Condition:
        """Set the fields in every cell of a condition."""
        return condition.replace(
            {name: torch.full_like(condition.codes[name], code) for name, code in self.codes.items()},
            {name: torch.full_like(condition.values[name], value) for name, value in self.values.items()},
        )


def parse_condition(schema: Schema, words: Mapping[str, object]) -> Asked:
    """Turn names and categories into codes and values.

    Raises
    ------
    CategoryError
        If a field or a category is unknown, with the nearest.
    """
    fields = {name: schema[name] for name in words}
    return Asked(
        {name: field.code(words[name]) for name, field in fields.items() if isinstance(field, Categorical)},
        {name: field.value(words[name]) for name, field in fields.items() if not isinstance(field, Categorical)},
    )


def every_combination(words: Mapping[str, object | Sequence[object]]) -> Iterator[dict[str, object]]:
    """Yield every combination of the values that some fields were given.

    >>> list(every_combination({"type": ["A", "B"], "drug": "x"}))
    [{'type': 'A', 'drug': 'x'}, {'type': 'B', 'drug': 'x'}]
    """
    choices = [[v] if isinstance(v, str) or not isinstance(v, Sequence) else list(v) for v in words.values()]
    for combination in itertools.product(*choices):
        yield dict(zip(words, combination, strict=True))
