"""Whether simulated cells resemble real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.errors import DataError
from genevae.evaluation.cell_selection import missing_requirement, trained_n, usable_n
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.model import EvaluatedModel, dense
from genevae.evaluation.scale import in_units_of, logged, units
from genevae.evaluation.simulation.charts import charts_of
from genevae.evaluation.simulation.scores import MIN_OF_TYPE, Group, Likeness, Simulated, scores_of, verdicts_of
from genevae.metrics.gene_wise import GeneWiseNB, GeneWiseNormal
from genevae.metrics.sampling import subsample
from genevae.report.records import Role, Section

__all__ = ["evaluate", "unavailable_reason"]

MAX_CELLS = 400
"""Real cells, and as many simulated ones: enough for a forest to find a difference that matters."""
MAX_TRAINING = 1500
MIN_CELLS = 20
MIN_OF_CONDITION = 5
"""Training cells of a combination of conditions at least: what all baselines are made of."""

RowNumbers = NDArray[np.int64]
Values = NDArray[Any]


def unavailable_reason(context: EvaluationContext) -> str | None:
    """Return why this section cannot be computed; None where it can."""
    reason = missing_requirement(context, "generate")
    needed = {c.name for m in context.models.values() for c in m.schema.covariates if not getattr(c, "unknown", False)}
    if not context.having("generate") or needed - set(context.cells.obs):
        return reason
    return None if trained_n(context).sum() >= 2 * MIN_CELLS else reason


def evaluate(context: EvaluationContext) -> Section:
    """Simulate cells of the conditions of real ones by every model, and compare the two."""
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, model in context.having("generate").items():
        alike.setdefault((*units(model), model.schema.categorical), []).append(name)
    real_rows, training_rows, notes = _chosen(context)
    groups = [
        _group(_View(context, context.models[names[0]], real_rows, training_rows), names, context, len(alike) > 1)
        for names in alike.values()
    ]
    return Section(
        name="simulation",
        title="Do its simulated cells resemble real ones?",
        verdicts=[verdict for group in groups for verdict in verdicts_of(group)],
        scores=[score for group in groups for score in scores_of(group)],
        charts=[chart for group in groups for chart in charts_of(group)],
        notes=[*notes, *_notes(context, groups, len(real_rows)), *context.lacking("generate")],
    )


def _chosen(context: EvaluationContext) -> tuple[RowNumbers, RowNumbers, list[str]]:
    """Choose real cells to compare with, and training cells that baselines are made of."""
    usable, trained, notes = usable_n(context), trained_n(context), [context.evaluation_note]
    pool, which = (usable, "new") if usable.sum() >= MIN_CELLS else (trained, "training")
    if which == "training" or trained.sum() < MIN_CELLS:
        rows = np.random.default_rng(context.seed).permutation(np.flatnonzero(pool))
        notes.append(f"Half of the {which} cells stand for the real ones, and baselines are made of the other half.")
        halves = np.zeros((2, len(pool)), dtype=bool)
        halves[0, rows[::2]], halves[1, rows[1::2]] = True, True
        usable, trained = halves
    return subsample(usable, MAX_CELLS, context.seed), subsample(trained, MAX_TRAINING, context.seed), notes


@dataclass(frozen=True, eq=False)
class _Condition:
    """One combination of conditions, and the cells that have it."""

    values: dict[str, str]
    real: RowNumbers
    training: RowNumbers

    def sampled(self, rng: np.random.Generator) -> RowNumbers:
        """Sample as many training cells as there are real ones; each once where they suffice."""
        n = len(self.real)
        return rng.choice(self.training, n, replace=n > len(self.training))


class _View:
    """Real and training cells in the units of a model, by combination of its conditions.

    Some training cells, as many of each combination as are real, are set aside: they show what real cells score, and
    the axes and the distances to training cells do not use them.
    """

    def __init__(
        self, context: EvaluationContext, model: EvaluatedModel, real_rows: RowNumbers, training_rows: RowNumbers
    ) -> None:
        self.model = model
        self.real, self.training = (in_units_of(model, context.cells[rows]) for rows in (real_rows, training_rows))
        real_n, training_n = (_combinations(model, context, rows) for rows in (real_rows, training_rows))
        fields = [field.name for field in model.schema.categorical]
        every = [
            _Condition(
                dict(zip(fields, values, strict=True)), *(_rows_of(each, values) for each in (real_n, training_n))
            )
            for values in sorted(set(real_n))
        ]
        self.conditions = [condition for condition in every if len(condition.training) >= MIN_OF_CONDITION]
        if not self.conditions:
            raise DataError(
                f"No combination of {', '.join(fields)} has {MIN_OF_CONDITION} training cells in the sample, "
                "so that there is nothing to compare simulated cells with. Use more cells (--cells)."
            )
        self.real = self.real[np.concatenate([condition.real for condition in self.conditions])]
        rng = np.random.default_rng(context.seed)
        aside = np.concatenate([condition.sampled(rng) for condition in self.conditions])
        self.aside = self.training[aside]
        self.rest = np.delete(self.training, aside, axis=0)

    def labels(self, field: str) -> NDArray[Any]:
        """Return the category of each real cell."""
        return np.repeat([c.values[field] for c in self.conditions], [len(c.real) for c in self.conditions])

    def shuffled(self, seed: int) -> Values:
        """Take every gene from another training cell of the condition, so that genes are independent."""
        rng = np.random.default_rng(seed)
        made = [
            np.stack([self.training[condition.sampled(rng), g] for g in range(self.training.shape[1])], axis=1)
            for condition in self.conditions
        ]
        return np.concatenate(made)

    def gene_wise(self, seed: int) -> Values:
        """Draw every gene from a distribution that was fitted to the training cells of the condition."""
        made = []
        for number, condition in enumerate(self.conditions):
            x_ng = self.training[condition.training]
            size_n = x_ng.sum(1)
            counts = self.model.schema.output_kind.is_count
            fitted = GeneWiseNB.fit(x_ng, np.maximum(size_n, 1)) if counts else GeneWiseNormal.fit(x_ng)
            sizes = np.random.default_rng(seed + number).choice(np.maximum(size_n, 1), len(condition.real))
            made.append(fitted.draw_sng(sizes, 1, seed + number)[0])
        return np.concatenate(made)

    def simulated(self, model: EvaluatedModel, seed: int) -> Values:
        """Simulate as many cells of every condition as are real."""
        if model.generate is None:
            raise ValueError("this model cannot generate")
        return np.concatenate([
            dense(model.generate(len(condition.real), condition.values, seed + number))
            for number, condition in enumerate(self.conditions)
        ])  # fmt: skip


def _combinations(model: EvaluatedModel, context: EvaluationContext, rows: RowNumbers) -> list[tuple[str, ...]]:
    """Return the categories of each cell, as the model spells them."""
    codes = model.schema.encode(context.cells.obs.iloc[rows]).codes
    columns = [[field.labels[code] for code in codes[field.name].tolist()] for field in model.schema.categorical]
    return list(zip(*columns, strict=True)) if columns else [()] * len(rows)


def _rows_of(values_n: Sequence[tuple[str, ...]], values: tuple[str, ...]) -> RowNumbers:
    return np.flatnonzero([each == values for each in values_n])


def _group(view: _View, names: Sequence[str], context: EvaluationContext, several: bool) -> Group:
    """Compare the simulated cells of models of the same units, and the baselines, with the real cells."""
    likeness = Likeness.of(*_both(view.model, view.real), _both(view.model, view.rest)[0], _types(view), context.seed)
    suffix = f" ({names[0]})" if several else ""

    def made() -> Iterator[tuple[str, Role, Values]]:
        for name in names:
            yield name, "run", view.simulated(context.models[name], context.seed)
        yield f"genes shuffled within conditions{suffix}", "baseline", view.shuffled(context.seed)
        yield f"one distribution per gene and condition{suffix}", "baseline", view.gene_wise(context.seed)
        yield f"training cells{suffix}", "ceiling", view.aside

    found = [Simulated(who, role, likeness, *_both(view.model, x_ng)) for who, role, x_ng in made()]
    return Group(view.model.schema.genes, likeness, found)


def _both(model: EvaluatedModel, x_ng: Values) -> tuple[Values, Values | None]:
    """Return cells on the log scale, and the counts themselves where the model answers in counts."""
    return logged(model, x_ng), x_ng if model.schema.output_kind.is_count else None


def _types(view: _View) -> NDArray[Any] | None:
    """Return the category of each real cell in the first non-technical field with two categories of 20 cells."""
    for field in view.model.schema.categorical:
        label_n = view.labels(field.name)
        if not field.technical and (np.unique(label_n, return_counts=True)[1] >= MIN_OF_TYPE).sum() > 1:
            return label_n
    return None


def _notes(context: EvaluationContext, groups: Sequence[Group], n_sampled: int) -> list[str]:
    """Say how the numbers were computed."""
    n = min(len(group.likeness.real_ng) for group in groups)
    compared = (
        f"{n:,} real cells, sampled with seed {context.seed}, and as many simulated ones of the same conditions, "
        "are compared on a log scale."
    )
    rare = (
        f" {n_sampled - n:,} cells of combinations with fewer than {MIN_OF_CONDITION} training cells are left out."
        if n < n_sampled else ""
    )  # fmt: skip
    ceiling = (
        "Training cells show what real cells score against real ones; those are left out where distances to training "
        "cells are taken. A distance from 0 to 1 is the largest gap between two cumulative shares (Kolmogorov and "
        "Smirnov)."
    )
    values = "" if all(group.likeness.has_counts for group in groups) else (
        "Zeros and library sizes are compared for models that answer in counts. A forest recognises the cells of "
        "other models at once where real ones have exact zeros."
    )  # fmt: skip
    return [note for note in (compared + rare, ceiling, values) if note]
