"""Whether genes of one set have more similar vectors than others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.labels import auroc
from genevae.metrics.metric import Metric

__all__ = [
    "GENE_PAIRS_AUROC", "GENE_PAIRS_RECALL", "SHARE", "CoMembership", "co_membership", "in_sets", "members_of",
    "similarity",
]  # fmt: skip

GENE_PAIRS_AUROC = Metric(
    "gene pairs of one set (AUROC)", "higher", 1,
    "How well the similarity of two genes' vectors predicts that they share a gene set.",
)  # fmt: skip
GENE_PAIRS_RECALL = Metric(
    "gene pairs of one set (recall at 5 %)", "higher", 1,
    "Share of the pairs of one set among the most similar 5 % of pairs.",
)  # fmt: skip


SHARE = 0.05
"""The most similar pairs, among which pairs of one set are counted."""


class CoMembership(NamedTuple):
    """How well similarity predicts which pairs of genes share a set.

    Parameters
    ----------
    auroc
        Probability that a pair that shares a set is more alike than one that does not; 0.5 by chance.
    recall
        Share of the pairs that share a set among the 5 % that are most alike; 0.05 by chance.
    """

    auroc: float
    recall: float


def in_sets(genes: Sequence[str], sets: Iterable[Collection[str]]) -> NDArray[np.bool_]:
    """Return which genes are members of which sets, genes × sets."""
    known = [frozenset(members) for members in sets]
    return np.array([[gene in members for members in known] for gene in genes], dtype=bool)


def members_of(genes: Sequence[str], sets: Iterable[Collection[str]]) -> NDArray[np.int64]:
    """Return the places of the genes that are in any set."""
    known = set().union(*sets)
    return np.flatnonzero([gene in known for gene in genes])


def similarity(vector_gk: ArrayLike) -> NDArray[np.float32]:
    """Return the cosine of every two genes' vectors; 0 with a vector of length zero.

    Of genes' centred expression as vectors, this is Pearson's correlation.
    """
    v: Any = np.asarray(vector_gk, dtype=np.float32)
    v = v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12)
    return np.asarray(v @ v.T)


def co_membership(similarity_gg: ArrayLike, member_gs: ArrayLike) -> CoMembership:
    """Score how well similarity predicts, over all pairs of genes, which share a set.

    Parameters
    ----------
    similarity_gg
        How similar every two genes are; the diagonal does not count.
    member_gs
        Which genes are members of which sets; every gene is in one at least.

    Returns
    -------
    CoMembership
        NaN where all pairs share a set, or none does.
    """
    member: Any = np.asarray(member_gs, dtype=np.float32)
    upper = np.triu_indices(len(member), 1)
    share_set = (member @ member.T)[upper] > 0
    alike = np.asarray(similarity_gg)[upper]
    if not share_set.any() or share_set.all():
        return CoMembership(float("nan"), float("nan"))
    n_top = max(1, round(SHARE * len(alike)))
    top = np.argpartition(-alike, n_top - 1)[:n_top]
    return CoMembership(auroc(share_set, alike), float(share_set[top].sum() / share_set.sum()))
