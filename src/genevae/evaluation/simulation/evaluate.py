"""Whether simulated cells can be told from real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.data.schema import Categorical
from genevae.errors import DataError
from genevae.evaluation.cell_selection import known_n, lacks, sample, usable_n
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.scale import in_units_of, logged, units
from genevae.evaluation.simulation.charts import charts_of
from genevae.evaluation.simulation.scores import MIN_OF_TYPE, Group, Likeness, Simulated, scores_of, verdicts_of
from genevae.metrics.gene_wise import GeneWiseNB, GeneWiseNormal
from genevae.report.records import Role, Section
from genevae.runs.trained import Trained
from genevae.tasks.generate import generate

__all__ = ["evaluate", "unavailable_reason"]

MAX_CELLS = 400
"""Real cells, and as many simulated ones: what a forest needs to see a difference that matters."""
MAX_TRAINING = 1500
MIN_CELLS = 20
MIN_OF_KIND = 5
"""Training cells of a combination of conditions at least: what all baselines are made of."""

RowNumbers = NDArray[np.int64]
Values = NDArray[Any]


def unavailable_reason(context: EvaluationContext) -> str | None:
    """Say what is lacking, where the question cannot be asked."""
    needed = {c.name for run in context.runs.values() for c in run.schema.covariates if not getattr(c, "unknown", False)}
    if needed - set(context.cells.obs):
        return lacks(context)
    enough = usable_n(context).sum() >= MIN_CELLS or _trained_n(context).sum() >= 2 * MIN_CELLS
    return None if enough else lacks(context)


def evaluate(context: EvaluationContext) -> Section:
    """Let every run simulate cells of the conditions of real ones, and compare the two."""
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, run in context.runs.items():
        alike.setdefault((*units(run), run.schema.categorical), []).append(name)
    real_rows, training_rows, note = _chosen(context)
    groups = [
        _group(_View(context, context.runs[names[0]], real_rows, training_rows), names, context, several=len(alike) > 1)
        for names in alike.values()
    ]
    return Section(
        name="simulation",
        title="Can its simulated cells be told from real ones?",
        verdicts=[verdict for group in groups for verdict in verdicts_of(group)],
        scores=[score for group in groups for score in scores_of(group)],
        charts=[chart for group in groups for chart in charts_of(group)],
        notes=[*note, *_notes(context, groups, len(real_rows))],
    )


def _chosen(context: EvaluationContext) -> tuple[RowNumbers, RowNumbers, list[str]]:
    """Choose real cells to compare with, and training cells that baselines are made of."""
    usable, trained, notes = usable_n(context), _trained_n(context), [context.evaluation_note]
    pool, said = (usable, "new") if usable.sum() >= MIN_CELLS else (trained, "training")
    if said == "training" or trained.sum() < MIN_CELLS:
        rows = np.random.default_rng(context.seed).permutation(np.flatnonzero(pool))
        notes.append(f"Half of the {said} cells stand for the real ones, and baselines are made of the other half.")
        halves = np.zeros((2, len(pool)), dtype=bool)
        halves[0, rows[::2]], halves[1, rows[1::2]] = True, True
        usable, trained = halves
    return sample(usable, MAX_CELLS, context.seed), sample(trained, MAX_TRAINING, context.seed), notes


def _trained_n(context: EvaluationContext) -> NDArray[np.bool_]:
    """Say which cells were trained on, and have conditions that all runs know."""
    known = [known_n(run.schema, context.cells.obs) for run in context.runs.values()]
    return np.asarray(context.trained_n & np.all(known, axis=0))


@dataclass(frozen=True, eq=False)
class _Kind:
    """One combination of conditions, and the cells that have it."""

    condition: dict[str, str]
    real: RowNumbers
    training: RowNumbers


class _View:
    """Real and training cells in the units of a run, by combination of its conditions.

    Some training cells, as many of each combination as are real, are put aside: they are as good as a simulation can
    be, and neither the axes nor the distances to training cells know of them.
    """

    def __init__(self, context: EvaluationContext, run: Trained, real_rows: RowNumbers, training_rows: RowNumbers) -> None:
        self.run = run
        self.real, self.training = (in_units_of(run, context.cells[rows]) for rows in (real_rows, training_rows))
        real_n, training_n = (_conditions(run, context, rows) for rows in (real_rows, training_rows))
        fields = [field.name for field in run.schema.categorical]
        self.kinds = [
            _Kind(dict(zip(fields, words, strict=True)), *(_places(each, words) for each in (real_n, training_n)))
            for words in sorted(set(real_n))
        ]
        self.kinds = [kind for kind in self.kinds if len(kind.training) >= MIN_OF_KIND]
        if not self.kinds:
            raise DataError(
                f"No combination of {', '.join(fields)} has {MIN_OF_KIND} training cells among those that were drawn, "
                "so that there is nothing to compare simulated cells with. Draw more cells (--cells)."
            )
        self.real = self.real[np.concatenate([kind.real for kind in self.kinds])]
        rng = np.random.default_rng(context.seed)
        aside = np.concatenate([_some(kind, rng) for kind in self.kinds])
        self.aside = self.training[aside]
        self.rest = np.delete(self.training, aside, axis=0)

    def labels(self, field: str) -> NDArray[Any]:
        """Return the category of each real cell, in the order of the kinds."""
        return np.repeat([kind.condition[field] for kind in self.kinds], [len(kind.real) for kind in self.kinds])

    def shuffled(self, seed: int) -> Values:
        """Draw every gene from another training cell of the kind: each gene is right and no two go together."""
        rng = np.random.default_rng(seed)
        made = [
            np.stack([self.training[_some(kind, rng), g] for g in range(self.training.shape[1])], axis=1)
            for kind in self.kinds
        ]
        return np.concatenate(made)

    def gene_wise(self, seed: int) -> Values:
        """Draw every gene from a distribution of its own, that was fitted to the training cells of the kind."""
        made = []
        for number, kind in enumerate(self.kinds):
            x_ng = self.training[kind.training]
            size_n = x_ng.sum(1)
            counts = self.run.schema.answers_in.is_count
            fitted = GeneWiseNB.fit(x_ng, np.maximum(size_n, 1)) if counts else GeneWiseNormal.fit(x_ng)
            sizes = np.random.default_rng(seed + number).choice(np.maximum(size_n, 1), len(kind.real))
            made.append(fitted.draw_sng(sizes, 1, seed + number)[0])
        return np.concatenate(made)

    def simulated(self, run: Trained, seed: int) -> Values:
        """Let a run simulate as many cells of every kind as are real."""
        made = [
            generate(run, n=len(kind.real), condition=kind.condition, seed=seed + number).X
            for number, kind in enumerate(self.kinds)
        ]
        return np.concatenate([x.toarray() if hasattr(x, "toarray") else x for x in made])


def _conditions(run: Trained, context: EvaluationContext, rows: RowNumbers) -> list[tuple[str, ...]]:
    """Return the categories of each cell, in the model's own words."""
    codes = run.schema.encode(context.cells.obs.iloc[rows]).codes
    columns = [_words(field, codes[field.name].tolist()) for field in run.schema.categorical]
    return list(zip(*columns, strict=True)) if columns else [()] * len(rows)


def _words(field: Categorical, codes: Sequence[int]) -> list[str]:
    return [field.labels[code] for code in codes]


def _places(words_n: Sequence[tuple[str, ...]], words: tuple[str, ...]) -> RowNumbers:
    return np.flatnonzero([each == words for each in words_n])


def _some(kind: _Kind, rng: np.random.Generator) -> RowNumbers:
    """Draw training cells of a kind, as many as are real; each once where they suffice."""
    n = len(kind.real)
    return rng.choice(kind.training, n, replace=n > len(kind.training))


def _group(view: _View, names: Sequence[str], context: EvaluationContext, several: bool) -> Group:
    """Compare what runs of the same units simulate, and the baselines, with the real cells."""
    likeness = Likeness.of(*_both(view.run, view.real), _both(view.run, view.rest)[0], _types(view), context.seed)
    suffix = f" ({names[0]})" if several else ""

    def made() -> Iterator[tuple[str, Role, Values]]:
        for name in names:
            yield name, "run", view.simulated(context.runs[name], context.seed)
        yield f"genes shuffled within kinds{suffix}", "baseline", view.shuffled(context.seed)
        yield f"one distribution per gene and kind{suffix}", "baseline", view.gene_wise(context.seed)
        yield f"training cells{suffix}", "ceiling", view.aside

    found = [Simulated(who, role, likeness, *_both(view.run, x_ng)) for who, role, x_ng in made()]
    return Group(view.run.schema.genes, likeness, found)


def _both(run: Trained, x_ng: Values) -> tuple[Values, Values | None]:
    """Return cells on the log scale, and the counts themselves where the run answers in counts."""
    return logged(run, x_ng), x_ng if run.schema.answers_in.is_count else None


def _types(view: _View) -> NDArray[Any] | None:
    """Return the category of each real cell in the first field with two of 20 cells, the technical batch aside."""
    for field in view.run.schema.categorical:
        label_n = view.labels(field.name)
        if not field.technical and (np.unique(label_n, return_counts=True)[1] >= MIN_OF_TYPE).sum() > 1:
            return label_n
    return None


def _notes(context: EvaluationContext, groups: Sequence[Group], n_drawn: int) -> list[str]:
    """Say what the numbers rest on."""
    n = min(len(group.likeness.real_ng) for group in groups)
    compared = (
        f"{n:,} real cells, drawn with seed {context.seed}, and as many simulated ones of the same conditions, "
        "are compared on a log scale."
    )
    rare = (
        f" {n_drawn - n:,} cells of combinations with fewer than {MIN_OF_KIND} training cells are left out."
        if n < n_drawn else ""
    )  # fmt: skip
    told = (
        "Training cells show what real cells score against real ones; those that show it are left out where distances "
        "to training cells are taken. A distance from 0 to 1 is the largest gap between two cumulative shares "
        "(Kolmogorov and Smirnov)."
    )
    values = "" if all(group.likeness.has_counts for group in groups) else (
        "Models that do not answer in counts are not asked about zeros and library sizes; a forest tells their cells "
        "at once where real ones have exact zeros."
    )  # fmt: skip
    return [note for note in (compared + rare, told, values) if note]
