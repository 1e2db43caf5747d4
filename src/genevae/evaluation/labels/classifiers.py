"""The labels that models predict, and those of classifiers that are trained for nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from genevae.data.value_kind import Kind
from genevae.evaluation.cell_selection import Selection, known_n
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.model import dense
from genevae.metrics.bootstrap import interval
from genevae.metrics.labels import (
    ACCURACY,
    CALIBRATION_ERROR,
    MACRO_F1,
    RISK_COVERAGE_AREA,
    SET_COVERAGE,
    UNSEEN_AUROC,
    accuracy,
    auroc,
    confusion,
    expected_calibration_error,
    macro_f1,
    majority,
    risk_coverage_area,
)
from genevae.metrics.principal import Principal
from genevae.metrics.response import log_normalised
from genevae.report.records import Role, Score
from genevae.tasks.classify import SEPARATOR

__all__ = ["LabelPredictions", "Prediction", "confusion_of", "predict_labels", "scores_of", "unseen_scores"]

N_AXES = 50
N_NEIGHBOURS = 15

Spaces = Sequence[NDArray[Any]]
"""Training cells and evaluation cells."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The labels that a model or a classifier predicts.

    Parameters
    ----------
    who, role
        Its name, and whether it is a model.
    label_n, probability_n
        The label of each cell, and its probability.
    unknown_n
        How unlike all labels each cell is; one less the probability where a model does not say it.
    set_n
        The plausible labels of each cell; None without.
    """

    who: str
    role: Role
    label_n: NDArray[Any]
    probability_n: NDArray[np.float64]
    unknown_n: NDArray[np.float64]
    set_n: Sequence[frozenset[str]] | None = None

    @classmethod
    def of(cls, who: str, role: Role, table: pd.DataFrame) -> Prediction:
        """Return the prediction in a table of labels."""
        probability_n = table["probability"].to_numpy(dtype=np.float64)
        unknown_n = table["unknown"].to_numpy(dtype=np.float64) if "unknown" in table else 1 - probability_n
        set_n = [frozenset(each.split(SEPARATOR)) for each in table["set"]] if "set" in table else None
        return cls(who, role, table["label"].to_numpy(dtype=str), probability_n, unknown_n, set_n)


@dataclass(frozen=True, eq=False)
class LabelPredictions:
    """A field, and all predictions of it.

    Parameters
    ----------
    field
        Its name.
    true_n
        The label of each evaluation cell.
    models, baselines
        Predictions.
    """

    field: str
    true_n: NDArray[Any]
    models: Sequence[Prediction]
    baselines: Sequence[Prediction]

    @property
    def all(self) -> list[Prediction]:
        """Predictions of models and baselines."""
        return [*self.models, *self.baselines]


def predict_labels(context: EvaluationContext, field: str, cells: Selection) -> LabelPredictions:
    """Predict a field by every model that can, and by the baselines."""
    labelled = cells.training[cells.training.obs[field].notna().to_numpy()]
    models = []
    for name, model in context.models.items():
        if model.classify is not None and field in model.labels:
            table = model.classify(cells.evaluation, field, context.seed)
            models.append(Prediction.of(name, "run", table))
    baselines = list(_baselines(context, field, labelled, cells.evaluation))
    return LabelPredictions(field, _labels(cells.evaluation, field), models, baselines)


def _labels(cells: AnnData, field: str) -> NDArray[Any]:
    return np.asarray(cells.obs[field].astype(str), dtype=str)


def _baselines(context: EvaluationContext, field: str, training: AnnData, evaluation: AnnData) -> Iterator[Prediction]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    label_n = _labels(training, field)
    spaces = _principal(context, training, evaluation)
    n_axes, n_near = spaces[0].shape[1], min(N_NEIGHBOURS, len(label_n))
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    yield _by(f"logistic regression on {n_axes} PCs", logistic, spaces, label_n)
    yield _by(f"nearest neighbours on {n_axes} PCs", KNeighborsClassifier(n_near), spaces, label_n)
    for name, model in context.models.items():
        if model.embed is not None and field not in model.given and known_n(model, evaluation.obs).all():
            latents = [model.embed(cells) for cells in (training, evaluation)]
            yield _by(f"nearest neighbours on the latent of {name}", KNeighborsClassifier(n_near), latents, label_n)
    label, share = majority(label_n)
    n = evaluation.n_obs
    yield Prediction("commonest label", "baseline", np.full(n, label), np.full(n, share), np.full(n, 1 - share))


def _by(who: str, classifier: Any, spaces: Spaces, label_n: NDArray[Any]) -> Prediction:
    p_nc = classifier.fit(spaces[0], label_n).predict_proba(spaces[1])
    return Prediction(who, "baseline", classifier.classes_[p_nc.argmax(1)], p_nc.max(1), 1 - p_nc.max(1))


def _principal(context: EvaluationContext, training: AnnData, evaluation: AnnData) -> Spaces:
    """Return principal components of training and evaluation cells, of the genes of any model."""
    genes = list(dict.fromkeys(gene for model in context.models.values() for gene in model.schema.genes))
    linear = context.kind not in (Kind.LOG, Kind.SCALED)
    values = [dense(cells[:, genes].X).astype(np.float32) for cells in (training, evaluation)]
    values = [log_normalised(x_ng, dtype=np.float32) for x_ng in values] if linear else values
    axes = Principal.fit(values[0], N_AXES, context.seed)
    return [axes.embed(x_ng) for x_ng in values]


def scores_of(labels: LabelPredictions, seed: int) -> list[Score]:
    """Score every prediction."""
    return [score for predicted in labels.all for score in _scores(labels, predicted, seed)]


def _scores(labels: LabelPredictions, predicted: Prediction, seed: int) -> Iterator[Score]:
    right_n = predicted.label_n == labels.true_n
    who, role, of = predicted.who, predicted.role, labels.field
    low, high = interval(right_n, seed=seed)
    value = accuracy(labels.true_n, predicted.label_n)
    yield Score.of_metric(ACCURACY, who, value, role, of, low, high)
    yield Score.of_metric(MACRO_F1, who, macro_f1(labels.true_n, predicted.label_n), role, of)
    yield Score.of_metric(
        CALIBRATION_ERROR, who, expected_calibration_error(right_n, predicted.probability_n), role, of
    )
    yield Score.of_metric(RISK_COVERAGE_AREA, who, risk_coverage_area(right_n, predicted.probability_n), role, of)
    if predicted.set_n is not None:
        covered = [label in some for label, some in zip(labels.true_n, predicted.set_n, strict=True)]
        yield Score.of_metric(SET_COVERAGE, who, float(np.mean(covered)), role, of)


def unseen_scores(labels: LabelPredictions, unseen: LabelPredictions) -> Iterator[Score]:
    """Score whether cells of labels that were never seen are less like all labels than the others."""
    known = {predicted.who: predicted for predicted in labels.all}
    for predicted in unseen.all:
        unknown_n = np.concatenate([predicted.unknown_n, known[predicted.who].unknown_n])
        value = auroc(np.arange(len(unknown_n)) < len(predicted.unknown_n), unknown_n)
        yield Score.of_metric(UNSEEN_AUROC, predicted.who, value, predicted.role, labels.field)


def confusion_of(labels: LabelPredictions, predicted: Prediction) -> tuple[list[str], NDArray[np.float64]]:
    """Return labels, and the share of the cells of each that were given each; rows that no cell has are zero."""
    names = sorted({*labels.true_n.tolist(), *predicted.label_n.tolist()})
    counts = confusion(labels.true_n, predicted.label_n, names).astype(np.float64)
    return names, counts / np.maximum(counts.sum(1, keepdims=True), 1)
