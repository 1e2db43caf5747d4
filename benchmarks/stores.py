"""Data that the benchmarks make."""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from scipy import sparse

__all__ = ["counts_like_cells"]


def counts_like_cells(n_cells: int, n_genes: int, density: float, seed: int = 0) -> AnnData:
    """Draw counts of a given density from negative binomials whose means vary over genes and cells.

    Parameters
    ----------
    n_cells, n_genes
        Shape.
    density
        Share of entries that are not zero, to within a hundredth.
    seed
        Of the draws.
    """
    rng = np.random.default_rng(seed)
    gene_g, type_cg = rng.lognormal(0, 1.2, n_genes), rng.lognormal(0, 0.7, (8, n_genes))
    type_n, size_n1 = rng.integers(0, 8, n_cells), rng.lognormal(0, 0.4, (n_cells, 1))
    low, high = 1e-4, 10.0
    for _ in range(20):
        level = np.sqrt(low * high)
        sample = rng.poisson(rng.gamma(2.0, level * size_n1[:512] * gene_g * type_cg[type_n[:512]] / 2))
        low, high = (level, high) if (sample > 0).mean() < density else (low, level)
    blocks = [
        sparse.csr_matrix(
            rng.poisson(rng.gamma(2.0, level * size_n1[at] * gene_g * type_cg[type_n[at]] / 2)).astype(np.float32)
        )
        for at in np.array_split(np.arange(n_cells), max(1, n_cells // 4096))
    ]
    adata = AnnData(sparse.vstack(blocks, format="csr"))
    adata.obs["cell_type"] = [f"type_{code}" for code in type_n]
    return adata
