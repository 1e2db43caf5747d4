"""Target conditions: names and categories, as a user writes them, turned into the codes and values of a model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genevae.cells import Condition
from genevae.data.nesting import Nesting
from genevae.data.schema import Categorical, Schema
from genevae.errors import CategoryError, nearest, shorten, warn

__all__ = ["TargetCondition", "all_combinations", "assigned", "parse_condition"]


GOLDEN = 0.6180339887498949
"""Multiples of the golden ratio, without their whole parts, are spread evenly: a choice without random numbers."""


@dataclass(frozen=True)
class TargetCondition:
    """The covariates to set, and their values. All other covariates keep the value of each cell.

    A field that is nested in one that is set, such as the experiment in the perturbation, cannot keep its category: no
    training cell had an experiment of the control with another perturbation, and a model that is given this combination
    predicts too small an effect. Each cell then has one of the categories that training cells of the target had, all
    about equally often, if possible one that fits its other covariates.

    Parameters
    ----------
    codes
        Codes of categorical covariates.
    values
        Standardised values of continuous covariates.
    nested
        Which fields are nested in which.
    """

    codes: Mapping[str, int]
    values: Mapping[str, float]
    nested: tuple[Nesting, ...] = ()

    @property
    def reassigned(self) -> tuple[str, ...]:
        """The nested fields that take categories which occur with the target."""
        inner = {nesting.inner for nesting in self.nested if nesting.outer in self.codes} - set(self.codes)
        return tuple(sorted(inner))

    def apply(self, condition: Condition) -> Condition:
        """Set these covariates in every cell of a condition."""
        target = condition.replace(
            {name: torch.full_like(condition.codes[name], code) for name, code in self.codes.items()},
            {name: torch.full_like(condition.values[name], value) for name, value in self.values.items()},
        )
        codes = {name: self._nested_code_n(name, target) for name in self.reassigned}
        return target.replace(codes, {}) if codes else target

    def _nested_code_n(self, name: str, target: Condition) -> Tensor:
        """Return for each cell a category of a nested field that occurs with its target."""
        before_n, n_categories = (
            target.codes[name],
            max(len(each.outer_c) for each in self.nested if each.inner == name),
        )
        with_set_nc, with_all_nc = torch.ones(2, len(before_n), n_categories, dtype=torch.bool, device=before_n.device)
        for each in self.nested:
            if each.inner == name:
                outer_c = torch.tensor(each.outer_c, device=before_n.device)
                occurs_nc = outer_c == target.codes[each.outer].unsqueeze(-1)
                with_all_nc = with_all_nc & occurs_nc
                with_set_nc = with_set_nc & occurs_nc if each.outer in self.codes else with_set_nc
        valid_nc = torch.where(with_all_nc.any(-1, keepdim=True), with_all_nc, with_set_nc)
        n_valid_n = valid_nc.sum(-1)
        spread_n = (
            (target.size_n1.squeeze(-1).double() + torch.arange(len(before_n), device=before_n.device)) * GOLDEN % 1
        )
        number_n = (spread_n * n_valid_n).long()
        chosen_n = ((valid_nc.cumsum(-1) > number_n.unsqueeze(-1)) & valid_nc).int().argmax(-1)
        before_nc = torch.nn.functional.one_hot(before_n.clamp(max=n_categories - 1), n_categories).bool()
        keeps_n = ((before_nc & valid_nc).any(-1) & (before_n < n_categories)) | (n_valid_n == 0)
        return torch.where(keeps_n, before_n, chosen_n)


def parse_condition(schema: Schema, options: Mapping[str, object]) -> TargetCondition:
    """Turn names and categories into codes and values.

    Raises
    ------
    CategoryError
        If a covariate or a category is unknown. The message names the nearest known one.
    """
    covariates = {name: schema[name] for name in options}
    codes = {name: c.code(options[name]) for name, c in covariates.items() if isinstance(c, Categorical)}
    for nesting in schema.nested:
        inner, outer = (codes.get(name, -1) for name in (nesting.inner, nesting.outer))
        if -1 < inner < len(nesting.outer_c) and outer > -1 and nesting.outer_c[inner] not in (-1, outer):
            warn(
                f"No training cell has '{nesting.outer}' = '{options[nesting.outer]}' and '{nesting.inner}' = "
                f"'{options[nesting.inner]}': each category of '{nesting.inner}' has one of '{nesting.outer}'. The "
                "result is an extrapolation."
            )
    return TargetCondition(
        codes,
        {name: c.value(options[name]) for name, c in covariates.items() if not isinstance(c, Categorical)},
        schema.nested,
    )


def assigned(schema: Schema, condition: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return values by field, also where the user gave a text: "FIELD=VALUE", or a value that one field has.

    Raises
    ------
    CategoryError
        If the text names no field, and no field, or several, have the value.
    """
    if not isinstance(condition, str):
        return dict(condition)
    name, equals, value = condition.partition("=")
    if equals and name in schema.fields:
        return {name: value}
    fields = [each for each in schema.categorical if not each.technical]
    having = [each.name for each in fields if condition in each.labels] or [each.name for each in fields]
    if len(having) != 1:
        labels = [label for each in fields for label in each.labels]
        raise CategoryError(
            f"'{condition}' does not say which field is set. Give FIELD=VALUE (in Python: {{FIELD: VALUE}}). Fields: "
            f"{shorten(having)}. Of their categories: {nearest(condition, labels)}"
        )
    return {having[0]: condition}


def all_combinations(options: Mapping[str, object | Sequence[object]]) -> Iterator[dict[str, object]]:
    """Yield every combination of values, where each covariate has one value or a list of values.

    >>> list(all_combinations({"type": ["A", "B"], "drug": "x"}))
    [{'type': 'A', 'drug': 'x'}, {'type': 'B', 'drug': 'x'}]
    """
    choices = [[v] if isinstance(v, str) or not isinstance(v, Sequence) else list(v) for v in options.values()]
    for combination in itertools.product(*choices):
        yield dict(zip(options, combination, strict=True))
