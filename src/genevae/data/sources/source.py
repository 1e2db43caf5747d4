"""What every source of cells can say and do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["MemorySource", "Source", "fingerprint"]


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

    def __len__(self) -> int: ...

    def read(self, rows: NDArray[np.int64]) -> csr_matrix | NDArray[np.float32]:
        """Read these rows, in this order, as float32: CSR, or dense where the source is dense."""


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
    """

    name: str
    x_ng: csr_matrix | NDArray[np.float32]
    genes: tuple[str, ...]
    obs: pd.DataFrame

    def __len__(self) -> int:
        return int(self.x_ng.shape[0])

    def read(self, rows: NDArray[np.int64]) -> csr_matrix | NDArray[np.float32]:
        """Read these rows, in this order."""
        return self.x_ng[rows]


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
    rows = np.unique(np.linspace(0, max(len(source) - 1, 0), min(n_probes, len(source))).astype(np.int64))
    for row in rows:
        x = source.read(np.array([row]))
        digest.update(np.ascontiguousarray(x.toarray() if hasattr(x, "toarray") else x).tobytes())
    return digest.hexdigest()
