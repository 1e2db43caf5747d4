"""Which perturbed states of which cells can be asked for, and which cells tell the answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.errors import CategoryError
from genevae.evaluation.cell_selection import known_n, sample
from genevae.evaluation.context import EvaluationContext
from genevae.runs.trained import Trained

__all__ = ["MAX_CELLS", "MIN_CELLS", "Case", "Perturbation", "cases", "perturbations", "training_rows"]

MIN_CELLS = 20
"""Cells of a state at least, so that its profile is not all noise."""
MAX_CELLS = 500
"""Cells of a state at most: more change its profile little."""
MAX_CASES = 30
"""States that are asked for at most."""

RowNumbers = NDArray[np.int64]
State = tuple[str, str]
"""A context, such as a cell type, empty where there is none; and a level of the perturbation."""


@dataclass(frozen=True)
class Perturbation:
    """A field with a control level, and the field that tells in which kind of cell.

    Parameters
    ----------
    field, control
        The obs column, and its reference level.
    context
        Another categorical condition of the run; empty where there is none.
    """

    field: str
    control: str
    context: str = ""


@dataclass(frozen=True, eq=False)
class Case:
    """One perturbed state: the cells to start from, and those that tell the answer.

    Parameters
    ----------
    state
        What is asked for.
    name
        The same in words.
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


def perturbations(run: Trained, context: EvaluationContext) -> Iterator[Perturbation]:
    """Yield every field of a run that has a control level."""
    for field in run.schema.categorical:
        if field.control is not None and field.name in context.cells.obs:
            others = (c.name for c in run.schema.categorical if c is not field and not c.technical)
            context = next((name for name in others if name in context.cells.obs), "")
            yield Perturbation(field.name, field.control, context)


def cases(run: Trained, context: EvaluationContext, asked: Perturbation) -> list[Case]:
    """Return the states with 20 judged cells, and as many control cells of the same context.

    Control cells are judged ones too where there are enough of them; otherwise any, since they are not the answer.
    """
    state_n, usable_n, evaluation_n = _states(context, asked), known_n(run.schema, context.cells.obs), context.evaluation_n
    found = []
    for state in sorted(set(state_n[usable_n & evaluation_n])):
        control_n = usable_n & _is(state_n, (state[0], asked.control))
        fair_n = control_n & evaluation_n
        control_n = fair_n if fair_n.sum() >= MIN_CELLS else control_n
        true_n = usable_n & evaluation_n & _is(state_n, state)
        codes = _codes(run, asked, state)
        if codes and state[1] != asked.control and min(true_n.sum(), control_n.sum()) >= MIN_CELLS:
            rows = (sample(here, MAX_CELLS, context.seed) for here in (control_n, true_n))
            found.append(Case(state, _words(state), not _was_trained_on(run, codes), *rows))
    return _shortly([found[i] for i in sample(np.ones(len(found), dtype=bool), MAX_CASES, context.seed)])


def _codes(run: Trained, asked: Perturbation, state: State) -> dict[str, int]:
    """Return the codes of a state; none where its context or level is missing or unknown to the run."""
    named = {name: value for name, value in zip((asked.context, asked.field), state, strict=True) if name}
    try:
        codes = {name: run.schema.categorical_field(name).code(value) for name, value in named.items()}
    except CategoryError:
        return {}
    return {} if any(code == run.schema.n_categories[name] for name, code in codes.items()) else codes


def _was_trained_on(run: Trained, codes: dict[str, int]) -> bool:
    """Say whether the run remembers a training cell of a state, be it among the context's cells or not."""
    return bool((run.reference.agreement_n(codes) == len(codes)).any())


def training_rows(run: Trained, name: str, context: EvaluationContext, asked: Perturbation) -> dict[State, RowNumbers]:
    """Return the training cells of every state that has 20 of them: all that a baseline may know."""
    usable_n = known_n(run.schema, context.cells.obs) & (context.part_n(name) == "training").to_numpy()
    state_n = _states(context, asked)
    members = {state: usable_n & _is(state_n, state) for state in sorted(set(state_n[usable_n]))}
    return {state: sample(here, MAX_CELLS, context.seed) for state, here in members.items() if here.sum() >= MIN_CELLS}


def _states(context: EvaluationContext, asked: Perturbation) -> NDArray[Any]:
    obs = context.cells.obs
    context_n = obs[asked.context].astype(str) if asked.context else [""] * len(obs)
    states = np.empty(len(obs), dtype=object)
    states[:] = list(zip(context_n, obs[asked.field].astype(str), strict=True))
    return states


def _is(state_n: NDArray[Any], state: State) -> NDArray[np.bool_]:
    return np.fromiter((each == state for each in state_n), dtype=bool, count=len(state_n))


def _words(state: State) -> str:
    return f"{state[0]}, {state[1]}" if state[0] else state[1]


def _shortly(found: list[Case]) -> list[Case]:
    """Leave the level out of the names where there is but one."""
    if len({case.state[1] for case in found}) > 1 or not all(case.state[0] for case in found):
        return found
    return [Case(c.state, c.state[0], c.held_out, c.control_rows, c.true_rows) for c in found]
