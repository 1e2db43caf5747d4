"""docs/results.md: tables for each question, what was aimed at and missed, and what it was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.results.facts import PACKAGES
from benchmarks.results.questions import QUESTIONS
from benchmarks.results.settings import FEWEST_EPOCHS, MOST_EPOCHS, OURS, VISITS
from benchmarks.results.tables import table, table_of

__all__ = ["verdict", "write"]

EARLIER = Path(__file__).with_name("measured_earlier.md")
"""Numbers of scripts that are gone."""


def write(path: Path, results: Sequence[Mapping[str, Any]], n_jobs: int) -> None:
    """Write the page of all that was found."""
    found = table_of(results)
    bodies, summary = [], []
    for question in QUESTIONS.values():
        some = found[found["question"] == question.name]
        body = ["Not run."] if some.empty else question.body(some)
        bodies += [f"## {question.title}", "", *body, ""]
        summary.append([question.title, question.target.text, verdict(question.verdicts(some))])
    summaries = table(["question", "target", "verdict"], summary, "---")
    head = ["# Results", "", *introduction(results, n_jobs), "", *summaries, ""]
    text = "\n".join([*head, *bodies, *made_with(results)])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n\n{EARLIER.read_text(encoding='utf-8')}", encoding="utf-8")


def verdict(met: Mapping[str, bool]) -> str:
    """Say on what a target was met, and in bold on what it was missed."""
    missed = [data for data, is_met in met.items() if not is_met]
    if not met:
        return "not run"
    if not missed:
        return "met" if len(met) == 1 else f"met on all {len(met)}"
    return "**missed**" if len(met) == 1 else f"**missed on {len(missed)} of {len(met)}**: {', '.join(missed)}"


def introduction(results: Sequence[Mapping[str, Any]], n_jobs: int) -> list[str]:
    """Say what the page is, and how long it took."""
    seeds = sorted({result["seed"] for result in results})
    hours = sum(result["seconds"] for result in results) / 3600
    made = (
        "Our recipes beside other methods and baselines on real data, all by `gv.evaluate`. `make results` trains them "
        f"and writes this page: {len(results)} of {n_jobs} jobs, seeds {', '.join(map(str, seeds))}, "
        f"{hours * 30:.0f} minutes on two cores."
    )
    meaning = (
        "Numbers are means over seeds ± half of a 95 % interval by Student's t; a seed changes the split, the initial "
        "weights and the noise. With three seeds such an interval is wide: the t quantile is 4.3. Recipes run at their "
        "defaults but for what a table says. **Bold** is where a target was missed."
    )
    lines = [made, "", meaning]
    if len(results) < n_jobs:
        lines += ["", f"**{n_jobs - len(results)} jobs are missing: this page is not complete.**"]
    return lines


def made_with(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the numbers were made with."""
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
    epochs = f"cells visited in training / training cells, {FEWEST_EPOCHS} to {MOST_EPOCHS}, the same for all methods"
    return [
        "## Made with",
        "",
        "* command: `make results`, which is `python -m benchmarks.results` in the environment of `.[bench]`",
        f"* commit: {every['commit']}; {every['made']}",
        f"* machine: {every['machine']}; two processes of one thread each",
        f"* Python {every['python']}; {versions}",
        f"* minutes of one core: {', '.join(f'{name} {minutes:.0f}' for name, minutes in by_question.items())}",
        f"* settings that are not defaults: {'; '.join(changed)}",
        f"* epochs: {epochs}: {', '.join(f'{question} {n:,}' for question, n in VISITS.items())}",
        "* data: `GENEVAE_DATA`, by default `../shared/data`",
    ]
