"""The labels that runs tell, and those of classifiers that were made for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from genevae.data.value_kind import Kind
from genevae.evaluation.cell_selection import Chosen, known_n
from genevae.evaluation.context import EvaluationContext
from genevae.metrics.bootstrap import interval
from genevae.metrics.labels import (
    accuracy,
    auroc,
    confusion,
    expected_calibration_error,
    macro_f1,
    risk_coverage_area,
)
from genevae.metrics.principal import Principal
from genevae.report.records import Better, Role, Score
from genevae.runs.trained import Trained
from genevae.tasks.classify import classify
from genevae.tasks.embed import embed

__all__ = ["Labels", "Told", "confusion_of", "scores_of", "tell", "unknown_scores"]

N_AXES = 50
N_NEIGHBOURS = 15
TARGET = 1e4


@dataclass(frozen=True, eq=False)
class Told:
    """What a run or a classifier tells of some cells.

    Parameters
    ----------
    who, role
        Its name, and whether it is a run.
    label_n, probability_n
        The label of each cell, and how probable it was said to be.
    """

    who: str
    role: Role
    label_n: NDArray[Any]
    probability_n: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Labels:
    """A field, and what all tell of it.

    Parameters
    ----------
    field
        Its name.
    true_n
        The label of each judged cell.
    runs, baselines
        What they tell.
    """

    field: str
    true_n: NDArray[Any]
    runs: Sequence[Told]
    baselines: Sequence[Told]

    @property
    def all(self) -> list[Told]:
        """What runs and baselines tell."""
        return [*self.runs, *self.baselines]


def tell(context: EvaluationContext, field: str, cells: Chosen) -> Labels:
    """Let every run that can tell a field, and the classifiers beside it."""
    labelled = cells.training[cells.training.obs[field].notna().to_numpy()]
    runs = [
        _by_run(name, run, cells.judged, field, context.seed)
        for name, run in context.runs.items()
        if field in run.calibration
    ]
    return Labels(field, _words(cells.judged, field), runs, list(_by_others(context, field, labelled, cells.judged)))


def _words(cells: AnnData, field: str) -> NDArray[Any]:
    return np.asarray(cells.obs[field].astype(str), dtype=str)


def _by_run(name: str, run: Trained, cells: AnnData, field: str, seed: int) -> Told:
    table = classify(run, cells, field=field, seed=seed)
    return Told(name, "run", table["label"].to_numpy(dtype=str), table["probability"].to_numpy(dtype=np.float64))


def _by_others(context: EvaluationContext, field: str, training: AnnData, judged: AnnData) -> Iterator[Told]:
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    label_n = _words(training, field)
    spaces = _principal(context, training, judged)
    n_axes, n_near = spaces[0].shape[1], min(N_NEIGHBOURS, len(label_n))
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    yield _by(f"logistic regression on {n_axes} PCs", logistic, spaces, label_n)
    yield _by(f"nearest neighbours on {n_axes} PCs", KNeighborsClassifier(n_near), spaces, label_n)
    for name, run in context.runs.items():
        told = field in run.schema.n_categories and run.recipe.encode_condition
        if not told and known_n(run.schema, judged.obs).all():
            latents = tuple(embed(run, cells).obsm["X_genevae"] for cells in (training, judged))
            yield _by(f"nearest neighbours on the latent of {name}", KNeighborsClassifier(n_near), latents, label_n)
    yield _by("commonest label", DummyClassifier(strategy="prior"), spaces, label_n)


def _by(who: str, classifier: Any, spaces: tuple[NDArray[Any], ...], label_n: NDArray[Any]) -> Told:
    p_nc = classifier.fit(spaces[0], label_n).predict_proba(spaces[1])
    return Told(who, "baseline", classifier.classes_[p_nc.argmax(1)], p_nc.max(1))


def _principal(context: EvaluationContext, training: AnnData, judged: AnnData) -> tuple[NDArray[Any], ...]:
    """Return principal components of training and judged cells, of the genes that any run models."""
    genes = list(dict.fromkeys(gene for run in context.runs.values() for gene in run.schema.genes))
    values = [_logarithms(cells[:, genes].X, context.kind) for cells in (training, judged)]
    axes = Principal.fit(values[0], N_AXES, context.seed)
    return tuple(axes.embed(x_ng) for x_ng in values)


def _logarithms(x: Any, kind: Kind) -> NDArray[np.float32]:
    x_ng = np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float32)
    if kind in (Kind.LOG, Kind.SCALED):
        return x_ng
    return np.asarray(np.log1p(x_ng * (TARGET / np.maximum(x_ng.sum(1, keepdims=True), 1e-6))))


def scores_of(labels: Labels, seed: int) -> list[Score]:
    """Score what each tells."""
    return [score for told in labels.all for score in _scores(labels, told, seed)]


def _scores(labels: Labels, told: Told, seed: int) -> list[Score]:
    right_n = told.label_n == labels.true_n
    low, high = interval(right_n, seed=seed)
    numbers: list[tuple[str, float, Better, float]] = [
        ("macro-F1", macro_f1(labels.true_n, told.label_n), "higher", 1),
        ("calibration error", expected_calibration_error(right_n, told.probability_n), "lower", 0),
        ("area under risk-coverage", risk_coverage_area(right_n, told.probability_n), "lower", 0),
    ]
    first = Score(
        metric="accuracy", who=told.who, value=accuracy(labels.true_n, told.label_n), role=told.role, of=labels.field,
        low=low, high=high, ideal=1,
    )  # fmt: skip
    return [first] + [
        Score(metric=metric, who=told.who, value=value, role=told.role, of=labels.field, better=better, ideal=ideal)
        for metric, value, better, ideal in numbers
    ]


def unknown_scores(labels: Labels, unseen: Labels) -> list[Score]:
    """Score whether cells of labels that were never seen are less surely told than the others."""
    known = {told.who: told for told in labels.all}
    scores = []
    for told in unseen.all:
        sure_n = np.concatenate([told.probability_n, known[told.who].probability_n])
        strange_n = np.arange(len(sure_n)) < len(told.probability_n)
        value, name = auroc(strange_n, 1 - sure_n), "AUROC of labels never seen"
        scores.append(Score(metric=name, who=told.who, value=value, role=told.role, of=labels.field, ideal=1))
    return scores


def confusion_of(labels: Labels, told: Told) -> tuple[list[str], NDArray[np.float64]]:
    """Return labels, and the share of the cells of each that were told each; rows that no cell has are zero."""
    names = sorted({*labels.true_n.tolist(), *told.label_n.tolist()})
    counts = confusion(labels.true_n, told.label_n, names).astype(np.float64)
    return names, counts / np.maximum(counts.sum(1, keepdims=True), 1)
