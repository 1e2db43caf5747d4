"""Everything that writes cells, over a result that is there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from genevae.io.formats import open_source
from genevae.io.write.anndata import write_anndata
from genevae.io.write.by_suffix import write_output

__all__ = ["WRITERS", "content", "save"]

N_CELLS, N_GENES = 600, 120
X = sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (N_CELLS, N_GENES)).astype(np.float32))
OBS = pd.DataFrame(
    {"kind": pd.Categorical(["a", "b"] * (N_CELLS // 2)), "n": np.arange(float(N_CELLS))},
    index=[f"c{n}" for n in range(N_CELLS)],
)
VAR = pd.DataFrame(index=[f"g{n}" for n in range(N_GENES)])


def blocks(scale: int) -> Iterator[dict[str, object]]:
    for start in range(0, N_CELLS, 200):
        yield {"X": X[start : start + 200] * scale}


def write(path: Path, scale: int) -> None:
    write_output(path, blocks(scale), OBS, VAR, {})


WRITERS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "blocks": ("r.h5ad", write),
    "object": ("r.h5ad", lambda path, scale: write_anndata(path, AnnData(X * scale, OBS.copy(), VAR))),
    "batch": ("r.h5", write),
    "csv": ("r.csv", write),
    "parquet": ("r.parquet", write),
    "npy": ("r.npy", write),
    "mtx": ("r.mtx", write),
    "zarr": ("r.zarr", write),
}


def content(path: Path) -> float:
    if path.suffix == ".npy":
        return float(np.load(path).sum())
    source = open_source(path)
    return float(source.read(np.arange(len(source))).sum())


def save(name: str, path: Path, scale: int) -> None:
    """Write with the writer of a name."""
    WRITERS[name][1](path, scale)
