"""What a report says before its sections: how the models were trained, and what the data hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from genevae.evaluation.model import EvaluatedModel
from genevae.preprocessing.inspect import Inspection
from genevae.report.records import Lines, Section, Tone, Verdict

__all__ = ["facts_of_data", "findings_of_data", "training"]

_TONES: dict[str, Tone] = {"error": "bad", "warning": "mixed", "note": "plain"}


def training(models: Mapping[str, EvaluatedModel]) -> Section:
    """Say how training went, from the history of each model that has one."""
    known = {name: model for name, model in models.items() if model.history is not None and len(model.history)}
    unknown = [f"{name} has no history of its training." for name in models if name not in known]
    return Section(
        name="training",
        title="Did training go well?",
        verdicts=[_how_it_ended(name, model) for name, model in known.items()],
        charts=[_curves(name, model) for name, model in known.items()],
        notes=[
            "A loss is minus the bound per cell. Losses of different recipes, genes or data are not on one scale.",
            "The training loss is measured with dropout and hidden genes, so it may lie above the validation loss.",
            *unknown,
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


def _how_it_ended(name: str, model: EvaluatedModel) -> Verdict:
    best, n = model.best_epoch, len(_history(model))
    if best == n and n > 1:
        text = f"{name} was still improving in its last epoch ({n}): train it longer, with --epochs."
        return Verdict(text, "mixed", name, f"{n} epochs, still improving", f"train it longer: --epochs {3 * n}")
    return Verdict(
        f"{name} was best after epoch {best} of {n}; {model.ended}.", "good", name, f"best epoch {best} of {n}"
    )


def _history(model: EvaluatedModel) -> pd.DataFrame:
    return pd.DataFrame() if model.history is None else model.history


def _curves(name: str, model: EvaluatedModel) -> Lines:
    """Plot both losses; the first epochs, whose losses are far above all others, are cut off."""
    history = _history(model)
    columns = {"training": "train_loss", "validation": "validation_loss"}
    losses = {title: history[column].to_numpy(dtype=np.float64) for title, column in columns.items()}
    epoch_e = history["epoch"].to_numpy(dtype=np.float64)
    return Lines(
        title=f"Losses of {name}",
        caption="Loss per cell after each epoch. The dotted line is the epoch with the lowest validation loss.",
        x_label="epoch",
        y_label="loss per cell",
        series={title: (epoch_e.tolist(), loss_e.tolist()) for title, loss_e in losses.items()},
        marks={f"best epoch {model.best_epoch}": float(model.best_epoch)},
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
