"""Clusters of training cells that are alike, and the values of every gene among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.models.marginals import Marginals

__all__ = ["Clusters", "cluster"]

CELLS = 60
"""Cells of a cluster, about."""
MOST_CLUSTERS = 16
"""Clusters of one combination of categories, at most: they are larger where there are more cells."""
FEWEST_CELLS = 20
"""Cells of a combination at least, to have clusters."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of reference cells, each of cells with the same categories, similar latents and similar sizes.

    Parameters
    ----------
    cluster_n
        The cluster of every reference cell; −1 for cells of rare combinations.
    marginals
        For each cluster the values of every gene among its cells, or some of them, in the values that tasks return.
    """

    cluster_n: Tensor
    marginals: tuple[Marginals, ...]

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor([len(each.gene_e) for each in self.marginals]).cumsum(0)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the content as named tensors."""
        return {
            "cluster_n": self.cluster_n.to(torch.int32),
            "n_genes": torch.tensor(self.marginals[0].n_genes),
            "end_c": self._ends,
            "gene_e": torch.from_numpy(np.concatenate([each.gene_e for each in self.marginals])),
            "value_e": torch.from_numpy(np.concatenate([each.value_e for each in self.marginals])).float(),
            "count_e": torch.from_numpy(np.concatenate([each.count_e for each in self.marginals])),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Restore from named tensors.

        Raises
        ------
        ValueError
            If they do not fit together.
        """
        ends, n_genes = tensors["end_c"].tolist(), int(tensors["n_genes"])
        parts = [tensors[name].numpy() for name in ("gene_e", "value_e", "count_e")]
        starts = [0, *ends[:-1]]
        whole = ends and ends == sorted(ends) and all(len(part) == ends[-1] for part in parts)
        gene_e, _, count_e = parts
        if not whole or (len(gene_e) and not 0 <= gene_e.min() <= gene_e.max() < n_genes) or (count_e < 1).any():
            raise ValueError("the values of clusters do not fit together.")
        cluster_n = tensors["cluster_n"].long()
        if len(cluster_n) and not -1 <= int(cluster_n.min()) <= int(cluster_n.max()) < len(ends):
            raise ValueError("cells are in clusters that there are not.")
        marginals = [
            Marginals(gene_e[a:b], parts[1][a:b].astype(np.float64), count_e[a:b], n_genes)
            for a, b in zip(starts, ends, strict=True)
        ]
        return cls(cluster_n, tuple(marginals))


def cluster(mean_nk: Tensor, scale_nk: Tensor, size_n1: Tensor, codes: Mapping[str, Tensor], times: int = 1) -> Tensor:
    """Return a cluster for every cell: k-means over latents and log sizes, within each combination of categories.

    Each latent dimension is standardised, and counts by the share of its variance that is not uncertainty,
    Var(mean) / (Var(mean) + E[scale²]); the log size counts as a dimension without any. Clusters have about 60 cells;
    combinations with fewer than 20 cells have none, −1.

    Parameters
    ----------
    mean_nk, scale_nk
        Of the posteriors.
    size_n1
        Counts per cell.
    codes
        The categories of every cell.
    times
        How many times as many cells a cluster has.
    """
    from sklearn.cluster import KMeans

    cluster_n = torch.full((len(mean_nk),), -1, dtype=torch.int64)
    if not len(mean_nk):
        return cluster_n
    stacked = torch.stack([*codes.values()], dim=1) if codes else torch.zeros(len(mean_nk), 1, dtype=torch.int64)
    _, group_n, count_c = stacked.unique(dim=0, return_inverse=True, return_counts=True)
    start = 0
    for group, count in enumerate(count_c.tolist()):
        if count < FEWEST_CELLS * times:
            continue
        here_n = (group_n == group).nonzero().squeeze(-1)
        n_clusters = min(max(1, count // (CELLS * times)), MOST_CLUSTERS)
        mean_mk, log_m1 = mean_nk[here_n].double(), size_n1[here_n].double().clamp(min=1e-12).log()
        variance_k = mean_mk.var(0)
        weight_k = variance_k.sqrt() / (variance_k + scale_nk[here_n].double().square().mean(0)).clamp(min=1e-12)
        features = torch.cat([mean_mk * weight_k, log_m1 / log_m1.std().clamp(min=1e-6)], dim=1)
        labels = KMeans(n_clusters, n_init=3, random_state=0).fit_predict(features.numpy())
        cluster_n[here_n] = start + torch.from_numpy(np.unique(labels, return_inverse=True)[1])
        start = int(cluster_n.max()) + 1
    return cluster_n
