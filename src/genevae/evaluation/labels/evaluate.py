"""How well a model tells the label of a cell, and whether it knows when it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from genevae.data.covariates import UNKNOWN
from genevae.evaluation.cell_selection import Chosen, chosen, lacks, sample, usable_n
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.labels.classifiers import Labels, Told, confusion_of, scores_of, tell, unknown_scores
from genevae.metrics.bootstrap import paired
from genevae.metrics.labels import accuracy, reliability, risk_coverage
from genevae.report.records import Chart, Heat, Lines, Score, Section, Tone, Verdict
from genevae.runs.trained import Trained

__all__ = ["evaluate", "unavailable_reason"]

MAX_EVALUATION = 1000
MAX_TRAINING = 4000
MAX_UNSEEN = 500
MAX_LABELS = 50
MAX_FIELDS = 3
MIN_CELLS = 20


def unavailable_reason(context: EvaluationContext) -> str | None:
    """Say what is lacking, where the question cannot be asked."""
    if reason := lacks(context):
        return reason
    if not _fields(context):
        return (
            f"No run is conditioned on a field with 2 to {MAX_LABELS} categories, neither a batch nor a perturbation, "
            f"of which training cells and {MIN_CELLS} cells to judge by are labelled."
        )
    return None


def evaluate(context: EvaluationContext) -> Section:
    """Tell each label from expression and the other conditions, beside classifiers that were made for it."""
    verdicts: list[Verdict] = []
    scores: list[Score] = []
    charts: list[Chart] = []
    notes: list[str] = []
    for field in _fields(context):
        cells = chosen(context, usable_n(context) & _labelled_n(context, field), MAX_EVALUATION, MAX_TRAINING)
        notes += [note for note in cells.notes if note not in notes]
        labels = tell(context, field, cells)
        scores += scores_of(labels, context.seed)
        scores += _unseen_scores(context, labels, cells)
        verdicts += [_verdict(labels, told, context.seed) for told in labels.runs]
        charts += _charts(labels)
    notes.append(
        "The label is hidden from the run and its other conditions are given. Classifiers beside it see principal "
        "components of the logarithms of normalised expression, of the same genes."
    )
    return Section(name="labels", title="Can it tell a cell's label?", verdicts=verdicts, scores=scores, charts=charts,
                   notes=notes)  # fmt: skip


def _unseen_scores(context: EvaluationContext, labels: Labels, cells: Chosen) -> list[Score]:
    """Score how unsure all are of cells whose label no run has seen, where there are such."""
    which = usable_n(context, besides=labels.field) & _strange_n(context, labels.field)
    if which.sum() < MIN_CELLS:
        return []
    unseen = context.cells[sample(which, MAX_UNSEEN, context.seed)]
    return unknown_scores(labels, tell(context, labels.field, replace(cells, judged=unseen)))


def _fields(context: EvaluationContext) -> list[str]:
    """Return the fields that a run can tell, and the data can judge; to no run a batch or a perturbation."""
    other = {
        field.name for run in context.runs.values() for field in run.schema.categorical
        if field.technical or field.control is not None or field.combined
    }  # fmt: skip
    found = dict.fromkeys(name for run in context.runs.values() for name in _told_by(run) if name not in other)
    usable = usable_n(context)
    return [
        name for name in found if name in context.cells.obs and (_labelled_n(context, name) & usable).sum() >= MIN_CELLS
    ][:MAX_FIELDS]


def _told_by(run: Trained) -> list[str]:
    return [name for name, calibration in run.calibration.items() if 2 <= len(calibration.code_c) <= MAX_LABELS]


def _labelled_n(context: EvaluationContext, field: str) -> NDArray[np.bool_]:
    """Say which cells have a label that every run with this field has seen in training."""
    words = context.cells.obs[field].astype(str)
    known = [words.isin(seen) for seen in _seen(context, field)]
    return np.asarray(np.all(known, axis=0) & context.cells.obs[field].notna())


def _strange_n(context: EvaluationContext, field: str) -> NDArray[np.bool_]:
    """Say which cells have a label that no run has seen in training."""
    words = context.cells.obs[field].astype(str)
    known = {UNKNOWN}.union(*_seen(context, field))
    return np.asarray(~words.isin(known) & context.cells.obs[field].notna())


def _seen(context: EvaluationContext, field: str) -> list[set[str]]:
    """Return the labels that each run with this field has seen in training."""
    runs = [run for run in context.runs.values() if field in _told_by(run)]
    return [{run.schema.categorical_field(field).categories[c] for c in run.calibration[field].code_c} for run in runs]


def _verdict(labels: Labels, run: Told, seed: int) -> Verdict:
    """Compare a run with the best of the classifiers beside it, cell by cell."""
    rival = max(labels.baselines, key=lambda told: accuracy(labels.true_n, told.label_n))
    right, other = (100.0 * (told.label_n == labels.true_n) for told in (run, rival))
    gap = paired(right, other, seed)
    outcome, tone = _outcome(gap.low, gap.high)
    return Verdict(
        f"{run.who} tells {labels.field} right in {right.mean():.1f} % of {len(right):,} cells; {rival.who}, the best "
        f"of the others, in {other.mean():.1f} %: {outcome} ({_points(gap.difference)} points; 95 % interval "
        f"{_points(gap.low)} to {_points(gap.high)}).",
        tone,
    )


def _points(difference: float) -> str:
    return f"{difference:+.1f}".replace("-", "−")


def _outcome(low: float, high: float) -> tuple[str, Tone]:
    return ("it wins", "good") if low > 0 else ("it loses", "bad") if high < 0 else ("a tie", "mixed")


def _charts(labels: Labels) -> list[Chart]:
    return [*(_confusion(labels, run) for run in labels.runs), _risk(labels), _reliability(labels)]


def _confusion(labels: Labels, run: Told) -> Heat:
    names, share = confusion_of(labels, run)
    return Heat(
        title=f"{labels.field}: what {run.who} tells", rows=names, columns=names, values=share,
        row_label="true label", column_label="label told",
        caption="Share of the cells of each true label (a row) that were told each label.",
    )  # fmt: skip


def _risk(labels: Labels) -> Lines:
    return Lines(
        title=f"{labels.field}: wrong labels among the surest cells",
        series={
            told.who: _thinned(*risk_coverage(told.label_n == labels.true_n, told.probability_n)) for told in labels.all
        },
        x_label="share of the cells that are labelled, the surest first",
        y_label="share of wrong labels among them",
        caption="Lower is better. A curve that rises to the right knows which cells it cannot tell.",
    )


def _reliability(labels: Labels) -> Lines:
    series = {}
    for told in labels.all:
        bins = reliability(told.label_n == labels.true_n, told.probability_n)
        series[told.who] = (bins.said.tolist(), bins.right.tolist())
    return Lines(
        title=f"{labels.field}: how often labels are right, by how probable they were said to be", series=series,
        x_label="probability", y_label="share that is right", diagonal=True,
        caption="On the diagonal, probabilities are what they say. Below it, a classifier is too sure.",
    )  # fmt: skip


def _thinned(
    x: NDArray[np.float64], y: NDArray[np.float64], n_most: int = 200
) -> tuple[Sequence[float], Sequence[float]]:
    """Take evenly spaced points, the first and last among them."""
    rows = np.unique(np.linspace(0, len(x) - 1, min(n_most, len(x))).astype(int))
    return x[rows].tolist(), y[rows].tolist()
