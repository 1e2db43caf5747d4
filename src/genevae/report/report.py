"""A whole evaluation, and the folder that it is written to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from genevae.report.numbers import significant
from genevae.report.records import Section, Verdict, scores_to_frame

__all__ = ["Report", "metrics_json", "write_metrics"]


@dataclass(frozen=True, kw_only=True)
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

    def __str__(self) -> str:
        """Return the verdicts of every section."""
        lines = []
        for section in (self.training, *self.sections):
            lines += [section.title, *(f"  {_SIGNS[verdict.tone]} {verdict.text}" for verdict in section.verdicts)]
        return "\n".join([*lines, *(f"Skipped: {name}. {reason}" for name, reason in self.skipped.items())])


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
