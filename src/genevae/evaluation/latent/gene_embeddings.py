"""Whether genes of one set have similar vectors in a model's decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.errors import GeneError, shorten
from genevae.evaluation.latent.embeddings import Embeddings
from genevae.io.gmt import read_gene_sets
from genevae.metrics.gene_sets import (
    GENE_PAIRS_AUROC,
    GENE_PAIRS_RECALL,
    SHARE,
    CoMembership,
    co_membership,
    in_sets,
    members_of,
    similarity,
)
from genevae.metrics.sampling import subsample
from genevae.report.records import Score, Verdict

__all__ = ["gene_similarity"]

N_GENES = 3000
"""Genes at most, of which all pairs are compared."""
METRICS = (GENE_PAIRS_AUROC, GENE_PAIRS_RECALL)
BY_CHANCE = CoMembership(0.5, SHARE)


def gene_similarity(embeddings: Embeddings) -> tuple[list[Score], list[Verdict], list[str]]:
    """Score gene vectors by gene sets, where a file of them was given.

    Raises
    ------
    DataError
        If the file cannot be read.
    GeneError
        If its genes are not those of the models.
    """
    path = embeddings.context.gene_sets
    if path is None:
        return [], [], []
    sets = read_gene_sets(path)
    every = {name: {} if m.gene_embeddings is None else m.gene_embeddings() for name, m in embeddings.models.items()}
    notes = [f"{name} has no vector per gene in its decoder." for name, each in every.items() if not each]
    vectors = {name: each for name, each in every.items() if each}
    if not vectors:
        return [], [], notes
    genes = _genes(embeddings, sets, vectors)
    member_gs = in_sets(genes, sets.values())
    found = {who: co_membership(similarity(v), member_gs) for who, v in _all(embeddings, vectors, genes).items()}
    found["chance"] = BY_CHANCE
    scores = [
        Score.of_metric(metric, who, value, embeddings.role(who))
        for who, values in found.items()
        for metric, value in zip(METRICS, values, strict=True)
    ]
    note = f"Gene sets: {path.name}, {len(sets)} sets; all pairs of {len(genes):,} genes that are in any."
    return scores, [_verdict(name, found) for name in vectors], [*notes, note]


def _genes(embeddings: Embeddings, sets: dict[str, Any], vectors: dict[str, Any]) -> list[str]:
    """Return the genes that are in any set, in the data and in every model."""
    shared = [gene for gene in embeddings.genes if all(gene in each for each in vectors.values())]
    places = members_of(shared, sets.values())
    if len(places) < 3:
        listed = shorten([gene for members in sets.values() for gene in members], 3)
        raise GeneError(
            f"{embeddings.context.gene_sets} names {listed}, and the models share the genes {shorten(shared, 3)}: "
            f"{len(places)} genes are in both. Give sets with the gene names of the models."
        )
    in_any = np.isin(np.arange(len(shared)), places)
    return [shared[place] for place in subsample(in_any, N_GENES, embeddings.context.seed)]


def _all(embeddings: Embeddings, vectors: dict[str, Any], genes: list[str]) -> dict[str, NDArray[Any]]:
    """Return the vectors of genes: of models, of principal components (their loadings), and of expression."""
    at = embeddings.genes.get_indexer(genes)
    x = embeddings.log_x(embeddings.fitted_n)
    found = {name: np.stack([each[gene] for gene in genes]) for name, each in vectors.items()}
    for n in sorted({embeddings.latents[name].shape[1] for name in vectors}):
        found[f"{embeddings.components(n)}: loadings"] = embeddings.principal[n].loading_gk[at]
    dense = np.asarray(x[:, at].todense() if hasattr(x, "todense") else x[:, at], dtype=np.float32)
    found["Pearson of expression"] = (dense - dense.mean(0)).T
    return found


def _verdict(name: str, found: dict[str, CoMembership]) -> Verdict:
    others = {who: values.auroc for who, values in found.items() if "PCA" in who or "Pearson" in who}
    best = max(others, key=lambda who: others[who])
    ahead = found[name].auroc - others[best]
    tone: Any = "good" if ahead > 0.005 else "bad" if ahead < -0.005 else "plain"
    how = "better than" if ahead > 0.005 else "worse than" if ahead < -0.005 else "as well as"
    numbers = f"AUROC {found[name].auroc:.3f} against {others[best]:.3f}; chance 0.5"
    return Verdict(f"Gene vectors of {name} find genes of one set {how} {best} ({numbers}).", tone, name)
