"""Clusters of points, and how far they come back when some of the points are left out."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.errors import DataError

__all__ = ["Repeats", "best_number", "kmeans", "leiden", "margin_n", "repeated"]

Points = NDArray[np.float64]
Labels = NDArray[np.int64]
Method = Callable[[Points, int], Labels]
"""Points and a seed to the label of each point."""

SHARE = 0.8
"""Of the points, in each repeat."""
TOLERANCE = 0.05
"""How far below the best agreement a number of clusters may be, and still be chosen for being larger."""
N_NEIGHBOURS = 15
N_STARTS = 5


def kmeans(n_clusters: int) -> Method:
    """Make the method that minimises Σ_n ‖z_n − centre of its cluster‖², from five starts (Lloyd, 1982)."""

    def method(z_nk: Points, seed: int) -> Labels:
        from sklearn.cluster import KMeans

        found = KMeans(min(n_clusters, len(z_nk)), n_init=N_STARTS, random_state=seed).fit_predict(z_nk)
        return np.asarray(found, dtype=np.int64)

    return method


def leiden(resolution: float) -> Method:
    """Make the method that maximises modularity at a resolution, on the graph of 15 nearest neighbours.

    Two points are joined where either is among the neighbours of the other, with the weight that is the share of
    neighbours that they have in common, |A ∩ B| / |A ∪ B|.

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
            "Leiden needs the package igraph: pip install 'genevae[leiden]'. Or leave out --method: k-means needs none."
        ) from error

    def method(z_nk: Points, seed: int) -> Labels:
        import random

        edges, weights = _neighbour_graph(z_nk)
        graph = igraph.Graph(len(z_nk), edges)
        igraph.set_random_number_generator(random.Random(seed))  # noqa: S311 - no secret
        try:
            found = graph.community_leiden("modularity", weights=weights, resolution=resolution, n_iterations=-1)
        finally:
            igraph.set_random_number_generator(random)
        return np.asarray(found.membership, dtype=np.int64)

    return method


def _neighbour_graph(z_nk: Points) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the pairs that are joined, and the weight of each."""
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
class Repeats:
    """Clusters of random parts of some points, drawn without replacement.

    Parameters
    ----------
    rows, labels
        For each repeat, the points that were drawn, ascending, and their labels.
    """

    rows: Sequence[Labels]
    labels: Sequence[Labels]

    def agreement(self) -> float:
        """Return the mean over pairs of repeats of the adjusted Rand index of the points that both drew.

        One where all repeats agree, about zero where they agree as chance does (Hubert and Arabie, 1985).
        """
        from sklearn.metrics import adjusted_rand_score

        found = []
        for (row_a, label_a), (row_b, label_b) in itertools.combinations(zip(self.rows, self.labels, strict=True), 2):
            _, at_a, at_b = np.intersect1d(row_a, row_b, assume_unique=True, return_indices=True)
            found.append(adjusted_rand_score(label_a[at_a], label_b[at_b]))
        return float(np.mean(found))

    def stability_c(self, label_n: Labels) -> NDArray[np.float64]:
        """Return the stability of each cluster: the mean over repeats of its best Jaccard index with any of theirs.

        |C ∩ D| / |C ∪ D| over the points that were drawn; above 0.75 a cluster counts as stable, below 0.5 as
        dissolved (Hennig, 2007). A repeat that drew no point of a cluster is left out for it.
        """
        n_clusters = int(label_n.max()) + 1
        found = np.stack([_best_jaccard(label_n[rows], labels, n_clusters) for rows, labels in self._pairs()])
        met_c = np.isfinite(found).sum(0)
        return np.asarray(np.nansum(found, 0) / np.maximum(met_c, 1))

    def _pairs(self) -> zip[tuple[Labels, Labels]]:
        return zip(self.rows, self.labels, strict=True)


def repeated(method: Method, z_nk: Points, n_repeats: int, seed: int) -> Repeats:
    """Cluster random parts of four in five of the points again and again."""
    rng = np.random.default_rng(seed)
    n_drawn = max(2, round(SHARE * len(z_nk)))
    rows = [np.sort(rng.choice(len(z_nk), n_drawn, replace=False)) for _ in range(n_repeats)]
    return Repeats(rows, [method(z_nk[row], seed + number) for number, row in enumerate(rows, 1)])


def best_number(z_nk: Points, numbers: Sequence[int], n_repeats: int, seed: int) -> int:
    """Choose the number of clusters of k-means by the agreement of its repeats.

    The largest number whose agreement is within 0.05 of the best: a few clusters that are far apart always come back,
    and of numbers that come back alike, the larger tells more.
    """
    agreement = {k: repeated(kmeans(k), z_nk, n_repeats, seed).agreement() for k in numbers}
    return max(k for k, found in agreement.items() if found >= max(agreement.values()) - TOLERANCE)


def margin_n(z_nk: Points, label_n: Labels) -> NDArray[np.float64]:
    """Return (b − a) / max(a, b) of each point: a the distance to its own cluster's centre, b to the nearest other.

    Near one where there is no doubt, zero halfway between two clusters, below zero where another centre is nearer; one
    where there is one cluster only.
    """
    n_clusters = int(label_n.max()) + 1
    if n_clusters == 1:
        return np.ones(len(z_nk))
    centre_ck = np.stack([z_nk[label_n == c].mean(0) for c in range(n_clusters)])
    distance_nc = np.stack([np.linalg.norm(z_nk - centre_k, axis=1) for centre_k in centre_ck], 1)
    own_n = np.take_along_axis(distance_nc, label_n[:, None], 1)[:, 0]
    np.put_along_axis(distance_nc, label_n[:, None], np.inf, 1)
    other_n = distance_nc.min(1)
    farther_n = np.maximum(own_n, other_n)
    return np.asarray(np.divide(other_n - own_n, farther_n, out=np.zeros(len(z_nk)), where=farther_n > 0))


def _best_jaccard(mine_n: Labels, theirs_n: Labels, n_clusters: int) -> NDArray[np.float64]:
    """Return the best index of each of my clusters; not a number where none of its points was drawn."""
    both = np.zeros((n_clusters, int(theirs_n.max()) + 1))
    np.add.at(both, (mine_n, theirs_n), 1)
    either = both.sum(1, keepdims=True) + both.sum(0) - both
    best_c = np.divide(both, either, out=np.zeros_like(both), where=either > 0).max(1)
    return np.asarray(np.where(both.sum(1) > 0, best_c, np.nan))
