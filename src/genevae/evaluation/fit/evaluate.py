"""Whether a model explains cells that it was not trained on, and whether its intervals hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from genevae.evaluation.cell_selection import missing_requirement, select, usable_n
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.fit.charts import charts_of
from genevae.evaluation.fit.measurements import MAX_BOUND, MAX_GENES, N_PARTICLES, Measured
from genevae.evaluation.fit.scores import can_be_hidden, recovery_scores, scores_of
from genevae.evaluation.fit.verdicts import verdicts_of
from genevae.evaluation.model import EvaluatedModel
from genevae.evaluation.predictions import view
from genevae.evaluation.scale import units
from genevae.report.records import Score, Section

__all__ = ["evaluate", "unavailable_reason"]

Models = Mapping[str, EvaluatedModel]

MAX_EVALUATION = 1000
MAX_TRAINING = 2000
SEEN_NOTE = "The expectation of a cell, and its intervals, are computed after the model has seen the cell."
HIDDEN_NOTE = (
    "Hidden molecules are the stricter test: the model sees half of every cell's, and predicts the other half."
)
HOW_MANY = (
    f"Bounds (with {N_PARTICLES} draws of the latent), intervals and CRPS are of {{}} cells; intervals and CRPS of "
    f"{MAX_GENES} genes at most. 95 % intervals are from a bootstrap over cells."
)
VIEWS_NOTE = (
    "The models see different genes or numbers: their bounds, CRPS and errors can be compared with the baseline of "
    "each, and not with each other."
)


def unavailable_reason(context: EvaluationContext) -> str | None:
    """Return why this section cannot be computed; None where it can."""
    if not _models(context):
        return "No model has the methods log_weights, likelihoods or denoise."
    return missing_requirement(context)


def evaluate(context: EvaluationContext) -> Section:
    """Score every model on cells that it was not trained on, beside a distribution per gene, its mean and PCA."""
    cells = select(context, usable_n(context), MAX_EVALUATION, MAX_TRAINING)
    rows = np.random.default_rng(context.seed).permutation(cells.evaluation.n_obs)  # the first are then any of them
    evaluation, training = cells.evaluation[rows].copy(), cells.training.copy()
    models = _models(context)
    sees, answers = _sees(models), _answers(models)
    runs = [
        Measured(name, model, training, evaluation, context.seed, sees[name], answers[name])
        for name, model in models.items()
    ]
    scores: dict[tuple[str, str, str], Score] = {}
    for run in runs:
        found = scores_of(run) + recovery_scores(run)
        found = [replace(score, scale=sees[run.name].strip(" ()")) for score in found]
        scores |= {(s.metric, s.of, s.who): s for s in found if (s.metric, s.of, s.who) not in scores}
    return Section(
        name="fit",
        title="Does it explain cells that it has not seen?",
        verdicts=verdicts_of(runs, list(scores.values())),
        scores=list(scores.values()),
        charts=charts_of(runs),
        notes=[*cells.notes, *_notes(runs, evaluation.n_obs)],
    )


def _models(context: EvaluationContext) -> Models:
    """Return the models that have a verb of this section."""
    verbs = {"log_weights", "likelihoods", "denoise"}
    return {name: model for name, model in context.models.items() if verbs & set(model.verbs)}


def _sees(models: Models) -> dict[str, str]:
    """Name the baselines of models that see counts, or other numbers, of different genes or on different scales."""

    def scored_as(model: EvaluatedModel) -> str:
        return (
            "none" if not model.schema.has_noise_model else "counts" if model.schema.input_kind.is_count else "values"
        )

    return {
        name: _first(models, model, lambda other: (scored_as(other), view(other)), "sees cells")
        for name, model in models.items()
    }


def _answers(models: Models) -> dict[str, str]:
    """Name the baselines of models that answer in different kinds of numbers, genes or scales."""
    several = len({model.schema.output_kind for model in models.values()}) > 1
    return {
        name: (f", {model.schema.output_kind}" if several else "")
        + _first(models, model, lambda other: (other.schema.output_kind, units(other)), "answers")
        for name, model in models.items()
    }


def _first(
    models: Models, model: EvaluatedModel, key: Callable[[EvaluatedModel], tuple[object, object]], verb: str
) -> str:
    """Name the first model of the same key, where models that share the first half of it differ in the second."""
    kind, detail = key(model)
    alike = {name: key(other)[1] for name, other in models.items() if key(other)[0] == kind}
    first = next(name for name, other in alike.items() if other == detail)
    return f" (as {first} {verb})" if len(set(alike.values())) > 1 else ""


def _notes(runs: Sequence[Measured], n_cells: int) -> list[str]:
    notes = [SEEN_NOTE, HOW_MANY.format(min(MAX_BOUND, n_cells))]
    if any(can_be_hidden(run) for run in runs):
        notes.append(HIDDEN_NOTE)
    if len({view(run.model) for run in runs}) > 1:
        notes.append(VIEWS_NOTE)
    for run in runs:
        if not run.has_noise_model:
            notes.append(f"The likelihood of {run.name} is a squared error: it has no spread, and no bound.")
        elif run.model.log_weights is None:
            notes.append(f"{run.name} has no log_weights, and so no bound.")
        elif run.bounds is None:
            notes.append(f"The posterior of {run.name} is a single point, which has no bound.")
        if run.expected is None:
            notes.append(f"{run.name} has no likelihoods: its expectations and intervals are not scored.")
    return notes
