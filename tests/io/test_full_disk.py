"""A full disk under any writer is a RunError: the old result stays, nothing half-written is left, nothing crashes."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from genevae.errors import RunError
from genevae.io.formats import open_source
from genevae.io.write.anndata import write_anndata
from genevae.io.write.by_suffix import write_output

N_CELLS, N_GENES = 600, 120
X = sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (N_CELLS, N_GENES)).astype(np.float32))
OBS = pd.DataFrame(
    {"kind": pd.Categorical(["a", "b"] * (N_CELLS // 2)), "n": np.arange(float(N_CELLS))},
    index=[f"c{n}" for n in range(N_CELLS)],
)
VAR = pd.DataFrame(index=[f"g{n}" for n in range(N_GENES)])


@contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a disk that is full does not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


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
    "npy": ("r.npy", write),
    "mtx": ("r.mtx", write),
    "zarr": ("r.zarr", write),
}


def content(path: Path) -> float:
    if path.suffix == ".npy":
        return float(np.load(path).sum())
    source = open_source(path)
    return float(source.read(np.arange(len(source))).sum())


def check(name: str, tmp_path: Path, n_points: int) -> None:
    file, save = WRITERS[name]
    path = tmp_path / file
    save(path, 2)
    largest = max(entry.stat().st_size for entry in tmp_path.rglob("*") if entry.is_file())
    save(path, 1)
    old = content(path)
    for n_bytes in np.linspace(0, largest - 1, n_points).astype(int):
        with room_for(int(n_bytes)), pytest.raises(RunError, match="Cannot write"):
            save(path, 2)
        assert content(path) == old
        assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]
    save(path, 2)
    assert content(path) == 2 * old


@pytest.mark.parametrize("name", WRITERS)
def test_the_old_result_stays_where_the_disk_is_full(name, tmp_path):
    check(name, tmp_path, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_it_stays_wherever_the_disk_is_full(name, tmp_path):
    check(name, tmp_path, 40)
