"""What the latent holds: which fields of the cells, which of its conditions, and in how many dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from genevae.evaluation.cell_selection import lacks, sample
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.latent.embeddings import Embeddings, place
from genevae.evaluation.latent.gene_embeddings import gene_likeness
from genevae.evaluation.latent.integration import integrated
from genevae.evaluation.latent.separation import leakage, separation
from genevae.metrics.latent import correlation_of_dimensions, dead_dimensions, shown_fields
from genevae.plotting.projections import MAPS, TITLES, has_umap, project_2d
from genevae.report.records import Bars, Map, Score, Section, Verdict

__all__ = ["evaluate", "unavailable_reason"]

N_EVALUATION = 5000
N_SHOWN = 50_000
N_DRAWN = 1000
"""Cells that t-SNE and UMAP are made of; others are put beside their neighbours."""


def unavailable_reason(context: EvaluationContext) -> str | None:
    """Say in a sentence why the question cannot be asked; nothing where it can."""
    return lacks(context)


def evaluate(context: EvaluationContext) -> Section:
    """Embed the cells, and score what can be read from where they lie.

    Fields that a run was not given should lie apart in it; of those that it was given, little should be left.
    """
    embeddings = place(context, N_EVALUATION)
    scores, verdicts = separation(embeddings)
    leaks, findings = leakage(embeddings)
    batches, batch_findings, batch_notes = integrated(embeddings)
    likeness, gene_findings, gene_notes = gene_likeness(embeddings)
    shape, dead = _dimensions(embeddings)
    return Section(
        name="latent",
        title="What does the latent hold?",
        verdicts=[*batch_findings, *verdicts, *findings, *dead, *gene_findings],
        scores=[*batches, *scores, *leaks, *shape, *likeness],
        charts=[*_maps(embeddings), *_variances(embeddings)],
        notes=[*_notes(embeddings), *batch_notes, *gene_notes],
    )


def _dimensions(embeddings: Embeddings) -> tuple[list[Score], list[Verdict]]:
    """Count dead dimensions, and say how far the others repeat each other."""
    scores, verdicts = [], []
    for who, z in embeddings.spaces.items():
        n, n_dead, role = z.shape[1], dead_dimensions(z), "run" if who in embeddings.runs else "baseline"
        same: Any = {"who": who, "role": role, "better": "lower", "ideal": 0}
        scores += [
            Score(metric="dead dimensions", value=n_dead, **same),
            Score(metric="correlation of dimensions", value=correlation_of_dimensions(z), **same),
        ]
        if role == "run":
            tone: Any = "good" if not n_dead else "mixed" if n_dead <= n / 2 else "bad"
            words = f"{n_dead} of the {n} dimensions of {who} are dead: they tell nothing of these cells"
            verdicts.append(Verdict(f"{words}." if n_dead else f"All {n} dimensions of {who} are in use.", tone))
    return scores, verdicts


def _maps(embeddings: Embeddings) -> Iterator[Map]:
    """Draw the cells of each run in two dimensions."""
    shown = sample(np.ones(len(embeddings.row_n), dtype=bool), N_SHOWN, embeddings.context.seed)
    rows = embeddings.row_n[shown]
    obs = embeddings.context.cells.obs.iloc[rows]
    names = [name for name in MAPS if name != "umap" or has_umap()]
    for run, z in embeddings.latents.items():
        spaces = {TITLES[name]: project_2d(name, z[shown], embeddings.context.seed, N_DRAWN) for name in names}
        part = embeddings.context.part_n(run).to_numpy(dtype=object)[rows]
        yield Map(
            title=f"Cells in the latent of {run}",
            spaces=spaces,
            fields={**shown_fields(obs), "part in training": part},
            caption="Each dot is a cell. Distances within a cloud mean more than those between clouds.",
        )


def _variances(embeddings: Embeddings) -> Iterator[Bars]:
    for run, z in embeddings.latents.items():
        variance_k = np.sort(z[embeddings.judged].var(0))[::-1]
        yield Bars(
            title=f"Variance of each dimension of {run}",
            names=[str(number) for number in range(1, len(variance_k) + 1)],
            series={run: [float(v) for v in variance_k]},
            x_label="variance of the posterior means over the judged cells",
            caption="Sorted. Below 0.01 a dimension is dead.",
        )


def _notes(embeddings: Embeddings) -> Iterator[str]:
    n = len(embeddings.judged)
    n_evaluation = int(embeddings.context.evaluation_n.sum())
    yield f"Scores are of {f'{n:,} of ' if n < n_evaluation else ''}{embeddings.context.evaluation_note}"
    yield (
        "PCA: principal components of log-normalised expression of the same genes, found on "
        + ("training cells." if embeddings.learns else "the judged cells themselves, as no training cells are at hand.")
    )
    for name, run in embeddings.runs.items():
        if run.schema.fields:
            yield f"{name} was given {', '.join(run.schema.fields)}; its latent need not hold what it was given."
    if len(embeddings.row_n) > N_DRAWN:
        yield (
            f"t-SNE and UMAP are made of {N_DRAWN:,} of the {len(embeddings.row_n):,} cells; the others are put between "
            "their nearest."
        )
    if not has_umap():
        yield "umap-learn is not installed (pip install 'genevae[umap]'): there is no UMAP."
