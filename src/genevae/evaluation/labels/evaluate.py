"""How well a model predicts the label of a cell, and whether its probabilities can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from genevae.data.covariates import UNKNOWN
from genevae.evaluation.cell_selection import Selection, missing_requirement, select, usable_n
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.labels.classifiers import (
    LabelPredictions,
    Prediction,
    confusion_of,
    predict_labels,
    scores_of,
    unseen_scores,
)
from genevae.evaluation.model import EvaluatedModel
from genevae.metrics.bootstrap import paired
from genevae.metrics.labels import accuracy, reliability, risk_coverage
from genevae.metrics.sampling import subsample
from genevae.report.records import Chart, Heat, Lines, Score, Section, Tone, Verdict

__all__ = ["evaluate", "unavailable_reason"]

MAX_EVALUATION = 1000
MAX_TRAINING = 4000
MAX_UNSEEN = 500
MAX_LABELS = 50
MAX_FIELDS = 3
MIN_CELLS = 20


def unavailable_reason(context: EvaluationContext) -> str | None:
    """Return why this section cannot be computed; None where it can."""
    if reason := missing_requirement(context, "classify"):
        return reason
    if not _fields(context):
        return (
            f"No model is conditioned on a field with 2 to {MAX_LABELS} categories, neither a batch nor a "
            f"perturbation, of which training cells and {MIN_CELLS} evaluation cells are labelled."
        )
    return None


def evaluate(context: EvaluationContext) -> Section:
    """Predict each label from expression and the other conditions, beside classifiers."""
    verdicts: list[Verdict] = []
    scores: list[Score] = []
    charts: list[Chart] = []
    notes: list[str] = []
    for field in _fields(context):
        cells = select(context, usable_n(context) & _labelled_n(context, field), MAX_EVALUATION, MAX_TRAINING)
        notes += [note for note in cells.notes if note not in notes]
        labels = predict_labels(context, field, cells)
        scores += scores_of(labels, context.seed)
        scores += _unseen_scores(context, labels, cells)
        verdicts += [_verdict(labels, predicted, context.seed) for predicted in labels.models]
        charts += _charts(labels)
    notes.append(
        "The label is hidden from the model and its other conditions are given. Baselines see principal components "
        "of the logarithms of normalised expression, of the same genes."
    )
    notes += context.lacking("classify")
    return Section(name="labels", title="Can it predict a cell's label?", verdicts=verdicts, scores=scores,
                   charts=charts, notes=notes)  # fmt: skip


def _unseen_scores(context: EvaluationContext, labels: LabelPredictions, cells: Selection) -> Sequence[Score]:
    """Score how uncertain predictions are for cells whose label no model has seen, where there are such."""
    which = usable_n(context, besides=labels.field) & _unseen_n(context, labels.field)
    if which.sum() < MIN_CELLS:
        return []
    unseen = context.cells[subsample(which, MAX_UNSEEN, context.seed)]
    return list(unseen_scores(labels, predict_labels(context, labels.field, replace(cells, evaluation=unseen))))


def _fields(context: EvaluationContext) -> list[str]:
    """Return the fields that a model can predict and the data hold; to no model a batch or a perturbation."""
    other = {
        field.name for model in context.models.values() for field in model.schema.categorical
        if field.technical or field.control is not None or field.combined
    }  # fmt: skip
    found = dict.fromkeys(
        name for model in context.models.values() for name in _predicted_by(model) if name not in other
    )
    usable = usable_n(context)
    return [
        name for name in found if name in context.cells.obs and (_labelled_n(context, name) & usable).sum() >= MIN_CELLS
    ][:MAX_FIELDS]


def _predicted_by(model: EvaluatedModel) -> list[str]:
    return [name for name, labels in model.labels.items() if 2 <= len(labels) <= MAX_LABELS]


def _labelled_n(context: EvaluationContext, field: str) -> NDArray[np.bool_]:
    """Return which cells have a label that every model of this field has seen in training."""
    label_n = context.cells.obs[field].astype(str)
    known = [label_n.isin(labels) for labels in _seen(context, field)]
    return np.asarray(np.all(known, axis=0) & context.cells.obs[field].notna())


def _unseen_n(context: EvaluationContext, field: str) -> NDArray[np.bool_]:
    """Return which cells have a label that no model has seen in training."""
    known = {UNKNOWN}.union(*_seen(context, field))
    return np.asarray(~context.cells.obs[field].astype(str).isin(known) & context.cells.obs[field].notna())


def _seen(context: EvaluationContext, field: str) -> list[set[str]]:
    """Return the labels that each model of this field has seen in training."""
    return [set(model.labels[field]) for model in context.models.values() if field in _predicted_by(model)]


def _verdict(labels: LabelPredictions, model: Prediction, seed: int) -> Verdict:
    """Compare a model with the best baseline, cell by cell."""
    best = max(labels.baselines, key=lambda predicted: accuracy(labels.true_n, predicted.label_n))
    right, other = (100.0 * (predicted.label_n == labels.true_n) for predicted in (model, best))
    gap = paired(right, other, seed)
    outcome, tone = _outcome(gap.low, gap.high)
    return Verdict(
        f"{model.who} predicts {labels.field} right in {right.mean():.1f} % of {len(right):,} cells; {best.who}, the "
        f"best baseline, in {other.mean():.1f} %: {outcome} ({_points(gap.difference)} points; 95 % interval "
        f"{_points(gap.low)} to {_points(gap.high)}).",
        tone,
        model.who,
        f"{right.mean():.1f} % right ({best.who.partition(' on ')[0]} {other.mean():.1f} %)",
        f"for labels, {best.who} does better" if tone == "bad" else "",
    )


def _points(difference: float) -> str:
    return f"{difference:+.1f}".replace("-", "−")


def _outcome(low: float, high: float) -> tuple[str, Tone]:
    return ("it wins", "good") if low > 0 else ("it loses", "bad") if high < 0 else ("a tie", "mixed")


def _charts(labels: LabelPredictions) -> list[Chart]:
    return [*(_confusion(labels, model) for model in labels.models), _risk(labels), _reliability(labels)]


def _confusion(labels: LabelPredictions, model: Prediction) -> Heat:
    names, share = confusion_of(labels, model)
    return Heat(
        title=f"{labels.field}: labels predicted by {model.who}", rows=names, columns=names, values=share,
        row_label="true label", column_label="predicted label",
        caption="Share of the cells of each true label (a row) that were given each predicted label.",
    )  # fmt: skip


def _risk(labels: LabelPredictions) -> Lines:
    return Lines(
        title=f"{labels.field}: wrong labels among the most certain cells",
        series={
            each.who: _thinned(*risk_coverage(each.label_n == labels.true_n, each.probability_n)) for each in labels.all
        },
        x_label="share of the cells that are labelled, the most certain first",
        y_label="share of wrong labels among them",
        caption="Lower is better. A good classifier is wrong only where it is uncertain: its curve rises to the right.",
    )


def _reliability(labels: LabelPredictions) -> Lines:
    series = {}
    for each in labels.all:
        bins = reliability(each.label_n == labels.true_n, each.probability_n)
        series[each.who] = (bins.predicted.tolist(), bins.right.tolist())
    return Lines(
        title=f"{labels.field}: how often labels are right, by their probability", series=series,
        x_label="probability", y_label="share that is right", diagonal=True,
        caption="On the diagonal, probabilities are calibrated. Below it, a classifier is overconfident.",
    )  # fmt: skip


def _thinned(
    x: NDArray[np.float64], y: NDArray[np.float64], n_most: int = 200
) -> tuple[Sequence[float], Sequence[float]]:
    """Take evenly spaced points, the first and last among them."""
    rows = np.unique(np.linspace(0, len(x) - 1, min(n_most, len(x))).astype(int))
    return x[rows].tolist(), y[rows].tolist()
