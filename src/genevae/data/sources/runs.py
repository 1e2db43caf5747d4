"""Read CSR rows from stored arrays by ranges: neighbours at once, and never far more than was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genevae.errors import DataError

__all__ = ["StoredCSR", "check_indptr", "runs_of"]

GAP = 2**14
"""Entries that are read and thrown away rather than asked for the next range: as long as a call takes."""
LONGEST = 2**22
"""Entries of one range."""

_Range = Callable[[int, int], NDArray[np.float32]]


@dataclass(frozen=True)
class StoredCSR:
    """CSR rows whose entries are read by range.

    Parameters
    ----------
    name
        What messages call it.
    indptr_n
        Where each row starts, and the end of the last; in memory.
    n_genes
        Number of columns.
    values, genes
        Read the values, and the columns, of a range of entries.
    """

    name: str
    indptr_n: NDArray[np.int64]
    n_genes: int
    values: Callable[[int, int], NDArray[np.float32]]
    genes: Callable[[int, int], NDArray[np.integer]]

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return len(self.indptr_n) - 1, self.n_genes

    def read(self, rows: NDArray[np.int64]) -> sparse.csr_matrix:
        """Read these rows, in this order."""
        if not len(rows):
            return sparse.csr_matrix((0, self.n_genes), dtype=np.float32)
        ordered = rows if _ascends(rows) else np.sort(rows)
        parts = [self._run(ordered[first:last]) for first, last in runs_of(ordered, self.indptr_n)]
        x = sparse.vstack(parts, format="csr", dtype=np.float32) if len(parts) != 1 else parts[0]
        if ordered is rows:
            return x
        return x[np.argsort(np.argsort(rows, kind="stable"), kind="stable")]

    def _run(self, rows: NDArray[np.int64]) -> sparse.csr_matrix:
        """Read ascending rows that lie close together."""
        first, last = int(rows[0]), int(rows[-1]) + 1
        start, stop = int(self.indptr_n[first]), int(self.indptr_n[last])
        genes = self.genes(start, stop)
        if len(genes) and (genes.min() < 0 or genes.max() >= self.n_genes):
            raise DataError(
                f"{self.name} is damaged: it stores a value for gene number {int(genes.max())} (rows {first} to "
                f"{last - 1}), and there are {self.n_genes} genes. Copy or write it again."
            )
        x = sparse.csr_matrix(
            (self.values(start, stop), genes, self.indptr_n[first : last + 1] - start),
            shape=(last - first, self.n_genes),
        )
        if not x.has_canonical_format:
            x.sum_duplicates()
        return x if last - first == len(rows) else x[rows - first]


def runs_of(
    rows: NDArray[np.int64], indptr_n: NDArray[np.int64], gap: int = GAP, longest: int = LONGEST
) -> Iterator[tuple[int, int]]:
    """Cut ascending rows where the next range of entries lies far away, or the range would be long."""
    if not len(rows):
        return
    ends, starts = indptr_n[rows + 1], indptr_n[rows]
    far = np.flatnonzero(starts[1:] - ends[:-1] > gap) + 1
    for start, last in zip([0, *far.tolist()], [*far.tolist(), len(rows)], strict=True):
        first = start
        while first < last:
            fitting = int(np.searchsorted(ends[first:last], starts[first] + longest, side="right"))
            yield first, min(first + max(1, fitting), last)
            first += max(1, fitting)


def check_indptr(name: str, indptr_n: NDArray[np.int64], n_cells: int, n_entries: int) -> NDArray[np.int64]:
    """Return row starts as int64, after making sure that they can be.

    Raises
    ------
    DataError
        If they do not fit the number of cells or of entries, or descend.
    """
    indptr_n = np.asarray(indptr_n, dtype=np.int64)
    fits = len(indptr_n) == n_cells + 1 and indptr_n[0] == 0 and indptr_n[-1] == n_entries
    if not fits or (np.diff(indptr_n) < 0).any():
        raise DataError(
            f"{name} is damaged: its row starts (indptr) do not fit {n_cells:,} cells and {n_entries:,} stored values. "
            "Copy or write it again."
        )
    return indptr_n


def _ascends(rows: NDArray[np.int64]) -> bool:
    return bool((rows[1:] >= rows[:-1]).all())
