"""Whether genes of one set have like vectors in a run's decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.errors import DataError, GeneError, shorten
from genevae.evaluation.latent.embeddings import Embeddings
from genevae.io.gmt import read_gene_sets
from genevae.metrics.gene_sets import SHARE, CoMembership, co_membership, in_sets, members_of, similarity
from genevae.report.records import Score, Verdict
from genevae.tasks.gene_embeddings import genes as gene_vectors

__all__ = ["gene_likeness"]

N_GENES = 3000
"""Genes of which all pairs are compared."""
METRICS = ("gene pairs of one set (AUROC)", "gene pairs of one set (recall at 5 %)")
BY_CHANCE = CoMembership(0.5, SHARE)


def gene_likeness(embeddings: Embeddings) -> tuple[list[Score], list[Verdict], list[str]]:
    """Score gene vectors by gene sets, where a file of them was given.

    Raises
    ------
    DataError
        If the file cannot be read.
    GeneError
        If its genes are not those of the runs.
    """
    path = embeddings.context.gene_sets
    if path is None:
        return [], [], []
    sets = read_gene_sets(path)
    vectors, notes = _vectors(embeddings)
    if not vectors:
        return [], [], notes
    asked = _asked(embeddings, sets, vectors)
    member_gs = in_sets(asked, sets.values())
    found = {who: co_membership(similarity(v), member_gs) for who, v in _all(embeddings, vectors, asked).items()}
    found["chance"] = BY_CHANCE
    scores = [
        Score(metric=metric, who=who, value=value, role="run" if who in embeddings.runs else "baseline", ideal=1)
        for who, values in found.items()
        for metric, value in zip(METRICS, values, strict=True)
    ]
    note = f"Gene sets: {path.name}, {len(sets)} sets; all pairs of {len(asked):,} genes that are in any."
    return scores, [_verdict(run, found) for run in vectors], [*notes, note]


def _vectors(embeddings: Embeddings) -> tuple[dict[str, dict[str, NDArray[Any]]], list[str]]:
    """Return for each run the vector of each gene, and say which runs have none."""
    found: dict[str, dict[str, NDArray[Any]]] = {}
    notes = []
    for name, run in embeddings.runs.items():
        try:
            answer = gene_vectors(run, neighbours=0)
        except DataError:
            notes.append(f"{name} has no gene vectors: its decoder does not end in one vector per gene.")
        else:
            found[name] = dict(zip(answer.obs_names, answer.obsm["X_genevae"], strict=True))
    return found, notes


def _asked(embeddings: Embeddings, sets: dict[str, Any], vectors: dict[str, Any]) -> list[str]:
    """Return the genes that are in any set, in the data and in every run."""
    shared = [gene for gene in embeddings.genes if all(gene in of_run for of_run in vectors.values())]
    places = members_of(shared, sets.values())
    if len(places) < 3:
        listed = shorten([gene for members in sets.values() for gene in members], 3)
        raise GeneError(
            f"{embeddings.context.gene_sets} names {listed}, and the runs share the genes {shorten(shared, 3)}: "
            f"{len(places)} genes are in both. Give sets with the names that the runs' genes have."
        )
    if len(places) > N_GENES:
        places = np.sort(np.random.default_rng(embeddings.context.seed).choice(places, N_GENES, replace=False))
    return [shared[place] for place in places]


def _all(embeddings: Embeddings, vectors: dict[str, Any], asked: list[str]) -> dict[str, NDArray[Any]]:
    """Return the asked genes' vectors: of runs, loadings of as many components as the first has, and expression."""
    at = embeddings.genes.get_indexer(asked)
    x = embeddings.log_x(embeddings.learned_n)
    found = {name: np.stack([of_run[gene] for gene in asked]) for name, of_run in vectors.items()}
    for n in sorted({embeddings.latents[name].shape[1] for name in vectors}):
        found[f"{embeddings.baseline(n)}: loadings"] = embeddings.principal[n].loading_gk[at]
    dense = np.asarray(x[:, at].todense() if hasattr(x, "todense") else x[:, at], dtype=np.float32)
    found["Pearson of expression"] = (dense - dense.mean(0)).T
    return found


def _verdict(run: str, found: dict[str, CoMembership]) -> Verdict:
    others = {who: values.auroc for who, values in found.items() if "PCA" in who or "Pearson" in who}
    best = max(others, key=lambda who: others[who])
    ahead = found[run].auroc - others[best]
    tone: Any = "good" if ahead > 0.005 else "bad" if ahead < -0.005 else "plain"
    words = "better than" if ahead > 0.005 else "worse than" if ahead < -0.005 else "as well as"
    numbers = f"AUROC {found[run].auroc:.3f} against {others[best]:.3f}; chance 0.5"
    return Verdict(f"Gene vectors of {run} tell genes of one set {words} {best} ({numbers}).", tone)
