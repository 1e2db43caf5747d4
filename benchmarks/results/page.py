"""docs/results.md: a table per question, what was aimed at and missed, and what it was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.results import bulk, fit, integration, labels, perturbation, simulation
from benchmarks.results.facts import PACKAGES
from benchmarks.results.numbers import table_of
from benchmarks.results.settings import FEWEST_EPOCHS, MOST_EPOCHS, OURS, VISITS
from benchmarks.results.table import Verdict, table

__all__ = ["write"]

SECTIONS = (
    ("Fit", "fit", fit.section, "the bound of nb is at or above that of SCVI on every count data set"),
    ("Calibration", "fit", fit.coverage_section, "90 % intervals of nb hold 86 to 94 % on every count data set"),
    ("Integration", "integration", integration.section, "the scIB total of nb or adversarial is at or above SCVI's"),
    (
        "Perturbation", "perturbation", perturbation.section,
        "Pearson-Δ above the mean shift for every type, 0.89 or more on average, with an E-distance below no change",
    ),
    ("Simulation", "simulation", simulation.section, "a random forest's AUC of 0.60 or less"),
    ("Labels", "labels", labels.section, "accuracy at or above SCANVI's"),
    ("Bulk", "bulk", bulk.section, "tissue accuracy at or above PCA's"),
)  # fmt: skip


def write(path: Path, results: Sequence[Mapping[str, Any]], n_jobs: int) -> None:
    """Write the page of all that was found."""
    found = table_of(results)
    bodies, summary = [], []
    for title, question, section, target in SECTIONS:
        some = found[found["question"] == question]
        if some.empty:
            bodies += [f"## {title}", "", "Not run.", ""]
            summary.append([title, target, "not run"])
            continue
        lines, verdicts = section(some)
        bodies += [f"## {title}", "", *lines, ""]
        summary.append([title, target, judged(verdicts)])
    summaries = table(["question", "target", "verdict"], summary, "---")
    head = ["# Results", "", *introduction(results, n_jobs), "", *summaries, ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*head, *bodies, *made_with(results)]) + "\n", encoding="utf-8")


def judged(verdicts: Sequence[Verdict]) -> str:
    """Say on what a target was met, and in bold on what it was missed."""
    missed = [verdict.on for verdict in verdicts if not verdict.met]
    if not missed:
        return "met" if len(verdicts) == 1 else f"met on all {len(verdicts)}"
    if len(verdicts) == 1:
        return "**missed**"
    return f"**missed on {len(missed)} of {len(verdicts)}**: {', '.join(missed)}"


def introduction(results: Sequence[Mapping[str, Any]], n_jobs: int) -> list[str]:
    """Say what the page is, and how long it took."""
    seeds = sorted({result["seed"] for result in results})
    hours = sum(result["seconds"] for result in results) / 3600
    made = (
        "Our recipes beside peers and baselines on real data. `make results` trains them and writes this page: "
        f"{len(results)} of {n_jobs} jobs, seeds {', '.join(map(str, seeds))}, {hours * 30:.0f} minutes on two cores. "
        "No number on it is written by hand."
    )
    meant = (
        "Numbers are means over seeds ± half of a 95 % interval by Student's t; a seed changes the split, the initial "
        "weights and the noise. With three seeds such an interval is wide: the t quantile is 4.3. Recipes run at their "
        "defaults but for what a table says. **Bold** is where a target was missed."
    )
    lines = [made, "", meant]
    if len(results) < n_jobs:
        lines += ["", f"**{n_jobs - len(results)} jobs are missing: this page is not complete.**"]
    return lines


def told_settings() -> list[str]:
    """Say what was changed of the recipes' defaults, and for how long anything trains."""
    changed = [
        f"{question} {method} `{json.dumps(words)}`"
        for question, methods in OURS.items()
        for method, words in methods.items()
        if words
    ]
    visits = ", ".join(f"{question} {n:,}" for question, n in VISITS.items())
    epochs = f"cells visited in training / training cells, {FEWEST_EPOCHS} to {MOST_EPOCHS}, alike for all methods"
    return [f"* settings that are not defaults: {'; '.join(changed)}", f"* epochs: {epochs}: {visits}"]


def made_with(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the numbers were made with."""
    facts = pd.DataFrame(results)
    told = {name: ", ".join(sorted(set(facts[name].astype(str)))) for name in ("commit", "made", "machine", "python")}
    versions = ", ".join(f"{name} {', '.join(sorted(set(facts[name])))}" for name in PACKAGES if name in facts)
    by_question = facts.groupby("question", sort=False)["seconds"].sum() / 60
    spent = ", ".join(f"{question} {minutes:.0f}" for question, minutes in by_question.items())
    return [
        "## Made with",
        "",
        "* command: `make results`, which is `python -m benchmarks.results` in the environment of `.[bench]`",
        f"* commit: {told['commit']}; {told['made']}",
        f"* machine: {told['machine']}; two processes of one thread each",
        f"* Python {told['python']}; {versions}",
        f"* minutes of one core: {spent}",
        *told_settings(),
        "* data: `GENEVAE_DATA`, by default `../shared/data`",
    ]
