"""The nearest cells of each cell: how labels mix around it, and the graph of neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from genevae.metrics.metric import Metric

__all__ = ["SIMULATED_MIXING", "Near", "fuzzy_graph", "lisi_n", "nearest_cells"]

SIMULATED_MIXING = Metric(
    "mixing with real cells (iLISI)", "closer", 2,
    "How many sources, real and simulated, are around each cell; 2 where they mix.",
    "Korsunsky et al., Nature Methods 16:1289 (2019)",
)  # fmt: skip


_Floats = NDArray[np.float64]
N_STEPS = 60
"""Of each search for a width, which halves its range: it ends at the last digits."""
LEAST_WIDTH = 1e-3
"""Of a neighbourhood, in mean distances."""


@dataclass(frozen=True)
class Near:
    """The nearest cells of each cell, the nearest first, itself among them.

    Parameters
    ----------
    index_nj
        Which they are.
    distance_nj
        How far away each is.
    """

    index_nj: NDArray[np.int64]
    distance_nj: _Floats

    def first(self, n: int) -> Near:
        """Keep the nearest ``n`` of each."""
        return Near(self.index_nj[:, :n], self.distance_nj[:, :n])

    @property
    def is_other_nj(self) -> NDArray[np.bool_]:
        """Which of them are not the cell itself."""
        return np.asarray(self.index_nj != np.arange(len(self.index_nj))[:, None])


def nearest_cells(z_nk: ArrayLike, n: int) -> Near:
    """Find the nearest ``n`` cells of each cell, itself among them, exactly and by Euclidean distance."""
    from sklearn.neighbors import NearestNeighbors

    z = np.asarray(z_nk, dtype=np.float64)
    distance_nj, index_nj = NearestNeighbors(n_neighbors=min(n, len(z))).fit(z).kneighbors(z)
    return Near(index_nj.astype(np.int64), distance_nj)


def lisi_n(near: Near, label_n: ArrayLike) -> _Floats:
    """Return how many labels meet around each cell: 1 / Σ_c p_c², p_c the weight of label c among its neighbours.

    A neighbour at distance d weighs exp(−d/w), with the width w at which the weights have a third of the neighbours as
    perplexity. From 1, where all have one label, to the number of labels.

    Parameters
    ----------
    near
        About 90 nearest cells of each; a cell does not count as its own neighbour.
    label_n
        The label of each cell.

    References
    ----------
    Korsunsky et al., Nature Methods 16:1289 (2019).
    """
    _, code_n = np.unique(np.asarray(label_n), return_inverse=True)
    other = near.is_other_nj
    target = np.log(near.index_nj.shape[1] // 3)

    closest_n1 = np.where(other, near.distance_nj, np.inf).min(1, keepdims=True)
    beyond_nj = np.where(other, near.distance_nj - closest_n1, np.inf)

    def weights(width_n1: _Floats) -> _Floats:
        weight_nj = np.exp(-beyond_nj / width_n1)
        return np.asarray(weight_nj / weight_nj.sum(1, keepdims=True))

    def entropy(width_n1: _Floats) -> _Floats:
        p = weights(width_n1)
        return np.asarray(-(p * np.log(np.where(p > 0, p, 1.0))).sum(1, keepdims=True))

    p_nj = weights(_width(entropy, target, near))
    code_nj = code_n[near.index_nj]
    share_nc = np.stack([(p_nj * (code_nj == code)).sum(1) for code in range(code_n.max() + 1)], 1)
    return np.asarray(1 / np.square(share_nc).sum(1))


def fuzzy_graph(near: Near) -> sparse.csr_matrix:
    """Return UMAP's graph: to each neighbour w = exp(−(d − nearest)/σ), Σ w = log2(number); then w + wᵀ − w·wᵀ.

    Parameters
    ----------
    near
        Nearest cells of each.

    References
    ----------
    McInnes, Healy and Melville, arXiv 1802.03426 (2018).
    """
    n, j = near.index_nj.shape
    closest_n1 = np.where(near.distance_nj > 0, near.distance_nj, np.inf).min(1, keepdims=True)
    beyond_nj = np.maximum(near.distance_nj - np.where(np.isfinite(closest_n1), closest_n1, 0), 0)

    def total(width_n1: _Floats) -> _Floats:
        return np.asarray(np.exp(-beyond_nj[:, 1:] / width_n1).sum(1, keepdims=True))

    least_n1 = LEAST_WIDTH * near.distance_nj.mean(1, keepdims=True)
    width_n1 = np.maximum(_width(total, np.log2(j), near), np.maximum(least_n1, np.finfo(float).tiny))
    weight_nj = np.where(near.is_other_nj, np.exp(-beyond_nj / width_n1), 0.0)
    one_way = sparse.csr_matrix((weight_nj.ravel(), near.index_nj.ravel(), np.arange(n + 1) * j), (n, n))
    one_way.eliminate_zeros()
    return (one_way + one_way.T - one_way.multiply(one_way.T)).tocsr()


def _width(grows: Callable[[_Floats], _Floats], target: float, near: Near) -> _Floats:
    """Find, for every cell, the width at which something that grows with it comes to a target."""
    scale: Any = np.maximum(near.distance_nj.mean(1, keepdims=True), 1e-12)
    low, high = np.log(scale) - 16, np.log(scale) + 16
    for _ in range(N_STEPS):
        middle = (low + high) / 2
        below = grows(np.exp(middle)) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(np.exp((low + high) / 2))
