"""How well a latent mixes batches and keeps cell types apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from genevae.evaluation.context import LABEL_NAMES
from genevae.evaluation.latent.embeddings import Embeddings
from genevae.metrics.integration import FEWEST, SCIB, TOTALS, integration_scores
from genevae.metrics.latent import categories_of, scored_n
from genevae.metrics.sampling import subsample
from genevae.report.records import Score, Verdict

__all__ = ["integrated"]

N_CELLS = 2000
"""Cells that the scores are computed from."""


def integrated(embeddings: Embeddings) -> tuple[list[Score], list[Verdict], list[str]]:
    """Score all models by scIB, where one of them has a technical batch and the data a label."""
    batch = next((m.schema.batch for m in embeddings.models.values() if m.schema.batch), None)
    obs = embeddings.context.cells.obs.iloc[embeddings.row_n]
    if batch is None or batch not in obs:
        return [], [], ["Integration is not scored: no model was given a technical batch (fit --batch FIELD)."]
    label = _label(embeddings, batch)
    if label is None:
        return [], [], [f"Integration of {batch} is not scored: no other field says what the cells are."]
    categories = categories_of(obs[label])
    known = obs[batch].notna().to_numpy() & (True if categories is None else scored_n(categories))
    rows = subsample(known, N_CELLS, embeddings.context.seed)
    labels, batches = (obs[name].astype(str).to_numpy()[rows] for name in (label, batch))
    if len(rows) < FEWEST or min(len(set(labels)), len(set(batches))) < 2:
        return [], [], [f"Integration of {batch} is not scored: too few cells of two batches and two labels ({label})."]
    spaces = {who: z[rows] for who, z in embeddings.everywhere.items()}
    found = {}
    for who, z in spaces.items():
        plain = spaces[embeddings.baseline(who) if who in embeddings.models else who]
        found[who] = integration_scores(z, labels, batches, plain, embeddings.context.seed)
    scores = [
        Score.of_metric(SCIB[metric], who, value, embeddings.role(who), "scIB")
        for who, values in found.items()
        for metric, value in values.items()
    ]
    verdicts = [_verdict(embeddings, name, found, batch) for name in embeddings.models]
    return scores, verdicts, [*_notes(embeddings, label, batch, rows)]


def _label(embeddings: Embeddings, batch: str) -> str | None:
    """Choose the field that says what cells are: no batch or intervention, better one that no model was given."""
    covariates = [c for model in embeddings.models.values() for c in model.schema.covariates]
    interventions = {c.name for c in covariates if getattr(c, "control", None) is not None}
    given = {c.name for c in covariates}

    def rank(field: str) -> tuple[bool, bool]:
        return not any(part in field.lower() for part in LABEL_NAMES), field in given

    return min((str(f) for f in embeddings.context.fields if f not in {batch, *interventions}), key=rank, default=None)


def _verdict(embeddings: Embeddings, name: str, found: dict[str, dict[str, float]], batch: str) -> Verdict:
    ours, theirs = found[name], found[embeddings.baseline(name)]
    parts = [f"{total.lower()} {ours[total]:.2f} (PCA {theirs[total]:.2f})" for total in TOTALS]
    ahead = ours["Total"] - theirs["Total"]
    tone: Any = "good" if ahead > 0.01 else "bad" if ahead < -0.01 else "plain"
    how = "better than" if ahead > 0.01 else "worse than" if ahead < -0.01 else "as well as"
    total = f"scIB {ours['Total']:.2f} (PCA {theirs['Total']:.2f})"
    mixed = ours["Batch correction"] >= theirs["Batch correction"]
    advice = "" if tone != "bad" else (
        f"for cell types, PCA is the better embedding of these cells: train it longer, or without {batch}" if mixed
        else f"to mix {batch}, try --recipe adversarial"
    )  # fmt: skip
    return Verdict(f"{name} integrates {batch} {how} PCA: {', '.join(parts)}.", tone, name, total, advice)


def _notes(embeddings: Embeddings, label: str, batch: str, rows: Any) -> Iterable[str]:
    yield (
        f"Integration: the scores of scIB (Luecken et al. 2022) on {len(rows):,} cells, with {label} as label and "
        f"{batch} as batch; total = 0.6 · bio + 0.4 · batch. Training cells are among them, as is usual for these "
        "scores. PCR comparison of PCA itself is 0 by definition."
    )
    given = [name for name, model in embeddings.models.items() if label in model.schema.fields]
    if given:
        yield f"{', '.join(given)} was given {label}: its latent need not hold it, and scIB counts that against it."
