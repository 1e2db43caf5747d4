"""What every source of cells can say and do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from genevae.errors import DataError

__all__ = [
    "Block",
    "FileSource",
    "Matrix",
    "MemorySource",
    "Panels",
    "Source",
    "Stamp",
    "as_stored",
    "drawn",
    "fingerprint",
    "gene_table",
    "is_sparse",
    "spread_rows",
]

Block: TypeAlias = Any
"""Rows of expression: a SciPy CSR matrix, or a dense float32 array. (SciPy's matrices have no types to name.)"""

MAX_DENSITY = 0.4
"""Share of entries that are not zero, above which dense rows are faster than CSR."""


@dataclass(frozen=True)
class Panels:
    """Which genes were measured in which cells.

    Parameters
    ----------
    panel_n
        The panel of each cell.
    measured_pg
        Of each panel, whether it has each gene.
    """

    panel_n: NDArray[np.int64]
    measured_pg: NDArray[np.bool_]


class Source(Protocol):
    """Genes, the obs table, a length, and rows on demand."""

    @property
    def name(self) -> str:
        """What messages call it: a path, or the kind of object it came from."""

    @property
    def genes(self) -> tuple[str, ...]:
        """The name of each column."""

    @property
    def obs(self) -> pd.DataFrame:
        """One row of metadata per cell, indexed by cell name."""

    @property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """Other names of the columns, such as Ensembl ids, by what they are; often none."""

    @property
    def panels(self) -> Panels | None:
        """Which genes were measured in which cells; None where all were in all."""

    def __len__(self) -> int: ...

    def read(self, rows: NDArray[np.int64]) -> Block:
        """Read these rows, in this order, as float32: CSR with sorted columns, or dense where the source is dense.

        Raises
        ------
        DataError
            If the file is damaged, or was changed since it was opened.
        """


@dataclass(frozen=True)
class MemorySource:
    """A matrix in memory.

    Parameters
    ----------
    name
        What messages call it.
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
    """Expression that is read by rows: a part of a file, or what was made of one."""

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""

    def read(self, rows: NDArray[np.int64]) -> Block:
        """Read these rows, in this order, as float32."""


@dataclass(frozen=True)
class FileSource:
    """A matrix on disk, and the names of its rows and columns.

    Parameters
    ----------
    name
        What messages call it: the path.
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
        The files that are read as rows are asked for, as they were when they were opened.
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
    """How a file was when it was opened, to tell whether it was changed since."""

    path: Path
    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Look at a file."""
        found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns, found.st_ino)

    def check(self) -> None:
        """Make sure that the file is as it was.

        Raises
        ------
        DataError
            If it is gone, or another.
        """
        try:
            same = Stamp.of(self.path) == self
        except OSError as error:
            raise DataError(f"{self.path} cannot be read any more: {error.strerror}.") from error
        if not same:
            raise DataError(f"{self.path} was changed while it was read: leave it alone, and start again.")


def is_sparse(source: Source, n_probes: int = 256) -> bool:
    """Whether minibatches of a source had better be CSR, however it is stored: less than 40 % is not zero.

    What a model is shown must not depend on a file's format, down to the last bit; so a sample of the values decides.
    """
    x = source.read(spread_rows(len(source), n_probes))
    values = x.data if sparse.issparse(x) else x
    return bool(np.count_nonzero(values) < MAX_DENSITY * x.shape[0] * x.shape[1])


def as_stored(x: Block, as_csr: bool) -> Block:
    """Give rows as CSR without stored zeros, or dense."""
    if not as_csr:
        return x.toarray() if sparse.issparse(x) else x
    if not sparse.issparse(x):
        return sparse.csr_matrix(x)
    if not x.data.all():
        x = x.copy()
        x.eliminate_zeros()
    return x


def gene_table(source: Source) -> pd.DataFrame:
    """Return a row for each gene, with its other names."""
    return pd.DataFrame(dict(source.aliases), index=pd.Index(source.genes, dtype=object))


def spread_rows(n_cells: int, n: int = 256) -> NDArray[np.int64]:
    """Return at most ``n`` evenly spaced row numbers."""
    return np.unique(np.linspace(0, max(n_cells - 1, 0), min(n, n_cells)).astype(np.int64))


def fingerprint(source: Source, n_probes: int = 256) -> str:
    """Tell two data sets apart: the sha256 of the shape, the names, and evenly spaced rows.

    Parameters
    ----------
    source
        The data.
    n_probes
        How many rows are read.
    """
    digest = hashlib.sha256(f"{len(source)}x{len(source.genes)}".encode())
    digest.update("\n".join(source.genes).encode())
    digest.update("\n".join(map(str, source.obs.index)).encode())
    for row in spread_rows(len(source), n_probes):
        x = source.read(np.array([row]))
        digest.update(np.ascontiguousarray(x.toarray() if sparse.issparse(x) else x).tobytes())
    return digest.hexdigest()


def drawn(source: Source, n: int, seed: int) -> MemorySource:
    """Read some cells, drawn at random where there are more, in the order of the source.

    Raises
    ------
    DataError
        If fewer than 3 are asked for.
    """
    if n < 3:
        raise DataError(f"cells must be 3 or more, not {n}.")
    rows = np.arange(len(source))
    if len(rows) > n:
        rows = np.sort(np.random.default_rng(seed).choice(rows, n, replace=False))
    panels = source.panels and replace(source.panels, panel_n=source.panels.panel_n[rows])
    return MemorySource(source.name, source.read(rows), source.genes, source.obs.iloc[rows], panels=panels)
