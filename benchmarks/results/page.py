"""docs/results.md: tables for each question, its target and verdict, and how to reproduce the numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.results.facts import PACKAGES
from benchmarks.results.questions import QUESTIONS
from benchmarks.results.settings import FEWEST_EPOCHS, MOST_EPOCHS, OURS, SEEDS_OF_OTHERS, VISITS
from benchmarks.results.tables import table, table_of

__all__ = ["verdict", "write"]

EARLIER = Path(__file__).with_name("measured_earlier.md")
"""Scores of removed scripts."""
TRIED = Path(__file__).with_name("tried")
"""For some questions, what was tried where a target was missed, measured once while the recipe was developed."""


def write(path: Path, results: Sequence[Mapping[str, Any]], n_jobs: int) -> None:
    """Write the page of all results."""
    found = table_of(results)
    bodies, summary = [], []
    for question in QUESTIONS.values():
        some = found[found["question"] == question.name]
        body = ["Not run."] if some.empty else question.body(some)
        if (tried := TRIED / f"{question.name}.md").exists():
            body = [*body, "", tried.read_text(encoding="utf-8").rstrip()]
        bodies += [f"## {question.title}", "", *body, ""]
        summary.append([question.title, question.target.text, verdict(question.verdicts(some))])
    summaries = table(["question", "target", "verdict"], summary, "---")
    head = ["# Results", "", *introduction(results, n_jobs), "", *summaries, ""]
    text = "\n".join([*head, *bodies, *made_with(results)])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n\n{EARLIER.read_text(encoding='utf-8')}", encoding="utf-8")


def verdict(met: Mapping[str, bool]) -> str:
    """State on which data a target was met, and in bold on which it was missed."""
    missed = [data for data, is_met in met.items() if not is_met]
    if not met:
        return "not run"
    if not missed:
        return "met" if len(met) == 1 else f"met on all {len(met)}"
    return "**missed**" if len(met) == 1 else f"**missed on {len(missed)} of {len(met)}**: {', '.join(missed)}"


def introduction(results: Sequence[Mapping[str, Any]], n_jobs: int) -> list[str]:
    """Describe the page, and how long it took."""
    seeds = sorted({result["seed"] for result in results})
    hours = sum(result["seconds"] for result in results) / 3600
    made = (
        "Our recipes, other methods and baselines on real data, scored by `gv.evaluate` and its parts. `make results` "
        f"trains them and writes this page: {len(results)} of {n_jobs} jobs, seeds {', '.join(map(str, seeds))}, "
        f"{hours * 60:.0f} minutes of the processor, half of that on two cores."
    )
    meaning = (
        "Scores are means over seeds ± half the width of a 95 % Student-t interval. The seed sets the split, the "
        "initial weights and the noise. The first recipe of a question has five seeds (t quantile 2.8), and so do the "
        f"baselines; other methods have {SEEDS_OF_OTHERS}, without an interval, so that all of it takes less than "
        "100 minutes. Recipes use their default settings unless stated otherwise. Missed targets "
        "are in **bold**."
    )
    lines = [made, "", meaning]
    if len(results) < n_jobs:
        lines += ["", f"**{n_jobs - len(results)} jobs are missing: this page is not complete.**"]
    return lines


def made_with(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """State the commits, the machine, the versions and the settings."""
    facts = pd.DataFrame(results)
    every = {name: ", ".join(sorted(set(facts[name].astype(str)))) for name in ("commit", "made", "machine", "python")}
    versions = ", ".join(f"{name} {', '.join(sorted(set(facts[name])))}" for name in PACKAGES if name in facts)
    by_question = facts.groupby("question", sort=False)["seconds"].sum() / 60
    changed = [
        f"{question} {method} `{json.dumps(settings)}`"
        for question, methods in OURS.items()
        for method, settings in methods.items()
        if settings
    ]
    epochs = (
        f"cells visited in training / training cells, between {FEWEST_EPOCHS} and {MOST_EPOCHS}, "
        "for other methods and in *Fit and calibration*; the defaults of our recipes elsewhere. Cells visited"
    )
    return [
        "## Reproducibility",
        "",
        "* command: `make results`, which is `python -m benchmarks.results` in the environment of `.[bench]`",
        f"* commit: {every['commit']}; {every['made']}",
        f"* machine: {every['machine']}; two processes of one thread each",
        f"* Python {every['python']}; {versions}",
        f"* minutes of the processor: {', '.join(f'{name} {minutes:.0f}' for name, minutes in by_question.items())}",
        f"* settings other than the defaults: {'; '.join(changed)}",
        f"* epochs: {epochs}: {', '.join(f'{question} {n:,}' for question, n in VISITS.items())}",
        "* data: `GENEVAE_DATA`, by default `../shared/data`",
    ]
