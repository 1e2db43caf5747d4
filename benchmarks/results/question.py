"""A question of the suite: the models, the data they are trained on, and the scores of `gv.evaluate` that answer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from anndata import AnnData
from benchmarks.results.jobs import Job, Rows
from benchmarks.results.settings import SEEDS_OF_OTHERS, TRIED
from benchmarks.results.tables import shown, table, values_of

import genevae as gv
from genevae.metrics.metric import Metric

__all__ = ["Mean", "Question", "Target"]

Mean = Callable[[str, str], float]
"""Returns the mean over seeds of a row and a score."""

MOST_CELLS = 20_000
QUICK_DATA = 3
"""Data sets of a question in a quick run, at most."""


@dataclass(frozen=True)
class Target:
    """A threshold for the scores.

    Parameters
    ----------
    text
        Its description.
    is_met
        Whether it is met on a data set, given a function that returns the mean of a row and score.
    is_met_on_average
        The same on the mean over data sets, if there is a further threshold for it.
    is_met_on
        Further thresholds for some data sets, by name.
    """

    text: str
    is_met: Callable[[Mean], bool]
    is_met_on_average: Callable[[Mean], bool] | None = None
    is_met_on: Mapping[str, Callable[[Mean], bool]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One section of the page.

    Parameters
    ----------
    name, title, introduction
        Of the section.
    section
        The section of `gv.evaluate` that computes it.
    data
        Data sets, held-out cell types or folds: models are trained on one at a time.
    methods
        Methods to train, one job each.
    models
        Trains the models of a job, by the names of their rows, and returns them with the cells to evaluate them on.
    rows_of
        Runs a job instead, and returns its rows; for questions that `gv.evaluate` does not put.
    scores
        For each column its metric, and the field or part of the cells it is computed on.
    rows
        The rows of the tables: methods, baselines and ceilings.
    target
        The threshold.
    by_data
        Whether there is one table per score with a row per data set, rather than the reverse.
    digits
        After the decimal point.
    deviation
        Whether tables show the standard deviation over seeds, rather than the interval of the mean.
    """

    name: str
    title: str
    introduction: str
    section: str
    data: Sequence[str]
    methods: Sequence[str]
    scores: Mapping[str, tuple[Metric, str]]
    rows: Sequence[str]
    target: Target
    models: Callable[[Job], tuple[Mapping[str, Any], AnnData]] | None = None
    rows_of: Callable[[Job], Rows] | None = None
    by_data: bool = False
    digits: int = 3
    deviation: bool = False

    def jobs(self, seed: int, quick: bool) -> list[Job]:
        """Return every method on every data set; of later seeds the first method, one of our recipes, alone."""
        others = (*self.methods[1:], *TRIED.get(self.name, {})) if seed < SEEDS_OF_OTHERS else ()
        methods = (self.methods[0], *others)
        some = self.data[:QUICK_DATA] if quick else self.data
        return [Job(self.name, data, method, seed, quick) for data in some for method in methods]

    def run(self, job: Job) -> Rows:
        """Train, evaluate, and return the scores of this question: of the models, the baselines and the ceilings."""
        if self.rows_of is not None:
            return self.rows_of(job)
        if self.models is None:
            raise ValueError(f"{self.name} says neither models nor rows_of")
        models, adata = self.models(job)
        report = gv.evaluate(
            models, adata, sections=[self.section], cells=MOST_CELLS, seed=job.seed, progress=False
        )  # fmt: skip
        if report.skipped:
            raise AssertionError(report.skipped)
        found: dict[str, dict[str, float]] = {}
        for name, (metric, of) in self.scores.items():
            some = report.scores[(report.scores["metric"] == metric.name) & (report.scores["of"] == of)]
            for who, value in zip(some["who"], some["value"], strict=True):
                found.setdefault(who, {})[name] = float(value)
        return found

    def verdicts(self, found: pd.DataFrame) -> dict[str, bool]:
        """Return for each data set whether the target is met, and for their mean if it has a threshold."""

        def mean_on(data: str | None) -> Mean:
            return lambda row, score: float(values_of(found, row, score, data).mean())

        met = {data: bool(self.target.is_met(mean_on(data))) for data in self.data if data in set(found["data"])}
        for data in met.keys() & self.target.is_met_on.keys():
            met[data] = met[data] and bool(self.target.is_met_on[data](mean_on(data)))
        if met and self.target.is_met_on_average is not None:
            met["the mean"] = bool(self.target.is_met_on_average(mean_on(None)))
        return met

    def body(self, found: pd.DataFrame) -> list[str]:
        """Write the introduction and the tables."""
        lines = [self.introduction, ""]
        rows = [row for row in self.rows if row in set(found["row"])]
        for head, table_rows in self._tables(found, rows):
            lines += [*table(head, table_rows), ""]
        if tried := [name for name in TRIED.get(self.name, {}) if name in set(found["row"])]:
            lines += ["Variants tried because the target was missed. Each differs from the defaults only as named:", ""]
            for head, table_rows in self._tables(found, [self.methods[0], *tried]):
                lines += [*table(head, table_rows), ""]
        return lines[:-1]

    def _tables(self, found: pd.DataFrame, rows: Sequence[str]) -> list[tuple[list[str], list[list[str]]]]:
        every = [data for data in self.data if data in set(found["data"])]

        def text(row: str, score: str, data: str | None) -> str:
            return shown(values_of(found, row, score, data), self.digits, self.deviation)

        if not self.by_data:
            return [
                ([data, *self.scores], [[row, *(text(row, s, data) for s in self.scores)] for row in rows])
                for data in every
            ]
        each = [(data, data) for data in every] + ([("mean", None)] if len(every) > 1 else [])
        return [
            ([f"{s}, {metric.direction} is better", *rows], [[n, *(text(r, s, d) for r in rows)] for n, d in each])
            for s, (metric, _) in self.scores.items()
        ]
