"""Whether a perturbation's effect is predicted, and better than can be guessed without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.evaluation.cell_selection import lacks
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.response.baselines import SAME_STATE, baseline_shifts
from genevae.evaluation.response.charts import charts_of
from genevae.evaluation.response.scores import Prediction, Truth
from genevae.evaluation.response.states import (
    MAX_CASES,
    MAX_CELLS,
    MIN_CELLS,
    Case,
    Perturbation,
    State,
    cases,
    perturbations,
    training_rows,
)  # fmt: skip
from genevae.evaluation.response.summary import Judged, scores_of, verdicts_of
from genevae.evaluation.scale import Expression, in_units_of, logged, units
from genevae.metrics.principal import Principal
from genevae.report.records import Section
from genevae.runs.trained import Trained
from genevae.tasks.counterfactual import counterfactual

__all__ = ["evaluate", "unavailable_reason"]

N_AXES = 50
MAX_SPACE = 1500
"""Cells that the axes are fitted to."""

Profile = NDArray[Any]


def unavailable_reason(context: EvaluationContext) -> str | None:
    """Say what is lacking, where the question cannot be asked."""
    asked = [(run, p) for run in context.runs.values() for p in perturbations(run, context)]
    if not asked:
        return "No run is conditioned on a field with a control level (name one when you train: --control FIELD=LEVEL)."
    if reason := lacks(context):
        return reason
    if not any(cases(run, context, p) for run, p in asked):
        return f"No perturbed state has {MIN_CELLS} cells to judge by and {MIN_CELLS} control cells of the same kind."
    return None


def evaluate(context: EvaluationContext) -> Section:
    """Ask every run what control cells would look like perturbed, and lay the answer beside the true cells."""
    fields = [_Field(context, name, p) for name, run in context.runs.items() for p in perturbations(run, context)]
    alike: dict[tuple[object, ...], list[_Field]] = {}
    for field in fields:
        alike.setdefault(field.key, []).append(field)
    judged = [one for group in alike.values() for one in _judged(group, several=len(alike) > 1)]
    return Section(
        name="response",
        title="Does it predict what a perturbation does?",
        verdicts=verdicts_of(judged),
        scores=scores_of(judged, context.seed),
        charts=charts_of(judged),
        notes=_notes(context, judged),
    )


@dataclass(frozen=True, eq=False)
class _Field:
    """One perturbation field of one run."""

    context: EvaluationContext
    name: str
    asked: Perturbation

    @property
    def run(self) -> Trained:
        """The model."""
        return self.context.runs[self.name]

    @property
    def key(self) -> tuple[object, ...]:
        """What fields must share to have the same baselines, judged by the same cells."""
        trained = (self.context.part_n(self.name) == "training").to_numpy()
        return (self.asked, *units(self.run), trained.tobytes())


def _judged(fields: Sequence[_Field], several: bool) -> Iterator[Judged]:
    """Judge fields of the same units: every state once, with the baselines, then every run."""
    first = fields[0]
    asked = cases(first.run, first.context, first.asked)
    if not asked:
        return
    states = training_rows(first.run, first.name, first.context, first.asked)
    view = _View(first, asked, states)
    suffix = f" ({first.name})" if several else ""
    for case in asked:
        truth, shifts = view.truth(case), view.baseline_shifts(case)
        told = {f.name: _predicted(f, case) for f in fields}
        baselines = {
            name + suffix: Prediction.moved(truth.control_ng, s) for name, s in shifts.items() if name != SAME_STATE
        }
        ceilings = {f"split halves{suffix}": truth.ceiling(first.context.seed)}
        if SAME_STATE in shifts:
            cells = view.cells(states[case.state])
            ceilings[SAME_STATE + suffix] = truth.scores(Prediction(cells, cells.mean(0)))
        yield Judged(case, first.asked, first.run.schema.genes, truth, told, baselines, ceilings)


class _View:
    """Cells in the units of a run, read once; and what is learned from its training cells."""

    def __init__(self, field: _Field, asked: Sequence[Case], states: dict[State, Any]) -> None:
        rows = [*states.values(), *(r for case in asked for r in (case.control_rows, case.true_rows))]
        self._rows = np.unique(np.concatenate(rows))
        context, run = field.context, field.run
        self._x_ng: Expression = logged(run, in_units_of(run, context.cells[self._rows]))
        self._control = field.asked.control
        self._profiles = {state: self.cells(rows).mean(0, dtype=np.float64) for state, rows in states.items()}
        learned = np.unique(np.concatenate([*states.values()] or [self._rows]))
        some = np.random.default_rng(context.seed).permutation(learned)[:MAX_SPACE]
        self._space = Principal.fit(self.cells(some), N_AXES)

    def cells(self, rows: Any) -> Expression:
        """Return some of the cells."""
        return np.asarray(self._x_ng[np.searchsorted(self._rows, rows)])

    def truth(self, case: Case) -> Truth:
        """Return what a state truly looks like."""
        context = case.state[0]
        near = [x for (c, level), x in self._profiles.items() if c == context and level != self._control]
        control_ng, x_ng = (self.cells(rows).astype(np.float64) for rows in (case.control_rows, case.true_rows))
        return Truth(control_ng, x_ng, np.mean(near, axis=0) if len(near) > 1 else None, self._space)

    def baseline_shifts(self, case: Case) -> dict[str, Profile]:
        """Return the shifts that the baselines predict."""
        reference_g = self.cells(case.control_rows).mean(0, dtype=np.float64)
        return baseline_shifts(self._profiles, self._control, case.state, reference_g)


def _predicted(field: _Field, case: Case) -> Prediction:
    """Ask a run for its control cells, moved: their own noise stays, as it does where baselines add a shift."""
    context, run = field.context, field.run
    start = context.cells[case.control_rows]
    told = counterfactual(run, start, condition={field.asked.field: case.state[1]}, n_draws=1, seed=context.seed)
    x_ng = logged(run, told.layers["moved"]).astype(np.float64)
    return Prediction(x_ng, x_ng.mean(0))


def _notes(context: EvaluationContext, judged: Sequence[Judged]) -> list[str]:
    """Say what the numbers rest on."""
    start = (
        "Control cells that were not trained on are asked for each perturbed state, where there are "
        f"{MIN_CELLS} of their kind, and any control cells otherwise: they are not the answer. Every cell keeps its "
        "own noise (the layer moved of a counterfactual)."
    )
    answers = "A held-out answer is a state of which no cell was trained on; of a seen combination other cells were."
    profiles = (
        "Profiles are means over cells of log-normalised expression; a shift is a profile less that of the control "
        f"cells. Distances are in {N_AXES} principal components of the training cells."
    )
    ceiling = (
        "Baselines know the training cells only. The ceiling is what one half of the true cells tells of the other: "
        "the correlation is that of as many cells as there are, and the other scores are of half as many, so that a "
        "good model may pass them."
    )
    drawn = (
        f"At most {MAX_CELLS} cells of a state and {MAX_CASES} states, drawn with seed {context.seed}; {len(judged)} "
        "were asked for. Means, and their intervals, are over the states that a baseline can be asked for."
    )
    return [context.evaluation_note, start, answers, profiles, ceiling, drawn]
