"""What the page knows from Python: groups of cells, the answers for them with intervals, and their support."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.data.loader import Loader
from genevae.data.schema import Categorical, Schema
from genevae.data.states import dose_text
from genevae.progress import progress
from genevae.responses.answer import Responses
from genevae.tasks.condition import TargetCondition
from genevae.tasks.inference import TrainedModel, evaluation_mode, seeded
from genevae.tasks.response import Group, GroupAnswer, answer_of, groups_of
from genevae.tasks.support import support_of

__all__ = ["AnswerTable", "Support", "answer_tables", "support_table"]

MAX_COMBINATIONS = 256
"""Combinations of categories whose support is computed, at most: those of training cells first."""
SUPPORT_CELLS = 50
"""Cells of a group that its support is averaged over, at most."""


@dataclass(frozen=True, eq=False)
class AnswerTable:
    """The answers for all groups of cells when some fields are set.

    Parameters
    ----------
    fields
        The fields that are set.
    groups
        Cells with the same context and the same categories in these fields.
    targets
        The values that are set.
    answers
        For pairs of a group and a target, by their numbers: the answer. Pairs that are absent were left out.
    n_left_out
        How many these are.
    """

    fields: tuple[str, ...]
    groups: tuple[Group, ...]
    targets: tuple[Mapping[str, Any], ...]
    answers: Mapping[tuple[int, int], GroupAnswer]
    n_left_out: int

    @cached_property
    def names(self) -> list[str]:
        """The name of each group, such as "B (ctrl)"."""
        return [f"{one.context} ({one.source})" if one.context else one.source for one in self.groups]

    def group_of(self, row_n: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the group of cells of the data, by their rows."""
        found_n = np.zeros(1 + max(int(group.row_n.max()) for group in self.groups), dtype=np.int64)
        for number, group in enumerate(self.groups):
            found_n[group.row_n] = number
        return np.asarray(found_n[row_n])


def answer_tables(model: TrainedModel, cells: Loader, interval: float, seed: int, most: int) -> list[AnswerTable]:
    """Return the answers that ``counterfactual`` gives for these cells, for every value of every field it may set.

    Parameters
    ----------
    model
        The model; without profiles of its training cells there is no answer.
    cells
        The cells.
    interval
        Share of the intervals that hold the shift.
    seed
        As for ``counterfactual``.
    most
        Answers at most; those of the smallest groups are left out.
    """
    if model.responses is None:
        return []
    tables = []
    several = _settable(model.responses, model.schema)
    for fields in several:
        groups = groups_of(cells, model.responses.profiles.contexts(fields), fields)
        targets = _targets(model.responses, model.schema, fields)
        tables.append(_answers(model, cells, fields, groups, targets, interval, seed, most // len(several)))
    return tables


def _settable(responses: Responses, schema: Schema) -> list[tuple[str, ...]]:
    """Return the fields that are set at once: a drug and its dose, or one field with a control; or one of any."""
    known = [name for name in responses.profiles.fields if name in schema.fields]
    categorical = [name for name in known if isinstance(schema[name], Categorical)]
    controlled = [name for name in categorical if name in responses.control] or categorical
    doses = tuple(name for name in known if name in responses.control and name not in categorical)
    return [tuple(f for f in responses.profiles.fields if f == name or f in doses) for name in controlled]


def _targets(responses: Responses, schema: Schema, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Return the values of these fields that training cells had together, in the order of the model's categories."""
    at = [responses.profiles.fields.index(name) for name in fields]
    found = {tuple(key[i] for i in at) for key in responses.profiles.keys}

    def place(values: tuple[str, ...]) -> tuple[float, ...]:
        pairs = zip(fields, values, strict=True)
        return tuple(
            float(c.code(value)) if isinstance(c := schema[name], Categorical) else float(value)
            for name, value in pairs
        )

    return [dict(zip(fields, values, strict=True)) for values in sorted(found, key=place)]


def _answers(
    model: TrainedModel, cells: Loader, fields: tuple[str, ...], groups: Sequence[Group],
    targets: Sequence[dict[str, Any]], interval: float, seed: int, most: int,
) -> AnswerTable:  # fmt: skip
    wanted = [
        (g, t)
        for g, t in itertools.product(range(len(groups)), range(len(targets)))
        if groups[g].source != ", ".join(targets[t].values())
    ]
    wanted.sort(key=lambda pair: (-len(groups[pair[0]].row_n), pair))
    kept = sorted(wanted[:most], key=lambda pair: (pair[1], pair[0]))
    answers = {}
    with evaluation_mode(model) as module, progress("answers", len(kept), after=2.0) as advance:
        for t, pairs in itertools.groupby(kept, key=lambda pair: pair[1]):
            with seeded(module, seed):
                for g, _ in pairs:
                    answers[g, t] = answer_of(
                        model, module, cells, groups[g], targets[t], "auto", interval, len(groups)
                    )
                    advance(1)
    return AnswerTable(fields, tuple(groups), tuple(targets), answers, len(wanted) - len(kept))


@dataclass(frozen=True, eq=False)
class Support:
    """The mean support of the cells of each group in combinations of categories.

    Parameters
    ----------
    fields
        The categorical fields.
    combinations
        The code of each field, for each combination.
    seen_m
        Whether training cells had each combination.
    share_cm
        Support, groups × combinations, from 0 to 1.
    """

    fields: tuple[str, ...]
    combinations: tuple[tuple[int, ...], ...]
    seen_m: NDArray[np.bool_]
    share_cm: NDArray[np.float64]


def support_table(model: TrainedModel, z_nk: Tensor, group_n: NDArray[np.int64], n_groups: int) -> Support:
    """Compute the support of groups in every combination, or in as many as there is time for.

    Parameters
    ----------
    model
        The model.
    z_nk, group_n
        The latent and the group of some cells.
    n_groups
        How many groups there are.
    """
    names = tuple(model.schema.n_categories)
    combinations = list(itertools.islice(_combinations(model, names), MAX_COMBINATIONS))
    rows = np.concatenate([np.flatnonzero(group_n == g)[:SUPPORT_CELLS] for g in range(n_groups)])
    of_n, z_mk = group_n[rows], z_nk[torch.from_numpy(rows)]
    n_g = np.maximum(np.bincount(of_n, minlength=n_groups), 1)
    share_cm, seen_m = np.zeros((n_groups, len(combinations))), np.zeros(len(combinations), dtype=bool)
    empty = TargetCondition({}, {})
    for m, codes in enumerate(combinations):
        found = support_of(model.reference, empty, dict(zip(names, codes, strict=True)), z_nk.device)
        seen_m[m] = found.agreement == 1
        score_n = found.score_n(z_mk).double().numpy()
        share_cm[:, m] = np.bincount(of_n, score_n, minlength=n_groups) / n_g
    return Support(names, tuple(combinations), seen_m, share_cm)


def _combinations(model: TrainedModel, names: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Yield combinations of codes: those of training cells, from the commonest, and then all others."""
    counts = pd.DataFrame({name: model.reference.condition.codes[name].numpy() for name in names})
    known = counts[(counts < pd.Series(model.schema.n_categories)).all(axis=1)] if names else counts
    seen = [tuple(int(c) for c in key) for key in known.value_counts().index] if len(known) and names else []
    yield from seen
    first = set(seen)
    every = itertools.product(*(range(n) for n in model.schema.n_categories.values()))
    yield from (codes for codes in every if codes not in first)


def dose_levels(column: pd.Series[Any]) -> list[float]:
    """Return the numbers that a column has, ascending and each once."""
    return sorted({float(dose_text(float(value))) for value in column.dropna()})
