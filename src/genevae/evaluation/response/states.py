"""Which perturbed states can be predicted, and which cells are their truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.errors import CategoryError
from genevae.evaluation.cell_selection import known_n
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.model import EvaluatedModel
from genevae.metrics.sampling import subsample

__all__ = ["MAX_CELLS", "MIN_CELLS", "Case", "Perturbation", "cases", "perturbations", "training_rows"]

MIN_CELLS = 20
"""Cells of a state at least, so that its profile is not all noise."""
MAX_CELLS = 500
"""Cells of a state at most: more change its profile little."""
MAX_CASES = 30
"""States at most."""

RowNumbers = NDArray[np.int64]
State = tuple[str, str]
"""A context, such as a cell type, empty where there is none; and a level of the perturbation."""


@dataclass(frozen=True)
class Perturbation:
    """A field with a control level, and the field of its contexts, such as the cell type.

    Parameters
    ----------
    field, control
        The obs column, and its reference level.
    context
        Another categorical condition of the model, or a field of the data that says what cells are; empty without one.
    """

    field: str
    control: str
    context: str = ""


@dataclass(frozen=True, eq=False)
class Case:
    """One perturbed state: the cells to start from, and the true cells.

    Parameters
    ----------
    state
        The context and the level.
    name
        The same as text.
    held_out
        Whether no cell of that state was trained on.
    control_rows, true_rows
        Rows of the context's cells.
    """

    state: State
    name: str
    held_out: bool
    control_rows: RowNumbers
    true_rows: RowNumbers


def perturbations(model: EvaluatedModel, context: EvaluationContext) -> Iterator[Perturbation]:
    """Yield every field of a model that has a control level."""
    for field in model.schema.categorical:
        if field.control is not None and field.name in context.cells.obs:
            others = (c.name for c in model.schema.categorical if c is not field and not c.technical)
            of = next((name for name in others if name in context.cells.obs), context.label_field)
            yield Perturbation(field.name, field.control, of)


def cases(model: EvaluatedModel, name: str, context: EvaluationContext, perturbation: Perturbation) -> list[Case]:
    """Return the states with 20 evaluation cells, and as many control cells of the same context.

    Control cells are evaluation cells too where there are enough of them; otherwise any, since they are not the answer.
    """
    state_n, usable_n = _states(context, perturbation), known_n(model, context.cells.obs)
    if perturbation.context:
        usable_n &= context.cells.obs[perturbation.context].notna().to_numpy()
    evaluation_n, trained_n = context.evaluation_n, (context.part_n(name) == "training").to_numpy()
    found = []
    for state in sorted(set(state_n[usable_n & evaluation_n])):
        control_n = usable_n & _is(state_n, (state[0], perturbation.control))
        fair_n = control_n & evaluation_n
        control_n = fair_n if fair_n.sum() >= MIN_CELLS else control_n
        true_n = usable_n & evaluation_n & _is(state_n, state)
        named = _named(model, perturbation, state)
        if named and state[1] != perturbation.control and min(true_n.sum(), control_n.sum()) >= MIN_CELLS:
            was_seen = bool((trained_n & _is(state_n, state)).any())
            if model.was_trained_on is not None and set(named) >= {perturbation.context or perturbation.field}:
                was_seen = model.was_trained_on(named)
            rows = (subsample(here, MAX_CELLS, context.seed) for here in (control_n, true_n))
            found.append(Case(state, ", ".join(filter(None, state)), not was_seen, *rows))
    return _without_level([found[i] for i in subsample(np.ones(len(found)), MAX_CASES, context.seed)])


def _named(model: EvaluatedModel, perturbation: Perturbation, state: State) -> dict[str, str]:
    """Return a state by field; nothing where its context or level is missing or unknown to the model."""
    both = zip((perturbation.context, perturbation.field), state, strict=True)
    named = {name: value for name, value in both if name in model.schema.fields}
    try:
        codes = {name: model.schema.categorical_field(name).code(value) for name, value in named.items()}
    except CategoryError:
        return {}
    return {} if any(code == model.schema.n_categories[name] for name, code in codes.items()) else named


def training_rows(
    model: EvaluatedModel, name: str, context: EvaluationContext, perturbation: Perturbation
) -> dict[State, RowNumbers]:
    """Return the training cells of every state that has 20 of them: all that a baseline may use."""
    usable_n = known_n(model, context.cells.obs) & (context.part_n(name) == "training").to_numpy()
    state_n = _states(context, perturbation)
    members = {state: usable_n & _is(state_n, state) for state in sorted(set(state_n[usable_n]))}
    return {
        state: subsample(here, MAX_CELLS, context.seed) for state, here in members.items() if here.sum() >= MIN_CELLS
    }


def _states(context: EvaluationContext, perturbation: Perturbation) -> NDArray[Any]:
    obs = context.cells.obs
    context_n = obs[perturbation.context].astype(str) if perturbation.context else [""] * len(obs)
    states = np.empty(len(obs), dtype=object)
    states[:] = list(zip(context_n, obs[perturbation.field].astype(str), strict=True))
    return states


def _is(state_n: NDArray[Any], state: State) -> NDArray[np.bool_]:
    return np.fromiter((each == state for each in state_n), dtype=bool, count=len(state_n))


def _without_level(found: list[Case]) -> list[Case]:
    """Leave the level out of the names where there is only one."""
    if len({case.state[1] for case in found}) > 1 or not all(case.state[0] for case in found):
        return found
    return [replace(case, name=case.state[0]) for case in found]
