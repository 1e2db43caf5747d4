"""A generated atlas that does not fit into small memory: sorted by cell type, as many atlases are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from genevae.io.batch_h5 import batch_name, write_batch, write_config
from genevae.io.write.anndata import fill_store

__all__ = ["FORMATS", "N_TYPES", "write_atlas"]

N_TYPES = 20
PIECE = 5_000
FORMATS = ("h5ad", "zarr", "batch")


def cells_of(number: int, n_cells: int, n_genes: int, per_cell: int, kind: int) -> sparse.csr_matrix:
    """Draw counts of one cell type: which genes are seen, and how often, varies with the type.

    The genes of a cell are met by steps of random length, so that it costs as much as it has non-zeros.
    """
    rng = np.random.default_rng([number, kind])
    step = n_genes // per_cell
    steps = rng.integers(1, 2 * step, (n_cells, per_cell), dtype=np.int32)
    genes = np.cumsum(steps, axis=1, dtype=np.int32)
    kept = genes < n_genes
    order = np.random.default_rng(kind).integers(1, 4, n_genes).astype(np.float32)  # how strongly a type's genes are on
    counts = rng.poisson(order[np.minimum(genes, n_genes - 1)] * 0.7).astype(np.float32) + 1
    indptr = np.concatenate([[0], np.cumsum(kept.sum(1))])
    return sparse.csr_matrix((counts[kept], genes[kept], indptr), shape=(n_cells, n_genes))


def pieces(shard: int, cells_per_shard: int, n_cells: int, n_genes: int, per_cell: int) -> Iterator[sparse.csr_matrix]:
    """Yield the cells of a shard; the type of a cell follows from its place in the whole."""
    for start in range(shard * cells_per_shard, (shard + 1) * cells_per_shard, PIECE):
        yield cells_of(start, PIECE, n_genes, per_cell, start * N_TYPES // n_cells)


def write_atlas(
    folder: Path,
    form: str,
    n_cells: int = 1_000_000,
    n_genes: int = 20_000,
    per_cell: int = 1_000,
    cells_per_shard: int = 50_000,
    compression: str = "none",
) -> float:
    """Write the atlas, unless it is there, and return the seconds it took."""
    started = time.perf_counter()
    if (folder / "done").exists():
        return 0.0
    folder.mkdir(parents=True, exist_ok=True)
    genes = [f"gene{number}" for number in range(n_genes)]
    for shard in range(n_cells // cells_per_shard):
        rows = np.arange(shard * cells_per_shard, (shard + 1) * cells_per_shard)
        kinds = pd.Categorical.from_codes(rows * N_TYPES // n_cells, [f"type{kind:02d}" for kind in range(N_TYPES)])
        obs = pd.DataFrame({"cell_type": kinds}, index=[f"cell{row}" for row in rows])
        parts = pieces(shard, cells_per_shard, n_cells, n_genes, per_cell)
        if form == "batch":
            write_batch(folder / batch_name(shard), sparse.vstack(list(parts), format="csr"), genes, obs)
            continue
        var = pd.DataFrame(index=genes)
        fill_store(folder / f"cells_{shard:04d}.{form}", ({"X": x} for x in parts), obs, var, None, compression)
    if form == "batch":
        write_config(folder, n_cells, n_genes, cells_per_shard)
    (folder / "done").touch()
    return time.perf_counter() - started
