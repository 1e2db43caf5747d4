"""What a report says before any question is asked: which runs these are, how they were trained, what the data hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from genevae.metrics.latent import dead_dimensions
from genevae.preprocessing.inspect import Inspection
from genevae.report.records import Lines, Section, Tone, Verdict
from genevae.runs.trained import Trained

__all__ = ["facts_of_data", "facts_of_run", "findings_of_data", "training"]

_TONES: dict[str, Tone] = {"error": "bad", "warning": "mixed", "note": "plain"}


def facts_of_run(run: Trained) -> dict[str, str]:
    """Return what a reader wants to know of a run, by name."""
    schema, facts = run.schema, run.facts
    parts = run.split.value_counts()
    return {
        "Recipe": run.recipe.name,
        "Trained on": str(facts.get("data", "unknown data")),
        "Cells": ", ".join(f"{parts[part]:,} {part}" for part in ("training", "validation", "test") if part in parts),
        "Genes": f"{len(schema.genes):,}",
        "Values": f"{schema.kind}, seen as {schema.input_kind}",
        "Conditions": ", ".join(schema.fields) or "none",
        "Latent dimensions": _dimensions(run),
        "Epochs": f"{len(run.history)}, the best {facts['best_epoch']}; {facts['ended']}",
        "Seed": str(facts.get("seed", "unknown")),
        "Made with": ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
        or "this version",
    }


def training(runs: Mapping[str, Trained]) -> Section:
    """Tell how training went, from the history of each run."""
    return Section(
        name="training",
        title="Did training go well?",
        verdicts=[_how_it_ended(name, run) for name, run in runs.items()],
        charts=[_curves(name, run) for name, run in runs.items()],
        notes=[
            "A loss is minus the bound per cell. Losses of different recipes, genes or data are not on one scale.",
            "The training loss is measured with dropout and hidden genes, so it may lie above the validation loss.",
        ],
    )


def facts_of_data(found: Inspection) -> dict[str, str]:
    """Return what the inspection says of the data, by name."""
    covariates = "; ".join(
        f"{name} ({levels:,} levels)" if isinstance(levels, int) else f"{name} ({levels[0]:.3g} to {levels[1]:.3g})"
        for name, levels in found.covariates.items()
    )
    sampled = "" if found.n_sampled == found.n_cells else f", seen in {found.n_sampled:,} cells"
    return {
        "Size": f"{found.n_cells:,} cells × {found.n_genes:,} genes",
        "Values": f"{found.kind}; the largest {found.max_value:,.4g}; median total {found.median_size:,.4g} per cell",
        "Not zero": f"{found.density:.1%} of the entries{sampled}",
        "Columns": covariates or "none",
        "Suggested recipe": found.recipe,
    }


def findings_of_data(found: Inspection) -> list[Verdict]:
    """Return what the inspection found odd."""
    odd = [Verdict(finding.text, _TONES[finding.level]) for finding in found.findings]
    return odd or [Verdict("Nothing odd was found.", "good")]


def _dimensions(run: Trained) -> str:
    """Say how many there are, and in how many of them the training cells hardly differ."""
    mean_nk = run.reference.mean_nk.cpu().numpy()
    n_dead = dead_dimensions(mean_nk)
    return f"{mean_nk.shape[1]}, of which {n_dead or 'none'} {'are' if n_dead > 1 else 'is'} dead"


def _how_it_ended(name: str, run: Trained) -> Verdict:
    best, n = int(run.facts["best_epoch"]), len(run.history)
    if best == n and n > 1:
        return Verdict(f"{name} was still improving in its last epoch ({n}): train it longer, with --epochs.", "mixed")
    return Verdict(f"{name} was best after epoch {best} of {n}; {run.facts['ended']}.", "good")


def _curves(name: str, run: Trained) -> Lines:
    """Draw both losses; the first epochs, whose losses are far above all others, are cut off."""
    columns = {"training": "train_loss", "validation": "validation_loss"}
    losses = {title: run.history[column].to_numpy(dtype=np.float64) for title, column in columns.items()}
    epoch_e = run.history["epoch"].to_numpy(dtype=np.float64)
    best = float(run.facts["best_epoch"])
    return Lines(
        title=f"Losses of {name}",
        caption="Loss per cell after each epoch. The dotted line is the epoch whose weights were kept.",
        x_label="epoch",
        y_label="loss per cell",
        series={title: (epoch_e.tolist(), loss_e.tolist()) for title, loss_e in losses.items()},
        marks={f"best epoch {best:.0f}": best},
        y_range=_shown(losses),
    )


def _shown(losses: Mapping[str, Any]) -> tuple[float, float] | None:
    known = [loss_e[np.isfinite(loss_e)] for loss_e in losses.values()]
    known = [loss_e for loss_e in known if len(loss_e)]
    if not known:
        return None
    low = min(float(loss_e.min()) for loss_e in known)
    high = max(float(np.quantile(loss_e, 0.95)) for loss_e in known)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (low - room, high + room) if math.isfinite(high) else None
