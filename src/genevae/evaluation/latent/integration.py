"""How well a latent brings batches together and keeps what the cells are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from genevae.evaluation.cell_selection import sample
from genevae.evaluation.latent.embeddings import Embeddings
from genevae.metrics.integration import FEWEST, TOTALS, integration_scores
from genevae.metrics.latent import categories_of, scored_n
from genevae.report.records import Score, Verdict
from genevae.runs.trained import Trained

__all__ = ["integrated"]

N_CELLS = 2000
"""Cells that the scores are made of."""
KINDS = ("type", "label", "cluster", "tissue")
"""Words in the names of fields that say what a cell is."""


def integrated(embeddings: Embeddings) -> tuple[list[Score], list[Verdict], list[str]]:
    """Score all runs by the scores of scIB, where one of them has a technical batch and another field is there."""
    batch = next((run.schema.batch for run in embeddings.runs.values() if run.schema.batch), None)
    obs = embeddings.context.cells.obs.iloc[embeddings.row_n]
    if batch is None or batch not in obs:
        return [], [], ["Integration is not scored: no run was told of a technical batch (fit --batch FIELD)."]
    label = _label(embeddings, batch)
    if label is None:
        return [], [], [f"Integration of {batch} is not scored: no other field says what the cells are."]
    rows = _rows(embeddings, obs, batch, label)
    labels, batches = (obs[name].astype(str).to_numpy()[rows] for name in (label, batch))
    if len(rows) < FEWEST or min(len(set(labels)), len(set(batches))) < 2:
        return [], [], [f"Integration of {batch} is not scored: too few cells of two batches and two kinds ({label})."]
    spaces = {who: z[rows] for who, z in embeddings.everywhere.items()}
    found = {
        who: integration_scores(z, labels, batches, spaces[_beside(embeddings, who)], embeddings.context.seed)
        for who, z in spaces.items()
    }
    scores = [
        Score(metric=metric, who=who, value=value, role="run" if who in embeddings.runs else "baseline",
              of="scIB", ideal=1)
        for who, values in found.items()
        for metric, value in values.items()
    ]  # fmt: skip
    return scores, [_verdict(embeddings, run, found, batch) for run in embeddings.runs], [*_notes(embeddings, label, batch, rows)]


def _beside(embeddings: Embeddings, who: str) -> str:
    """Name the components that stand for the cells before integration; those of components are themselves."""
    return embeddings.beside(who) if who in embeddings.runs else who


def _label(embeddings: Embeddings, batch: str) -> str | None:
    """Choose the field that says what cells are: no batch or intervention, better one that no run was given."""
    fields = [str(f) for f in embeddings.context.fields if f != batch and not _is_intervention(f, embeddings.runs.values())]
    given = {field for run in embeddings.runs.values() for field in run.schema.fields}

    def rank(field: str) -> tuple[bool, bool]:
        return not any(kind in field.lower() for kind in KINDS), field in given

    return min(fields, key=rank, default=None)


def _is_intervention(field: str, runs: Iterable[Trained]) -> bool:
    return any(c.name == field and c.control is not None for run in runs for c in run.schema.categorical)


def _rows(embeddings: Embeddings, obs: pd.DataFrame, batch: str, label: str) -> Any:
    """Return the cells with both fields, some of them where there are many."""
    labels = categories_of(obs[label])
    known = obs[batch].notna().to_numpy()
    return sample(known if labels is None else known & scored_n(labels), N_CELLS, embeddings.context.seed)


def _verdict(embeddings: Embeddings, run: str, found: dict[str, dict[str, float]], batch: str) -> Verdict:
    ours, theirs = found[run], found[embeddings.beside(run)]
    parts = [f"{name.lower()} {ours[name]:.2f} (PCA {theirs[name]:.2f})" for name in TOTALS]
    ahead = ours["Total"] - theirs["Total"]
    tone: Any = "good" if ahead > 0.01 else "bad" if ahead < -0.01 else "plain"
    words = "better than" if ahead > 0.01 else "worse than" if ahead < -0.01 else "as well as"
    return Verdict(f"{run} integrates {batch} {words} PCA: {', '.join(parts)}.", tone)


def _notes(embeddings: Embeddings, label: str, batch: str, rows: Any) -> Iterable[str]:
    yield (
        f"Integration: the scores of scIB (Luecken et al. 2022) on {len(rows):,} cells, with {label} as label and "
        f"{batch} as batch; total = 0.6 · bio + 0.4 · batch. Training cells are among them, as is usual for these "
        "scores. PCR comparison of PCA itself is 0 by definition."
    )
    told = [name for name, run in embeddings.runs.items() if label in run.schema.fields]
    if told:
        yield f"{', '.join(told)} was given {label}: its latent need not hold it, and scIB counts that against it."
