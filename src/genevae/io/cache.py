"""Cache for rows of formats without random access: in memory if they fit, otherwise in a scratch file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genevae.errors import DataError
from genevae.io.lowlevel.csr_ranges import StoredCSR
from genevae.io.ram import SHARE, available_bytes
from genevae.io.source import (
    MAX_DENSITY,
    Block,
    FileSource,
    Matrix,
    MemorySource,
    Source,
    csr_or_dense,
    evenly_spaced_rows,
)

__all__ = ["InMemoryMatrix", "cached", "in_memory", "in_memory_if_fits"]

CHUNK = 4096
"""Rows to read at once."""


@dataclass(frozen=True)
class InMemoryMatrix:
    """A matrix in memory."""

    x_ng: Block

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        n_cells, n_genes = self.x_ng.shape
        return n_cells, n_genes

    def read(self, rows: NDArray[np.int64]) -> Block:
        """Read these rows, in this order."""
        return self.x_ng[rows]


def cached(chunks: Iterable[Block], n_genes: int, keep: Literal["auto", "memory", "disk"] = "auto") -> Matrix:
    """Cache chunks of rows, for reading in any order.

    Parameters
    ----------
    chunks
        The rows in order: float32, CSR with sorted columns or dense. The first chunk decides whether all are cached as
        CSR.
    n_genes
        Number of columns.
    keep
        "memory", "disk" (a scratch file), or "auto": in memory if the rows fit. The scratch file is in ``TMPDIR`` and
        has no name, so it disappears with this process, even if that is killed.

    Raises
    ------
    DataError
        If the disk is full.
    """
    cache = _Cache(n_genes)
    limit = {"auto": SHARE / 2 * available_bytes(), "memory": np.inf, "disk": -1}[keep]  # half: joining makes a copy
    try:
        for chunk in chunks:
            cache.append(chunk)
            if cache.n_bytes > limit:
                cache.spill()
        return cache.matrix()
    finally:
        cache.close()


def in_memory(source: Source) -> MemorySource:
    """Read all of a source into memory."""
    if isinstance(source, MemorySource):
        return source
    matrix = source.matrix if isinstance(source, FileSource) else None
    loaded = matrix if isinstance(matrix, InMemoryMatrix) else cached(_chunks(source), len(source.genes), "memory")
    x_ng = loaded.x_ng if isinstance(loaded, InMemoryMatrix) else loaded.read(np.arange(len(source)))
    return MemorySource(source.name, x_ng, source.genes, source.obs, source.aliases, source.panels)


def in_memory_if_fits(source: Source, keep: Literal["auto", "memory", "disk"] = "auto") -> Source:
    """Read a source into memory, unless ``keep`` is "disk", or it is "auto" and the source does not fit."""
    if keep == "disk" or (keep == "auto" and estimated_bytes(source) > SHARE / 2 * available_bytes()):
        return source
    return in_memory(source)


def estimated_bytes(source: Source) -> int:
    """Estimate the size of a source in memory from a sample of rows."""
    if isinstance(source, MemorySource):
        return 0
    sample = source.read(evenly_spaced_rows(len(source)))
    per_row = sum(len(part) * part.itemsize for part in _parts(sample).values()) / max(sample.shape[0], 1)
    return int(per_row * len(source))


def _chunks(source: Source) -> Iterator[Block]:
    for start in range(0, len(source), CHUNK):
        yield source.read(np.arange(start, min(start + CHUNK, len(source)), dtype=np.int64))


class _Cache:
    """The last chunks in memory, and scratch files of the chunks before them."""

    def __init__(self, n_genes: int) -> None:
        self.n_genes, self.n_cells, self.n_bytes = n_genes, 0, 0
        self.as_csr: bool | None = None
        self.waiting: list[Block] = []
        self.files: dict[str, IO[bytes]] = {}
        self.lengths: list[NDArray[np.int64]] = []

    def append(self, chunk: Block) -> None:
        """Add rows."""
        if self.as_csr is None:
            self.as_csr = (
                chunk.nnz < MAX_DENSITY * np.prod(chunk.shape) if sparse.issparse(chunk) else _is_sparse(chunk)
            )
        chunk = csr_or_dense(chunk, self.as_csr)
        self.waiting.append(chunk)
        self.n_cells += chunk.shape[0]
        self.n_bytes += sum(len(part) * part.itemsize for part in _parts(chunk).values())
        if self.as_csr:
            self.lengths.append(np.diff(chunk.indptr).astype(np.int64))

    def spill(self) -> None:
        """Write the rows in memory to scratch files."""
        try:
            for chunk in self.waiting:
                for name, values in _parts(chunk).items():
                    if name not in self.files:
                        self.files[name] = tempfile.TemporaryFile(prefix="genevae-")  # noqa: SIM115 - closed by close()
                    values.tofile(self.files[name])
        except OSError as error:
            raise DataError(
                f"A scratch file in {tempfile.gettempdir()} could not be written: {error.strerror or error}. "
                "Free some space, or set TMPDIR to another folder."
            ) from error
        self.waiting, self.n_bytes = [], 0

    def matrix(self) -> Matrix:
        """Return the cached rows as a matrix."""
        if not self.files:
            return InMemoryMatrix(_join(self.waiting, self.n_genes))
        self.spill()
        if not self.as_csr:
            stored = _mapped(self.files["values"], np.float32)
            return InMemoryMatrix(stored.reshape(self.n_cells, self.n_genes))
        values, genes = _mapped(self.files["values"], np.float32), _mapped(self.files["genes"], np.int32)
        indptr_n = np.concatenate([[0], np.cumsum(np.concatenate(self.lengths))]).astype(np.int64)
        return StoredCSR(
            "the scratch file",
            indptr_n,
            self.n_genes,
            lambda start, stop: np.array(values[start:stop]),
            lambda start, stop: np.array(genes[start:stop]),
        )

    def close(self) -> None:
        """Close the scratch files. Memory maps keep them alive."""
        for file in self.files.values():
            file.close()


def _is_sparse(chunk: NDArray[np.float32]) -> bool:
    return bool(np.count_nonzero(chunk) < MAX_DENSITY * chunk.size)


def _parts(chunk: Block) -> dict[str, NDArray[Any]]:
    """Return the arrays of a block of rows."""
    if isinstance(chunk, np.ndarray):
        return {"values": np.ascontiguousarray(chunk, dtype=np.float32).reshape(-1)}
    return {"values": chunk.data, "genes": chunk.indices.astype(np.int32, copy=False)}


def _join(chunks: list[Block], n_genes: int) -> Block:
    if not chunks:
        return sparse.csr_matrix((0, n_genes), dtype=np.float32)
    if isinstance(chunks[0], np.ndarray):
        return np.concatenate(chunks)
    return sparse.vstack(chunks, format="csr", dtype=np.float32)


def _mapped(file: IO[bytes], dtype: type) -> NDArray[Any]:
    """Map a scratch file. It is deleted with the last reference to it."""
    file.flush()
    return np.memmap(file, dtype=dtype, mode="r") if file.tell() else np.empty(0, dtype=dtype)
