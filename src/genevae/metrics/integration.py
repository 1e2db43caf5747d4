"""How well a latent keeps labels apart and mixes batches: the scores of the scIB benchmark.

Each is between 0 and 1, and higher is better. They are computed here rather than by scib-metrics, which compiles for
every size of every label; the tests compare the two. References for all: Luecken et al., Nature Methods 19:41 (2022).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genevae.metrics.kbet import kbet
from genevae.metrics.metric import Metric
from genevae.metrics.neighbourhoods import Near, lisi_n, nearest_cells

__all__ = [
    "BATCH", "BIO", "FEWEST", "SCIB", "TOTALS", "batch_share", "bras", "graph_connectivity", "integration_scores",
]  # fmt: skip


def _scib(name: str, meaning: str) -> Metric:
    return Metric(name, "higher", 1, meaning, "Luecken et al., Nature Methods 19:41 (2022)")


SCIB = {
    metric.name: metric
    for metric in (
        _scib("Isolated labels", "Silhouette of the labels that are in the fewest batches, from 0 to 1 (scIB)."),
        _scib("KMeans NMI", "Agreement of k-means clusters with labels, as normalised mutual information (scIB)."),
        _scib("KMeans ARI", "Agreement of k-means clusters with labels, as the adjusted Rand index (scIB)."),
        _scib("Silhouette label", "Silhouette of labels, scaled to 0 to 1 (scIB)."),
        _scib("cLISI", "How uniform the labels around each cell are, from 0 to 1 (scIB)."),
        _scib("BRAS", "How little the batches of one label lie apart, from 0 to 1."),
        _scib("iLISI", "How many batches are mixed around each cell, from 0 to 1 (scIB)."),
        _scib("KBET", "Share of the cells around which batches are as frequent as overall (scIB)."),
        _scib("Graph connectivity", "Share of each label's cells that are connected in the neighbour graph (scIB)."),
        _scib("PCR comparison", "How much of the variance that the batch explained is gone (scIB)."),
        _scib("Bio conservation", "Mean of the scores of biology (scIB)."),
        _scib("Batch correction", "Mean of the scores of batches (scIB)."),
        _scib("Total", "0.6 of biology and 0.4 of batches (scIB)."),
    )
}
BIO, BATCH, TOTALS = tuple(SCIB)[:5], tuple(SCIB)[5:10], tuple(SCIB)[10:]
N_NEAREST = 90
FEWEST = 300
"""Cells, below which neighbourhoods of 90 would be most of them."""


def integration_scores(
    z_nk: ArrayLike, label_n: ArrayLike, batch_n: ArrayLike, plain_nk: ArrayLike, seed: int = 0
) -> dict[str, float]:
    """Score a latent by all scores of scIB: total = 0.6 · mean of biology + 0.4 · mean of batches.

    Parameters
    ----------
    z_nk
        The latent.
    label_n, batch_n
        The label (such as the cell type) and the batch of each cell; two of each at least.
    plain_nk
        The same cells before integration, such as principal components of log-normalised expression.
    seed
        Of k-means.

    Returns
    -------
    dict
        The scores named in :data:`BIO` and :data:`BATCH`, then :data:`TOTALS`. A score that these cells do not allow
        is NaN, and is left out of the means.

    Raises
    ------
    ValueError
        If there are fewer than 300 cells, or a single label or batch.
    """
    z: Any = np.asarray(z_nk, dtype=np.float64)
    labels, batches = np.asarray(label_n), np.asarray(batch_n)
    if len(z) < FEWEST or len(np.unique(labels)) < 2 or len(np.unique(batches)) < 2:
        raise ValueError(f"scIB scores need {FEWEST} cells, two labels and two batches")
    near = nearest_cells(z, N_NEAREST)
    found = {
        **_biology(z, near, labels, batches, seed),
        "BRAS": bras(z, labels, batches),
        "iLISI": _scaled(lisi_n(near, batches), batches),
        "KBET": kbet(near.first(50), batches, labels),
        "Graph connectivity": graph_connectivity(near.first(15), labels),
        "PCR comparison": _comparison(batch_share(plain_nk, batches), batch_share(z, batches)),
    }
    bio, batch = (float(np.nanmean([found[name] for name in names])) for names in (BIO, BATCH))
    return {**found, **dict(zip(TOTALS, (bio, batch, 0.6 * bio + 0.4 * batch), strict=True))}


def _biology(z: Any, near: Near, labels: NDArray[Any], batches: NDArray[Any], seed: int) -> dict[str, float]:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples

    width_n = (silhouette_samples(z, labels) + 1) / 2
    names = np.unique(labels)
    n_batches = np.array([len(np.unique(batches[labels == name])) for name in names])
    isolated = names[n_batches == n_batches.min()]
    clusters = KMeans(len(names), n_init=10, random_state=seed).fit_predict(z)
    return {
        "Isolated labels": float(np.mean([width_n[labels == name].mean() for name in isolated])),
        "KMeans NMI": float(normalized_mutual_info_score(labels, clusters)),
        "KMeans ARI": float(adjusted_rand_score(labels, clusters)),
        "Silhouette label": float(width_n.mean()),
        "cLISI": 1 - _scaled(lisi_n(near, labels), labels),
    }


def _scaled(mixing_n: NDArray[Any], label_n: NDArray[Any]) -> float:
    """Bring the median number of labels around a cell to the range from 0 to 1."""
    return float((np.median(mixing_n) - 1) / (len(np.unique(label_n)) - 1))


def bras(z_nk: ArrayLike, label_n: ArrayLike, batch_n: ArrayLike) -> float:
    """Return how little the batches of one label lie apart: the mean over labels of 1 − mean |silhouette of batches|.

    The distance is the cosine's, and a cell's distance to other batches is the mean over all of their cells. Labels of
    one batch, or in which every cell is a batch, are left out; NaN where that leaves none.

    References
    ----------
    Rautenstrauch and Ohler, Nature Biotechnology (2025), https://doi.org/10.1038/s41587-025-02743-4.
    """
    z, labels, batches = np.asarray(z_nk, dtype=np.float64), np.asarray(label_n), np.asarray(batch_n)
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    found = []
    for name in np.unique(labels):
        here = labels == name
        n_batches = len(np.unique(batches[here]))
        if 1 < n_batches < here.sum():
            found.append(1 - np.mean(np.abs(_cosine_silhouette(unit[here], batches[here]))))
    return float(np.mean(found)) if found else float("nan")


def _cosine_silhouette(unit_nk: NDArray[Any], batch_n: NDArray[Any]) -> NDArray[np.float64]:
    """Return (b − a) / max(a, b): a, b the mean distances to cells of the same and of all other batches.

    The distance is 1 − cosine, which is linear in either side: no matrix of distances is needed.
    """
    _, code_n, size_b = np.unique(batch_n, return_inverse=True, return_counts=True)
    sum_bk = np.zeros((len(size_b), unit_nk.shape[1]))
    np.add.at(sum_bk, code_n, unit_nk)
    size_n = size_b[code_n]
    to_same_n = size_n - (unit_nk * sum_bk[code_n]).sum(1)
    to_all_n = len(code_n) - unit_nk @ sum_bk.sum(0)
    a_n = to_same_n / np.maximum(size_n - 1, 1)
    b_n = (to_all_n - to_same_n) / (len(code_n) - size_n)
    largest_n = np.maximum(a_n, b_n)
    width_n = np.divide(b_n - a_n, largest_n, out=np.zeros_like(a_n), where=largest_n > 1e-12)
    return np.where(size_n > 1, width_n, 0.0)


def graph_connectivity(near: Near, label_n: ArrayLike) -> float:
    """Return the mean over labels of the share of its cells in its largest strongly connected piece.

    Parameters
    ----------
    near
        About 15 nearest cells of each.
    label_n
        The label of each cell.
    """
    from scipy.sparse import csgraph, csr_matrix

    n, j = near.index_nj.shape
    graph = csr_matrix((np.ones(n * j), near.index_nj.ravel(), np.arange(n + 1) * j), (n, n))
    labels = np.asarray(label_n)
    shares = []
    for name in np.unique(labels):
        here = np.flatnonzero(labels == name)
        _, piece_n = csgraph.connected_components(graph[here][:, here], connection="strong")
        shares.append(np.bincount(piece_n).max() / len(here))
    return float(np.mean(shares))


def batch_share(z_nk: ArrayLike, batch_n: ArrayLike) -> float:
    """Return the share of variance that the batch explains: squares between batches over all squares.

    This is the principal component regression of scIB: the R² of each component on the batch, weighted by the
    component's variance, which adds up to the same in any rotation.
    """
    z: Any = np.asarray(z_nk, dtype=np.float64)
    z = z - z.mean(0)
    _, code_n, size_b = np.unique(np.asarray(batch_n), return_inverse=True, return_counts=True)
    sum_bk = np.zeros((len(size_b), z.shape[1]))
    np.add.at(sum_bk, code_n, z)
    return float(np.sum(np.square(sum_bk).sum(1) / size_b) / max(float(np.square(z).sum()), 1e-12))


def _comparison(before: float, after: float) -> float:
    """Return the relative decrease of a share; 0 where it rose, NaN where it was zero."""
    return float("nan") if before <= 0 else max(0.0, (before - after) / before)
