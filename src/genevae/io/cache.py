"""Rows of formats that are read once from the front: kept in memory while they fit, and else in a scratch file."""

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
    as_stored,
    spread_rows,
)

__all__ = ["Held", "cached", "in_memory", "settle"]

CHUNK = 4096
"""Rows that are read at once."""


@dataclass(frozen=True)
class Held:
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
    """Keep chunks of rows where they can be read in any order.

    Parameters
    ----------
    chunks
        The rows, once, in order: float32, CSR with sorted columns or dense. The first chunk that has values decides
        whether all are kept as CSR.
    n_genes
        Number of columns.
    keep
        In memory, in a scratch file, or in memory as long as they fit. The scratch file has no name: it is gone with
        this process, however that ends. It lies where ``TMPDIR`` says.

    Raises
    ------
    DataError
        If the disk is full.
    """
    shelf = _Cache(n_genes)
    limit = {"auto": SHARE / 2 * available_bytes(), "memory": np.inf, "disk": -1}[keep]  # joining takes it twice
    try:
        for chunk in chunks:
            shelf.append(chunk)
            if shelf.n_bytes > limit:
                shelf.spill()
        return shelf.matrix()
    finally:
        shelf.close()


def in_memory(source: Source) -> MemorySource:
    """Read all of a source into memory."""
    if isinstance(source, MemorySource):
        return source
    matrix = source.matrix if isinstance(source, FileSource) else None
    held = matrix if isinstance(matrix, Held) else cached(_chunks(source), len(source.genes), "memory")
    x_ng = held.x_ng if isinstance(held, Held) else held.read(np.arange(len(source)))
    return MemorySource(source.name, x_ng, source.genes, source.obs, source.aliases, source.panels)


def settle(source: Source, keep: Literal["auto", "memory", "disk"] = "auto") -> Source:
    """Keep a source's expression where it is fastest: in memory, if that is asked for or if it fits well."""
    if keep == "disk" or (keep == "auto" and estimated_bytes(source) > SHARE / 2 * available_bytes()):
        return source
    return in_memory(source)


def estimated_bytes(source: Source) -> int:
    """Tell from a sample of rows what a source would take in memory."""
    if isinstance(source, MemorySource):
        return 0
    sample = source.read(spread_rows(len(source)))
    per_row = sum(len(part) * part.itemsize for part in _parts(sample).values()) / max(sample.shape[0], 1)
    return int(per_row * len(source))


def _chunks(source: Source) -> Iterator[Block]:
    for start in range(0, len(source), CHUNK):
        yield source.read(np.arange(start, min(start + CHUNK, len(source)), dtype=np.int64))


class _Cache:
    """Chunks that wait in memory, and files of those before them."""

    def __init__(self, n_genes: int) -> None:
        self.n_genes, self.n_cells, self.n_bytes = n_genes, 0, 0
        self.as_csr: bool | None = None
        self.waiting: list[Block] = []
        self.files: dict[str, IO[bytes]] = {}
        self.lengths: list[NDArray[np.int64]] = []

    def append(self, chunk: Block) -> None:
        """Take rows."""
        if self.as_csr is None:
            self.as_csr = (
                chunk.nnz < MAX_DENSITY * np.prod(chunk.shape) if sparse.issparse(chunk) else _is_sparse(chunk)
            )
        chunk = as_stored(chunk, self.as_csr)
        self.waiting.append(chunk)
        self.n_cells += chunk.shape[0]
        self.n_bytes += sum(len(part) * part.itemsize for part in _parts(chunk).values())
        if self.as_csr:
            self.lengths.append(np.diff(chunk.indptr).astype(np.int64))

    def spill(self) -> None:
        """Write the waiting rows to scratch files."""
        try:
            for chunk in self.waiting:
                for name, values in _parts(chunk).items():
                    if name not in self.files:
                        self.files[name] = tempfile.TemporaryFile(prefix="genevae-")  # noqa: SIM115 - closed by close()
                    values.tofile(self.files[name])
        except OSError as error:
            raise DataError(
                f"There is no room for a scratch file in {tempfile.gettempdir()}: {error.strerror or error}. "
                "Make room, or set TMPDIR to a folder that has it."
            ) from error
        self.waiting, self.n_bytes = [], 0

    def matrix(self) -> Matrix:
        """Make what was taken readable."""
        if not self.files:
            return Held(_join(self.waiting, self.n_genes))
        self.spill()
        if not self.as_csr:
            stored = _mapped(self.files["values"], np.float32)
            return Held(stored.reshape(self.n_cells, self.n_genes))
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
        """Close the scratch files; what maps them keeps them."""
        for file in self.files.values():
            file.close()


def _is_sparse(chunk: NDArray[np.float32]) -> bool:
    return bool(np.count_nonzero(chunk) < MAX_DENSITY * chunk.size)


def _parts(chunk: Block) -> dict[str, NDArray[Any]]:
    """Return the arrays that make up rows."""
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
    """Map a scratch file, which ends with the last reference to it."""
    file.flush()
    return np.memmap(file, dtype=dtype, mode="r") if file.tell() else np.empty(0, dtype=dtype)
