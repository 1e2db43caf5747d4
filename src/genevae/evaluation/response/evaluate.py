"""Whether a perturbation's effect is predicted, and better than by simple baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.evaluation.cell_selection import missing_requirement
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.model import EvaluatedModel
from genevae.evaluation.response.charts import charts_of
from genevae.evaluation.response.null import null_scores
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
from genevae.evaluation.response.summary import StateResult, scores_of, verdicts_of
from genevae.evaluation.scale import Expression, in_units_of, logged, units
from genevae.metrics.principal import Principal
from genevae.report.records import Score, Section
from genevae.responses.members import members

__all__ = ["evaluate", "unavailable_reason"]

SAME_STATE = "training cells of the same state"
N_AXES = 50
MAX_SPACE = 1500
"""Cells that the axes are fitted to."""

Profile = NDArray[Any]


def unavailable_reason(context: EvaluationContext) -> str | None:
    """Return why this section cannot be computed; None where it can."""
    fields = _fields(context)
    if not fields:
        return (
            "No model that has counterfactuals is conditioned on a field with a control level (name one when you "
            "train: --control FIELD=LEVEL)."
        )
    if reason := missing_requirement(context):
        return reason
    if not any(cases(f.model, f.name, context, f.perturbation) for f in fields):
        return f"No perturbed state has {MIN_CELLS} evaluation cells and {MIN_CELLS} control cells of the same context."
    return None


def evaluate(context: EvaluationContext) -> Section:
    """Predict perturbed cells from control cells by every model, and compare them with the true cells."""
    alike: dict[tuple[object, ...], list[_Field]] = {}
    for field in _fields(context):
        alike.setdefault(field.key, []).append(field)
    results = [one for group in alike.values() for one in _results(group, several=len(alike) > 1)]
    return Section(
        name="response",
        title="Does it predict what a perturbation does?",
        verdicts=verdicts_of(results),
        scores=[*scores_of(results, context.seed), *_null(results, context.seed)],
        charts=charts_of(results),
        notes=[*_notes(context, results), *context.lacking("counterfactual")],
    )


@dataclass(frozen=True, eq=False)
class _Field:
    """One perturbation field of one model."""

    context: EvaluationContext
    name: str
    model: EvaluatedModel
    perturbation: Perturbation

    @property
    def key(self) -> tuple[object, ...]:
        """What fields must share to have the same baselines and evaluation cells."""
        trained = (self.context.part_n(self.name) == "training").to_numpy()
        return (self.perturbation, *units(self.model), trained.tobytes())

    def predicted(self, case: Case) -> Prediction:
        """Return the control cells of a case in the other condition: their noise stays, as it does in baselines."""
        if self.model.counterfactual is None:
            raise ValueError(f"{self.name} has no counterfactual")
        start = self.context.cells[case.control_rows]
        condition = {self.perturbation.field: case.state[1]}
        if self.model.answer is None:
            cells, interval = self.model.counterfactual(start, condition, self.context.seed), None
        else:
            cells, interval = self.model.answer(start, condition, self.context.seed)
        x_ng = logged(self.model, cells).astype(np.float64)
        return Prediction(x_ng, x_ng.mean(0), interval)


def _fields(context: EvaluationContext) -> list[_Field]:
    models = context.having("counterfactual")
    return [_Field(context, name, model, p) for name, model in models.items() for p in perturbations(model, context)]


def _results(fields: Sequence[_Field], several: bool) -> Iterator[StateResult]:
    """Evaluate fields of the same units: every state once, with the baselines, then every model."""
    first = fields[0]
    wanted = cases(first.model, first.name, first.context, first.perturbation)
    if not wanted:
        return
    states = training_rows(first.model, first.name, first.context, first.perturbation)
    view = _View(first, wanted, states)
    suffix = f" ({first.name})" if several else ""
    for case in wanted:
        truth, shifts = view.truth(case), view.baseline_shifts(case)
        predictions = {f.name: f.predicted(case) for f in fields}
        baselines = {
            name + suffix: Prediction.shifted(truth.control_ng, s) for name, s in shifts.items() if name != SAME_STATE
        }
        ceilings = {f"split halves{suffix}": truth.ceiling(first.context.seed)}
        if SAME_STATE in shifts:
            cells = view.cells(states[case.state])
            ceilings[SAME_STATE + suffix] = truth.scores(Prediction(cells, cells.mean(0)))
        genes = first.model.schema.genes
        yield StateResult(case, first.perturbation, genes, truth, predictions, baselines, ceilings)


class _View:
    """Cells in the units of a model, read once; and what is fitted to its training cells."""

    def __init__(self, field: _Field, wanted: Sequence[Case], states: dict[State, Any]) -> None:
        rows = [*states.values(), *(r for case in wanted for r in (case.control_rows, case.true_rows))]
        self._rows = np.unique(np.concatenate(rows))
        context, model = field.context, field.model
        self._x_ng: Expression = logged(model, in_units_of(model, context.cells[self._rows]))
        self._control = field.perturbation.control
        self._profiles = {state: self.cells(rows).mean(0, dtype=np.float64) for state, rows in states.items()}
        if model.training_profiles is not None:  # of all training cells, of which these are a sample
            p = field.perturbation
            kept = model.training_profiles(p.field, p.context)
            self._profiles |= {state: kept[state] for state in states if state in kept}
        fitted = np.unique(np.concatenate([*states.values()] or [self._rows]))
        some = np.random.default_rng(context.seed).permutation(fitted)[:MAX_SPACE]
        self._space = Principal.fit(self.cells(some), N_AXES)

    def cells(self, rows: Any) -> Expression:
        """Return some of the cells."""
        return np.asarray(self._x_ng[np.searchsorted(self._rows, rows)])

    def truth(self, case: Case) -> Truth:
        """Return the true cells of a state."""
        context = case.state[0]
        near = [x for (c, level), x in self._profiles.items() if c == context and level != self._control]
        control_ng, x_ng = (self.cells(rows).astype(np.float64) for rows in (case.control_rows, case.true_rows))
        return Truth(control_ng, x_ng, np.mean(near, axis=0) if len(near) > 1 else None, self._space)

    def baseline_shifts(self, case: Case) -> dict[str, Profile]:
        """Return the shifts that the baselines predict."""
        reference_g = self.cells(case.control_rows).mean(0, dtype=np.float64)
        found = members(self._profiles, self._control, case.state, reference_g)
        same = self._profiles.get(case.state)
        return found if same is None else {**found, SAME_STATE: same - reference_g}


def _notes(context: EvaluationContext, results: Sequence[StateResult]) -> list[str]:
    """Say how the numbers were computed."""
    start = (
        f"Each prediction starts from control cells that were not trained on, where there are {MIN_CELLS} of their "
        "context, and from any control cells otherwise. Every gene of a cell keeps the rank that it had "
        "(quantile-mapped counterfactual)."
    )
    answers = "No cell of a held-out state was trained on; of a seen combination, other cells were."
    profiles = (
        "Profiles are means over cells of log-normalised expression; a shift is a profile less that of the control "
        f"cells. Distances are in {N_AXES} principal components of the training cells."
    )
    ceiling = (
        "Baselines use the training cells alone: all of those that the run keeps the profiles of. The ceiling is how "
        "well one half of the true cells predicts the other: the correlation is corrected to the full number of cells, "
        "and the other scores are of half of them, so a good model may exceed these."
    )
    sampled = (
        f"At most {MAX_CELLS} cells of a state and {MAX_CASES} states, sampled with seed {context.seed}; "
        f"{len(results)} were predicted. Means, and their intervals, are over the states that a baseline can predict."
    )
    members = [f"Members of the answers of {name}: {text}." for name, text in _members(results).items()]
    return [context.evaluation_note, start, answers, *members, profiles, ceiling, sampled]


def _null(results: Sequence[StateResult], seed: int) -> Iterator[Score]:
    """Yield the null test on the control cells of the state that has most of them."""
    if results:
        yield from null_scores(max(results, key=lambda one: len(one.truth.control_ng)).truth.control_ng, seed)


def _members(results: Sequence[StateResult]) -> dict[str, str]:
    """Say for each model what its answers for states that it never saw are made of, on average."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for one in results:
        for name, predicted in one.predictions.items():
            if predicted.interval is not None and one.case.held_out:
                found.setdefault(name, []).append(predicted.interval.members)
    means = {
        name: {member: float(np.mean([w.get(member, 0.0) for w in each])) for w0 in each for member in w0}
        for name, each in found.items()
    }
    return {
        name: ", ".join(f"{member} {weight:.0%}" for member, weight in sorted(each.items(), key=lambda w: -w[1])[:6])
        for name, each in means.items()
    }
