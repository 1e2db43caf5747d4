"""What the latent holds: which fields of the cells, which of its conditions, and in how many dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.evaluation.cell_selection import missing_requirement
from genevae.evaluation.context import LABEL_NAMES, EvaluationContext
from genevae.evaluation.latent.embeddings import Embeddings, embed_cells
from genevae.evaluation.latent.gene_embeddings import gene_similarity
from genevae.evaluation.latent.integration import integrated
from genevae.evaluation.latent.separation import leakage, separation
from genevae.metrics.latent import (
    DEAD_DIMENSIONS,
    DIMENSION_CORRELATION,
    correlation_of_dimensions,
    dead_dimensions,
    shown_fields,
)
from genevae.metrics.sampling import subsample
from genevae.plotting.projections import MAPS, Projections, has_umap
from genevae.report.records import Bars, Map, Score, Section, Verdict

__all__ = ["evaluate", "unavailable_reason"]

N_EVALUATION = 5000
N_SHOWN = 50_000
N_PROJECTED = 1000
"""Cells that t-SNE and UMAP are computed from; others are put between their neighbours."""


def unavailable_reason(context: EvaluationContext) -> str | None:
    """Return why this section cannot be computed; None where it can."""
    return missing_requirement(context, "embed")


def evaluate(context: EvaluationContext) -> Section:
    """Embed the cells, and score what can be read from the latent.

    Fields that a model was not given should separate in it; of those that it was given, little should be left.
    """
    embeddings = embed_cells(context, N_EVALUATION)
    scores, verdicts = separation(embeddings)
    leaks, findings = leakage(embeddings)
    batches, batch_findings, batch_notes = integrated(embeddings)
    similarities, gene_findings, gene_notes = gene_similarity(embeddings)
    shape, dead = _dimensions(embeddings)
    return Section(
        name="latent",
        title="What does the latent hold?",
        verdicts=[*batch_findings, *verdicts, *findings, *dead, *gene_findings],
        scores=[*batches, *scores, *leaks, *shape, *similarities],
        charts=[*_maps(embeddings), *_variances(embeddings)],
        notes=[*_notes(embeddings), *batch_notes, *gene_notes, *context.lacking("embed")],
    )


def _dimensions(embeddings: Embeddings) -> tuple[list[Score], list[Verdict]]:
    """Count dead dimensions, and score how far the others repeat each other."""
    scores, verdicts = [], []
    for who, z in embeddings.spaces.items():
        n, n_dead, role = z.shape[1], dead_dimensions(z), embeddings.role(who)
        scores += [
            Score.of_metric(DEAD_DIMENSIONS, who, n_dead, role),
            Score.of_metric(DIMENSION_CORRELATION, who, correlation_of_dimensions(z), role),
        ]
        if role == "run":
            tone: Any = "good" if not n_dead else "mixed" if n_dead <= n / 2 else "bad"
            dead = f"{n_dead} of the {n} dimensions of {who} are dead: cells hardly differ in them."
            text = dead if n_dead else f"All {n} dimensions of {who} are in use."
            advice = f"fewer dimensions would do: --n-latent {max(n - n_dead, 2)}" if tone == "bad" else ""
            verdicts.append(Verdict(text, tone, who, f"{n - n_dead} of {n} dimensions in use", advice))
    return scores, verdicts


def _maps(embeddings: Embeddings) -> Iterator[Map]:
    """Map the cells of each model in two dimensions."""
    shown = subsample(np.ones(len(embeddings.row_n), dtype=bool), N_SHOWN, embeddings.context.seed)
    rows = embeddings.row_n[shown]
    obs = embeddings.context.cells.obs.iloc[rows]
    maps = [each for each in reversed(MAPS) if each != "umap" or has_umap()]
    for name, z in embeddings.latents.items():
        spaces = Projections(z[shown], embeddings.context.seed, N_PROJECTED, maps)
        part = embeddings.context.part_n(name).to_numpy(dtype=object)[rows]
        yield Map(
            title=f"Cells in the latent of {name}",
            who=name,
            spaces=spaces,
            fields={**_labels_first(shown_fields(obs)), "part in training": part},
            caption="Each dot is a cell. Distances within a cloud mean more than those between clouds.",
        )


def _labels_first(fields: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Put fields that say what a cell is before other categories, and these before numbers."""

    def rank(name: str) -> tuple[bool, bool]:
        is_number = np.issubdtype(fields[name].dtype, np.number)
        return is_number, not any(part in name.lower() for part in LABEL_NAMES)

    return {name: fields[name] for name in sorted(fields, key=rank)}


def _variances(embeddings: Embeddings) -> Iterator[Bars]:
    for name, z in embeddings.latents.items():
        variance_k = np.sort(z[embeddings.evaluation].var(0))[::-1]
        yield Bars(
            title=f"Variance of each dimension of {name}",
            names=[str(number) for number in range(1, len(variance_k) + 1)],
            series={name: [float(v) for v in variance_k]},
            x_label="variance of the posterior means over the evaluation cells",
            caption="Sorted. Below 0.01 a dimension is dead.",
        )


def _notes(embeddings: Embeddings) -> Iterator[str]:
    n = len(embeddings.evaluation)
    n_evaluation = int(embeddings.context.evaluation_n.sum())
    yield f"Scores are of {f'{n:,} of ' if n < n_evaluation else ''}{embeddings.context.evaluation_note}"
    yield (
        "PCA: principal components of log-normalised expression of the same genes, fitted to "
        + ("training cells." if embeddings.has_training_cells else "the evaluation cells: there are no training cells.")
    )
    for name, model in embeddings.models.items():
        if model.schema.fields:
            yield f"{name} was given {', '.join(model.schema.fields)}; its latent need not hold what it was given."
    if len(embeddings.row_n) > N_PROJECTED:
        yield (
            f"t-SNE and UMAP are computed from {N_PROJECTED:,} of the {len(embeddings.row_n):,} cells; each other cell "
            "is put between its nearest neighbours."
        )
    if not has_umap():
        yield "umap-learn is not installed (pip install 'genevae[umap]'): there is no UMAP."
