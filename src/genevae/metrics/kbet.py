"""Whether the batches around each cell of a label are those of all cells of that label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from genevae.metrics.neighbourhoods import Near, fuzzy_graph, nearest_cells

__all__ = ["kbet"]

LEVEL = 0.05
FEWEST = 10
"""Cells of a label, below which it is left out."""
N_COMPONENTS = 100
"""Of the diffusion map of one label's cells."""


def kbet(near: Near, batch_n: ArrayLike, label_n: ArrayLike) -> float:
    """Return the share of cells whose neighbours' batches pass as a draw from their label's: the mean over labels.

    Pearson's χ² test at level 0.05 among the nearest cells of one label, in a diffusion map of them, so that labels of
    any size are tested in the same way. Labels with fewer than 10 cells, or with one batch, are left out; one whose
    graph falls into many small pieces counts as zero.

    Parameters
    ----------
    near
        About 50 nearest cells of each.
    batch_n, label_n
        The batch and the label of each cell.

    Returns
    -------
    float
        From 0 to 1, where batches are mixed; NaN where no label can be tested.

    References
    ----------
    Büttner et al., Nature Methods 16:43 (2019); by label as in Luecken et al., Nature Methods 19:41 (2022), with
    the neighbours of scib-metrics, but found exactly.
    """
    graph, batches, labels = fuzzy_graph(near), np.asarray(batch_n), np.asarray(label_n)
    found = []
    for label in np.unique(labels):
        here = np.flatnonzero(labels == label)
        if len(here) >= FEWEST and len(np.unique(batches[here])) > 1:
            found.append(_acceptance(graph[here][:, here], batches[here]))
    return float(np.mean(found)) if found else float("nan")


def _acceptance(graph: sparse.csr_matrix, batch_n: NDArray[Any]) -> float:
    """Return the share of one label's cells that pass."""
    sizes = np.unique(batch_n, return_counts=True)[1]
    n_near = int(min(70, max(10, sizes.mean() // 4)))
    _, piece_n = sparse.csgraph.connected_components(graph, directed=False)
    pieces, members = np.unique(piece_n, return_counts=True)
    if len(pieces) > 1:
        large = np.isin(piece_n, pieces[members >= 3 * n_near])
        if large.mean() < 0.75:
            return 0.0
        graph, batch_n = graph[large][:, large], batch_n[large]
    if len(batch_n) <= n_near:
        return 0.0
    return _pass(nearest_cells(_diffusion(graph), n_near + 1).index_nj, batch_n)


def _diffusion(graph: sparse.csr_matrix) -> NDArray[np.float64]:
    """Return a diffusion map: eigenvectors of the transitions, each times e/(1 − e), which sums over all times."""
    density_n = np.asarray(graph.sum(0)).ravel()
    kernel = sparse.diags(1 / density_n) @ graph @ sparse.diags(1 / density_n)
    root_n = 1 / np.sqrt(np.asarray(kernel.sum(0)).ravel())
    n = len(root_n)
    values, vectors = sparse.linalg.eigsh(
        sparse.diags(root_n) @ kernel @ sparse.diags(root_n),
        k=min(N_COMPONENTS, n - 1),
        v0=np.random.default_rng(0).random(n),
    )
    stays = 1 - values < np.finfo(np.float32).eps  # what does not decay holds no distance
    return np.asarray(vectors * np.where(stays, 1.0, values / np.where(stays, 1.0, 1 - values)))


def _pass(index_nj: NDArray[np.int64], batch_n: NDArray[Any]) -> float:
    """Return the share of cells whose neighbours' batches pass the test."""
    from scipy.stats import chi2

    _, code_n, size_b = np.unique(batch_n, return_inverse=True, return_counts=True)
    expected_b = size_b / size_b.sum() * index_nj.shape[1]
    seen_nb = np.stack([(code_n[index_nj] == code).sum(1) for code in range(len(size_b))], 1)
    statistic_n = np.square(seen_nb - expected_b) @ (1 / expected_b)
    p_n = np.ones(len(code_n)) if len(size_b) == 1 else chi2.sf(statistic_n, len(size_b) - 1)
    return float(np.mean(p_n >= LEVEL))
