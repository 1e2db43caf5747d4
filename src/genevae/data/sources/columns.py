"""Columns in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["place"]


def place(x: Any, place_g: NDArray[np.int64], n_genes: int) -> Any:
    """Put each column of some rows in its place among ``n_genes``, and leave out those whose place is −1."""
    if isinstance(x, np.ndarray):
        placed = np.zeros((x.shape[0], n_genes), dtype=x.dtype)
        placed[:, place_g[place_g >= 0]] = x[:, place_g >= 0]
        return placed
    gene_e = place_g[x.indices]
    kept = gene_e >= 0
    indptr = np.concatenate([[0], np.cumsum(kept)])[x.indptr]
    rows = sparse.csr_matrix((x.data[kept], gene_e[kept], indptr), shape=(x.shape[0], n_genes))
    rows.sort_indices()
    return rows
