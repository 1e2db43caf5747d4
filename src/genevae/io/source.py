"""Sources of cells: genes, an obs table, and rows of expression on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from genevae.errors import DataError
from genevae.io.bounded import require_regular

__all__ = [
    "Block",
    "FileSource",
    "Matrix",
    "MemorySource",
    "Panels",
    "Source",
    "Stamp",
    "csr_or_dense",
    "evenly_spaced_rows",
    "fingerprint",
    "gene_table",
    "is_sparse",
    "sample_cells",
    "select_rows",
    "update_lines",
    "without_tables",
]

Block: TypeAlias = Any
"""Rows of expression: a SciPy CSR matrix or a dense float32 array. (SciPy's matrices have no type stubs.)"""

MAX_DENSITY = 0.4
"""Share of non-zero entries above which dense rows are faster than CSR."""


@dataclass(frozen=True)
class Panels:
    """Which genes were measured in which cells.

    Parameters
    ----------
    panel_n
        The panel of each cell.
    measured_pg
        Which genes each panel has.
    """

    panel_n: NDArray[np.int64]
    measured_pg: NDArray[np.bool_]


class Source(Protocol):
    """Genes, an obs table, a length, and rows of expression on demand."""

    @property
    def name(self) -> str:
        """Name in messages: a path, or the type of the object."""

    @property
    def genes(self) -> tuple[str, ...]:
        """The name of each column."""

    @property
    def obs(self) -> pd.DataFrame:
        """One row of metadata per cell, indexed by cell name."""

    @property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """Other names of the columns, such as Ensembl ids, by kind of name; often empty."""

    @property
    def panels(self) -> Panels | None:
        """Which genes were measured in which cells; None if all were measured in all cells."""

    def __len__(self) -> int: ...

    def read(self, rows: NDArray[np.int64]) -> Block:
        """Read these rows, in this order, as float32: CSR with sorted columns, or dense if the source is dense.

        Raises
        ------
        DataError
            If the file is damaged, or has changed since it was opened.
        """


@dataclass(frozen=True)
class MemorySource:
    """A matrix in memory.

    Parameters
    ----------
    name
        Name in messages.
    x_ng
        Expression: float32, CSR or dense.
    genes
        The name of each column.
    obs
        One row of metadata per cell.
    aliases
        Other names of the columns.
    panels
        Which genes were measured in which cells.
    """

    name: str
    x_ng: Block
    genes: tuple[str, ...]
    obs: pd.DataFrame
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    panels: Panels | None = None

    def __len__(self) -> int:
        return int(self.x_ng.shape[0])

    def read(self, rows: NDArray[np.int64]) -> Block:
        """Read these rows, in this order."""
        return self.x_ng[rows]


class Matrix(Protocol):
    """Expression that is read by rows, usually from a file."""

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""

    def read(self, rows: NDArray[np.int64]) -> Block:
        """Read these rows, in this order, as float32."""


@dataclass(frozen=True)
class FileSource:
    """A matrix on disk, with the names of its rows and columns.

    Parameters
    ----------
    name
        Name in messages: the path.
    matrix
        Expression.
    genes
        The name of each column.
    obs
        One row of metadata per cell.
    aliases
        Other names of the columns.
    panels
        Which genes were measured in which cells.
    stamps
        The files that rows are read from, with their state when they were opened.
    """

    name: str
    matrix: Matrix
    genes: tuple[str, ...]
    obs: pd.DataFrame
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    panels: Panels | None = None
    stamps: tuple[Stamp, ...] = ()

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def read(self, rows: NDArray[np.int64]) -> Block:
        """Read these rows, in this order."""
        for stamp in self.stamps:
            stamp.check()
        return self.matrix.read(rows)


@dataclass(frozen=True)
class Stamp:
    """The state of a file when it was opened, to detect changes."""

    path: Path
    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the current state of a file."""
        stat = path.stat()
        require_regular(path)
        return cls(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)

    def check(self) -> None:
        """Check that the file is unchanged.

        Raises
        ------
        DataError
            If it has changed, or is gone.
        """
        try:
            same = Stamp.of(self.path) == self
        except OSError as error:
            raise DataError(f"{self.path} can no longer be read: {error.strerror}.") from error
        if not same:
            raise DataError(f"{self.path} changed while it was being read. Do not write to it, and start again.")


def is_sparse(source: Source, n_probes: int = 256) -> bool:
    """Return whether minibatches of a source should be CSR: whether less than 40 % of a sample of values is non-zero.

    The values decide, not the storage format, so that results do not depend on the format, to the last bit.
    """
    x = source.read(evenly_spaced_rows(len(source), n_probes))
    values = x.data if sparse.issparse(x) else x
    return bool(np.count_nonzero(values) < MAX_DENSITY * x.shape[0] * x.shape[1])


def csr_or_dense(x: Block, as_csr: bool) -> Block:
    """Return rows as CSR without stored zeros, or dense."""
    if not as_csr:
        return x.toarray() if sparse.issparse(x) else x
    if not sparse.issparse(x):
        return sparse.csr_matrix(x)
    if not x.data.all():
        x = x.copy()
        x.eliminate_zeros()
    return x


def gene_table(source: Source) -> pd.DataFrame:
    """Return a table with one row per gene and its other names."""
    return pd.DataFrame(dict(source.aliases), index=pd.Index(source.genes, dtype=object))


def evenly_spaced_rows(n_cells: int, n: int = 256) -> NDArray[np.int64]:
    """Return at most ``n`` evenly spaced row numbers."""
    return np.unique(np.linspace(0, max(n_cells - 1, 0), min(n, n_cells)).astype(np.int64))


def fingerprint(source: Source, n_probes: int = 256) -> str:
    """Return a hash of a data set: the sha256 of its shape, its names, and evenly spaced rows.

    Parameters
    ----------
    source
        The data.
    n_probes
        Number of rows to read.
    """
    digest = hashlib.sha256(f"{len(source)}x{len(source.genes)}".encode())
    digest.update("\n".join(source.genes).encode())
    update_lines(digest, source.obs.index)
    for row in evenly_spaced_rows(len(source), n_probes):
        x = source.read(np.array([row]))
        digest.update(np.ascontiguousarray(x.toarray() if sparse.issparse(x) else x).tobytes())
    return digest.hexdigest()


def update_lines(digest: Any, values: Iterable[object]) -> None:
    """Add the texts of values to a hash, with line ends between them: block by block, because there may be millions."""
    texts, between = map(str, values), ""
    while block := list(islice(texts, 2**16)):
        digest.update((between + "\n".join(block)).encode())
        between = "\n"


@dataclass(frozen=True)
class _SelectedRows:
    """Some rows of a source, as a matrix."""

    source: Source
    rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return len(self.rows), len(self.source.genes)

    def read(self, rows: NDArray[np.int64]) -> Block:
        """Read these of the selected rows, in this order."""
        return self.source.read(self.rows[rows])


def select_rows(source: Source, rows: NDArray[np.int64]) -> Source:
    """Return a source of some rows of another, which stay where they are."""
    panels = source.panels and replace(source.panels, panel_n=source.panels.panel_n[rows])
    obs = source.obs.iloc[rows]
    return FileSource(source.name, _SelectedRows(source, rows), source.genes, obs, source.aliases, panels)


def without_tables(source: Source, rows: NDArray[np.int64]) -> tuple[Source, NDArray[np.int64]]:
    """Return a source that reads the same rows and has no names and tables, and the numbers of the rows in it.

    It is what a worker needs of a source: it is small where expression is on disk, also that of many files.
    """
    if not isinstance(source, FileSource):
        return source, rows
    matrix: Any = source.matrix
    if isinstance(matrix, _SelectedRows):
        return without_tables(matrix.source, matrix.rows[rows])
    parts: tuple[Source, ...] = getattr(matrix, "parts", ())
    if len(parts) == 1:
        part, rows = without_tables(parts[0], rows)
        matrix = replace(matrix, parts=(part,))
    elif parts:
        of_files = [isinstance(p, FileSource) and not isinstance(p.matrix, _SelectedRows) for p in parts]
        none = np.empty(0, dtype=np.int64)
        bare = (without_tables(p, none)[0] if is_file else p for p, is_file in zip(parts, of_files, strict=True))
        matrix = replace(matrix, parts=tuple(bare))
    return replace(source, matrix=matrix, genes=(), obs=pd.DataFrame(), aliases={}, panels=None), rows


def sample_cells(source: Source, n: int, seed: int) -> MemorySource:
    """Read a random sample of at most ``n`` cells, in the order of the source.

    Raises
    ------
    DataError
        If ``n`` is below 3.
    """
    if n < 3:
        raise DataError(f"cells must be 3 or more, not {n}.")
    rows = np.arange(len(source))
    if len(rows) > n:
        rows = np.sort(np.random.default_rng(seed).choice(rows, n, replace=False))
    panels = source.panels and replace(source.panels, panel_n=source.panels.panel_n[rows])
    return MemorySource(source.name, source.read(rows), source.genes, source.obs.iloc[rows], panels=panels)
