"""Whether a model explains cells that it was not trained on, and values fall where it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from genevae.evaluation.cell_selection import chosen, lacks, usable_n
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.fit.charts import charts_of
from genevae.evaluation.fit.denoising import can_be_hidden, recovery_scores
from genevae.evaluation.fit.measurements import MAX_BOUND, MAX_GENES, N_PARTICLES, Measured
from genevae.evaluation.fit.scores import scores_of
from genevae.evaluation.fit.verdicts import verdicts_of
from genevae.evaluation.predictions import view
from genevae.evaluation.scale import units
from genevae.report.records import Score, Section
from genevae.runs.trained import Trained

__all__ = ["evaluate", "unavailable_reason"]

MAX_EVALUATION = 1000
MAX_TRAINING = 2000
SEEN_NOTE = "What is expected of a cell, and its intervals, are given that the model has seen the cell."
HIDDEN_NOTE = "Hidden molecules are the stricter test: half of every cell's are kept from the model, and asked for."
HOW_MANY = (
    f"Bounds (with {N_PARTICLES} draws of the latent), intervals and CRPS are of {{}} cells; intervals and CRPS of "
    f"{MAX_GENES} genes at most. Ends of 95 % intervals come from drawing cells again."
)
VIEWS_NOTE = (
    "The runs see different genes or numbers: their bounds, CRPS and errors can be compared with the baseline beside "
    "each, and not with each other."
)


def unavailable_reason(context: EvaluationContext) -> str | None:
    """Say what is lacking, where the question cannot be asked."""
    return lacks(context)


def evaluate(context: EvaluationContext) -> Section:
    """Score every run on cells that it was not trained on, beside a distribution per gene, its mean and PCA."""
    cells = chosen(context, usable_n(context), MAX_EVALUATION, MAX_TRAINING)
    rows = np.random.default_rng(context.seed).permutation(cells.judged.n_obs)  # the first are then any of them
    judged, training = cells.judged[rows].copy(), cells.training.copy()
    sees, answers = _sees(context), _answers(context)
    runs = [
        Measured(name, run, training, judged, context.seed, sees[name], answers[name]) for name, run in context.runs.items()
    ]
    scores: dict[tuple[str, str, str], Score] = {}
    for run in runs:
        found = scores_of(run) + (recovery_scores(run) if can_be_hidden(run) else [])
        found = [replace(score, scale=sees[run.name].strip(" ()")) for score in found]
        scores |= {(s.metric, s.of, s.who): s for s in found if (s.metric, s.of, s.who) not in scores}
    return Section(
        name="fit",
        title="Does it explain cells that it has not seen?",
        verdicts=verdicts_of(runs, list(scores.values())),
        scores=list(scores.values()),
        charts=charts_of(runs),
        notes=[*cells.notes, *_notes(runs, judged.n_obs)],
    )


def _sees(context: EvaluationContext) -> dict[str, str]:
    """Tell apart the baselines of runs that see counts, or other numbers, of different genes or on different scales."""
    return {
        name: _first(context, run, lambda other: (_scored_as(other), view(other)), "sees cells")
        for name, run in context.runs.items()
    }


def _scored_as(run: Trained) -> str:
    """Say which distribution per gene stands beside a run."""
    return "none" if not run.schema.knows_scatter else "counts" if run.schema.seen_as.is_count else "values"


def _answers(context: EvaluationContext) -> dict[str, str]:
    """Tell apart the baselines of runs that answer in different kinds of numbers, genes or scales."""
    several = len({run.schema.answers_in for run in context.runs.values()}) > 1
    return {
        name: (f", {run.schema.answers_in}" if several else "")
        + _first(context, run, lambda other: (other.schema.answers_in, units(other)), "answers")
        for name, run in context.runs.items()
    }


def _first(context: EvaluationContext, run: Trained, key: Callable[[Trained], tuple[object, object]], verb: str) -> str:
    """Name the first run of the same key, where runs that share the first half of it differ in the second."""
    kind, own = key(run)
    alike = {name: key(other)[1] for name, other in context.runs.items() if key(other)[0] == kind}
    first = next(name for name, other in alike.items() if other == own)
    return f" (as {first} {verb})" if len(set(alike.values())) > 1 else ""


def _notes(runs: Sequence[Measured], n_cells: int) -> list[str]:
    notes = [SEEN_NOTE, HOW_MANY.format(min(MAX_BOUND, n_cells))]
    if any(can_be_hidden(run) for run in runs):
        notes.append(HIDDEN_NOTE)
    if len({view(run.model) for run in runs}) > 1:
        notes.append(VIEWS_NOTE)
    for run in runs:
        if not run.model.schema.knows_scatter:
            notes.append(f"The likelihood of {run.name} is a squared error: it promises no spread, and has no bound.")
        elif run.bounds is None:
            notes.append(f"The posterior of {run.name} is a single point, which has no bound.")
    return notes
