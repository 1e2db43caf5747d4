"""A whole evaluation, and the folder that it is written to."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from genevae.errors import shorten
from genevae.report.numbers import significant
from genevae.report.records import Section, Verdict, scores_to_frame

__all__ = ["Report", "metrics_json", "write_metrics"]


MOST_RUNS, MOST_WIDTH = 4, 110
"""Runs that the representation shows, and the characters of its columns together."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """What was found about some models, and how.

    Parameters
    ----------
    data
        What the data are called.
    runs
        For each model, its facts by name: recipe, cells, epochs and the like.
    training
        How training went.
    sections
        One for each thing that was evaluated.
    cards, methods
        For models that have them: a model card, by topic, and a paragraph for the methods section of a paper.
    skipped
        For each other section, why it was not computed.
    inspection
        Facts of the data by name.
    findings
        What the inspection found odd in the data.
    sampling
        How the cells were chosen, in sentences.
    seed
        Of all random choices.
    versions
        Of the software.
    command
        What repeats the evaluation; empty where it was not a command.
    """

    data: str
    runs: Mapping[str, Mapping[str, str]]
    training: Section
    sections: Sequence[Section]
    cards: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    methods: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    inspection: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[Verdict] = ()
    sampling: Sequence[str] = ()
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    @property
    def scores(self) -> pd.DataFrame:
        """All scores: a row each, with the section it stands in."""
        return scores_to_frame([self.training, *self.sections])

    def answers(self, run: str) -> dict[str, Verdict]:
        """Return what every section says of a run in a few words, by the section's name."""
        found: dict[str, Verdict] = {}
        for section in (*self.sections, self.training):
            for verdict in section.verdicts:
                if verdict.who == run and verdict.short:
                    found.setdefault(section.name, verdict)
        return found

    def advice(self, run: str) -> str:
        """Return what to do about a run first, in a sentence."""
        sections = (self.training, *self.sections)
        every = [verdict.advice for section in sections for verdict in section.verdicts if verdict.who == run]
        first = next(filter(None, every), "nothing needs to change")
        return f"{first[0].upper()}{first[1:]}."

    def paragraph(self, run: str) -> str:
        """Return what was found of a run, in plain words: where it is good, and each section's sentence."""
        facts, found = self.runs[run], self.answers(run)
        what = [*([f"recipe {facts['Recipe']}"] if "Recipe" in facts else []),
                *([f"{facts['Genes']} genes"] if "Genes" in facts else [])]  # fmt: skip
        sentences = [verdict.text for name, verdict in found.items() if name != self.training.name]
        tones = [(word, [n for n, v in found.items() if v.tone == tone]) for tone, word in _TONES.items()]
        graded = "; ".join(f"{word} in {shorten(names, len(names))}" for word, names in tones if names)
        named = f"{run} ({', '.join(what)})" if what else run
        lead = f"{named} was evaluated on {self.data}"
        return " ".join([f"{lead}: {graded}." if graded else f"{lead}.", *sentences])

    @property
    def summary(self) -> pd.DataFrame:
        """What was found, in a few words: a row per section, a column per run."""
        answers = {run: self.answers(run) for run in self.runs}
        names = [s.name for s in (*self.sections, self.training) if any(s.name in each for each in answers.values())]
        columns = {
            run: [f"{_SIGNS[each[name].tone]} {each[name].short}" if name in each else "" for name in names]
            for run, each in answers.items()
        }
        return pd.DataFrame(columns, index=pd.Index(names, name="section"))

    def __repr__(self) -> str:
        runs = list(self.runs)
        width = MOST_WIDTH // min(len(runs), MOST_RUNS)
        table = self.summary[runs[:MOST_RUNS]].map(lambda text: textwrap.shorten(text, width, placeholder="…"))
        more = f"; {len(runs) - MOST_RUNS} more in report.summary" if len(runs) > MOST_RUNS else ""
        return "\n".join([
            f"{shorten(runs, MOST_RUNS)} on {self.data}, seed {self.seed}{more}",
            *(textwrap.shorten(sentence, MOST_WIDTH, placeholder="…") for sentence in self.sampling[:1]),
            *(table.rename_axis(None).to_string().splitlines() if len(table) else ["No section was computed."]),
            *(f"{run}: {self.advice(run)}" for run in runs[:MOST_RUNS]),
            *([f"skipped: {', '.join(self.skipped)}; report.skipped says why"] if self.skipped else []),
            "+ good, ± mixed, − poor; all numbers: report.scores; all findings: print(report)",
        ])  # fmt: skip

    def _repr_html_(self) -> str:
        advice = "".join(f"<li><b>{escape(run)}</b>: {escape(self.advice(run))}</li>" for run in self.runs)
        return f"<p>{escape(self.data)}</p>{self.summary.to_html()}<ul>{advice}</ul>"

    def __str__(self) -> str:
        """Return the verdicts of every section."""
        lines = []
        for section in (self.training, *self.sections):
            lines += [section.title, *(f"  {_SIGNS[verdict.tone]} {verdict.text}" for verdict in section.verdicts)]
        return "\n".join([*lines, *(f"Skipped: {name}. {reason}" for name, reason in self.skipped.items())])


_TONES = {"good": "good", "mixed": "mixed", "bad": "poor"}
_SIGNS = {"good": "+", "bad": "−", "mixed": "±", "plain": "·"}


def write_metrics(report: Report, folder: Path) -> None:
    """Write ``metrics.json`` and ``metrics.csv`` into a folder."""
    text = json.dumps(metrics_json(report), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    report.scores.to_csv(folder / "metrics.csv", index=False)


def metrics_json(report: Report) -> dict[str, Any]:
    """Return all but the charts, as JSON; numbers that are not finite become null."""
    return {
        "data": report.data,
        "runs": {name: dict(facts) for name, facts in report.runs.items()},
        "summary": {name: report.paragraph(name) for name in report.runs},
        "cards": {name: dict(card) for name, card in report.cards.items()},
        "methods": dict(report.methods),
        "sections": [_section(section) for section in (report.training, *report.sections)],
        "skipped": dict(report.skipped),
        "inspection": dict(report.inspection),
        "findings": [asdict(finding) for finding in report.findings],
        "sampling": list(report.sampling),
        "seed": report.seed,
        "versions": dict(report.versions),
        "command": report.command,
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        "name": section.name,
        "title": section.title,
        "verdicts": [asdict(verdict) for verdict in section.verdicts],
        "scores": [{name: _plain(value) for name, value in asdict(score).items()} for score in section.scores],
        "notes": list(section.notes),
    }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else significant(float(value), 15)
