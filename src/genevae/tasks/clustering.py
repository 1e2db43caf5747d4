"""Clustering of points, and its stability under subsampling."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.errors import DataError

__all__ = ["ClusteredSubsamples", "best_n_clusters", "cluster_subsamples", "kmeans", "leiden", "margin_n"]

Points = NDArray[np.float64]
Labels = NDArray[np.int64]
Algorithm = Callable[[Points, int], Labels]
"""Takes points and a seed; returns the label of each point."""

SUBSAMPLE = 0.8
"""Share of the points in each subsample."""
TOLERANCE = 0.05
"""A larger number of clusters is preferred if its agreement is at most this far below the best."""
N_NEIGHBOURS = 15
N_STARTS = 5


def kmeans(n_clusters: int) -> Algorithm:
    """Return k-means: minimise Σ_n ‖z_n − centre of its cluster‖², the best of five starts (Lloyd, 1982)."""

    def algorithm(z_nk: Points, seed: int) -> Labels:
        from sklearn.cluster import KMeans

        labels = KMeans(min(n_clusters, len(z_nk)), n_init=N_STARTS, random_state=seed).fit_predict(z_nk)
        return np.asarray(labels, dtype=np.int64)

    return algorithm


def leiden(resolution: float) -> Algorithm:
    """Return Leiden: maximise modularity at a resolution, on the graph of 15 nearest neighbours.

    Two points are connected if either is among the neighbours of the other. The weight of the edge is the Jaccard index
    of their neighbours, |A ∩ B| / |A ∪ B|.

    Raises
    ------
    DataError
        If the package igraph is not installed.

    References
    ----------
    Traag, Waltman and van Eck, Scientific Reports 9:5233 (2019).
    """
    try:
        igraph: Any = importlib.import_module("igraph")
    except ImportError as error:
        raise DataError(
            "Leiden needs the package igraph: pip install 'genevae[leiden]'. Or leave out --method to use k-means."
        ) from error

    def algorithm(z_nk: Points, seed: int) -> Labels:
        import random

        edges, weights = _neighbour_graph(z_nk)
        graph = igraph.Graph(len(z_nk), edges)
        igraph.set_random_number_generator(random.Random(seed))  # noqa: S311 - no secret
        try:
            clusters = graph.community_leiden("modularity", weights=weights, resolution=resolution, n_iterations=-1)
        finally:
            igraph.set_random_number_generator(random)
        return np.asarray(clusters.membership, dtype=np.int64)

    return algorithm


def _neighbour_graph(z_nk: Points) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the edges as pairs of points, and the weight of each."""
    from sklearn.neighbors import kneighbors_graph

    near = kneighbors_graph(z_nk, min(N_NEIGHBOURS, len(z_nk) - 1), include_self=False)
    joined = (near + near.T).tocoo()
    once = joined.row < joined.col
    row, col = joined.row[once], joined.col[once]
    near.setdiag(1)
    common = np.asarray(near[row].multiply(near[col]).sum(1)).ravel()
    size_n = np.asarray(near.sum(1)).ravel()
    return np.stack([row, col], 1), common / (size_n[row] + size_n[col] - common)


@dataclass(frozen=True)
class ClusteredSubsamples:
    """Clusterings of random subsamples, each without replacement.

    Parameters
    ----------
    rows, labels
        For each subsample, the rows of its points, ascending, and their labels.
    """

    rows: Sequence[Labels]
    labels: Sequence[Labels]

    def agreement(self) -> float:
        """Return the mean over pairs of subsamples of the adjusted Rand index of their shared points.

        It is one if all subsamples agree, and about zero if they agree by chance (Hubert and Arabie, 1985).
        """
        from sklearn.metrics import adjusted_rand_score

        scores = []
        for (row_a, label_a), (row_b, label_b) in itertools.combinations(zip(self.rows, self.labels, strict=True), 2):
            _, at_a, at_b = np.intersect1d(row_a, row_b, assume_unique=True, return_indices=True)
            scores.append(adjusted_rand_score(label_a[at_a], label_b[at_b]))
        return float(np.mean(scores))

    def stability_c(self, label_n: Labels) -> NDArray[np.float64]:
        """Return the stability of each cluster: the mean over subsamples of its best Jaccard index with their clusters.

        The index |C ∩ D| / |C ∪ D| is over the points of the subsample. Above 0.75 a cluster counts as stable, below
        0.5 as dissolved (Hennig, 2007). Subsamples without points of a cluster do not count for it.
        """
        n_clusters = int(label_n.max()) + 1
        jaccard = np.stack([
            _best_jaccard(label_n[rows], labels, n_clusters)
            for rows, labels in zip(self.rows, self.labels, strict=True)
        ])  # fmt: skip
        n_valid_c = np.isfinite(jaccard).sum(0)
        return np.asarray(np.nansum(jaccard, 0) / np.maximum(n_valid_c, 1))


def cluster_subsamples(algorithm: Algorithm, z_nk: Points, n_repeats: int, seed: int) -> ClusteredSubsamples:
    """Cluster random subsamples of 80 % of the points."""
    rng = np.random.default_rng(seed)
    size = max(2, round(SUBSAMPLE * len(z_nk)))
    rows = [np.sort(rng.choice(len(z_nk), size, replace=False)) for _ in range(n_repeats)]
    return ClusteredSubsamples(rows, [algorithm(z_nk[row], seed + number) for number, row in enumerate(rows, 1)])


def best_n_clusters(z_nk: Points, candidates: Sequence[int], n_repeats: int, seed: int) -> int:
    """Select the number of clusters for k-means by the agreement of subsamples.

    Returns the largest number whose agreement is within 0.05 of the best: few, distant clusters always agree, and among
    numbers that agree equally well the larger one resolves more.
    """
    agreement = {k: cluster_subsamples(kmeans(k), z_nk, n_repeats, seed).agreement() for k in candidates}
    return max(k for k, score in agreement.items() if score >= max(agreement.values()) - TOLERANCE)


def margin_n(z_nk: Points, label_n: Labels) -> NDArray[np.float64]:
    """Return (b − a) / max(a, b) of each point: a is the distance to its cluster's centre, b to the nearest other one.

    It is near one if the assignment is clear, zero halfway between two clusters, below zero if another centre is
    nearer, and one if there is a single cluster.
    """
    n_clusters = int(label_n.max()) + 1
    if n_clusters == 1:
        return np.ones(len(z_nk))
    centre_ck = np.stack([z_nk[label_n == c].mean(0) for c in range(n_clusters)])
    distance_nc = np.stack([np.linalg.norm(z_nk - centre_k, axis=1) for centre_k in centre_ck], 1)
    a_n = np.take_along_axis(distance_nc, label_n[:, None], 1)[:, 0]
    np.put_along_axis(distance_nc, label_n[:, None], np.inf, 1)
    b_n = distance_nc.min(1)
    larger_n = np.maximum(a_n, b_n)
    return np.asarray(np.divide(b_n - a_n, larger_n, out=np.zeros(len(z_nk)), where=larger_n > 0))


def _best_jaccard(label_n: Labels, subsample_label_n: Labels, n_clusters: int) -> NDArray[np.float64]:
    """Return the best index of each cluster with the subsample's clusters; NaN if it has no point in the subsample."""
    both = np.zeros((n_clusters, int(subsample_label_n.max()) + 1))
    np.add.at(both, (label_n, subsample_label_n), 1)
    either = both.sum(1, keepdims=True) + both.sum(0) - both
    best_c = np.divide(both, either, out=np.zeros_like(both), where=either > 0).max(1)
    return np.asarray(np.where(both.sum(1) > 0, best_c, np.nan))
