"""Reading of CSR rows from stored arrays, in ranges of neighbouring rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genevae.errors import DataError
from genevae.io.lowlevel.raw_chunks import each_range, read_all_into
from genevae.kernels.compile import load

__all__ = ["StoredCSR", "check_indptr", "ranges_of", "read_ranges"]

GAP = 2**14
"""Unused entries that are read to join two ranges: about as many as can be read in the time of one call."""
LONGEST = 2**22
"""Largest number of entries in a range."""
N_THREADS = min(max(2, os.cpu_count() or 1), 8)
"""Ranges to read in parallel: reading, decompressing and checking a chunk leave other threads running."""


@dataclass(frozen=True)
class StoredCSR:
    """CSR rows whose entries are read by range.

    Parameters
    ----------
    name
        Name in messages.
    indptr_n
        Start of each row, and the end of the last, in memory.
    n_genes
        Number of columns.
    values, genes
        Functions that read the values, and the columns, of a range of entries.
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
        if _ascends(rows):
            return read_ranges([(self, rows)])
        return read_ranges([(self, np.sort(rows))])[np.argsort(np.argsort(rows, kind="stable"), kind="stable")]

    def sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of entries of each of these rows."""
        return self.indptr_n[rows + 1] - self.indptr_n[rows]

    def fill(self, rows: NDArray[np.int64], x_e: NDArray[np.float32], gene_e: NDArray[np.int32]) -> None:
        """Read ascending rows that are near each other into existing arrays."""
        first, last = int(rows[0]), int(rows[-1]) + 1
        start, stop = int(self.indptr_n[first]), int(self.indptr_n[last])
        between_e, gene_between_e = self.values(start, stop), np.empty(stop - start, dtype=np.int32)
        self._fill_genes(start, gene_between_e)
        ends = np.cumsum(self.sizes(rows))
        for a, b in pairwise([0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]):
            target = slice(int(ends[a - 1]) if a else 0, int(ends[b - 1]))
            kept = slice(int(self.indptr_n[rows[a]]) - start, int(self.indptr_n[rows[b - 1] + 1]) - start)
            x_e[target], gene_e[target] = between_e[kept], gene_between_e[kept]

    def fill_neighbours(
        self, firsts: Sequence[int], lasts: Sequence[int], x_e: NDArray[np.float32], gene_e: NDArray[np.int32]
    ) -> None:
        """Read all rows from each first to each last into existing arrays; columns of int32 are not checked."""
        start_r = self.indptr_n[firsts]
        n_r = self.indptr_n[np.asarray(lasts) + 1] - start_r
        read_all_into(self.values, start_r, n_r, x_e)
        if getattr(self.genes, "dtype", None) == np.int32:
            read_all_into(self.genes, start_r, n_r, gene_e)
            return
        for start, part in each_range(start_r, n_r, gene_e):
            self._fill_genes(start, part)  # checks before it converts

    def _fill_genes(self, start: int, gene_e: NDArray[np.int32]) -> None:
        """Read columns, and check that they are valid."""
        if getattr(self.genes, "dtype", None) == np.int32:
            read_all_into(self.genes, np.array([start]), np.array([len(gene_e)]), gene_e)
            genes: NDArray[np.integer] = gene_e
        else:
            genes = self.genes(start, start + len(gene_e))
        self.require_genes(start, genes)
        if genes is not gene_e:
            gene_e[:] = genes

    def require_genes(self, start: int, genes: NDArray[np.integer]) -> None:
        """Check columns that are stored from an entry on.

        Raises
        ------
        DataError
            If one of them is not the number of a gene.
        """
        if len(genes) and (genes.min() < 0 or genes.max() >= self.n_genes):
            first, last = np.searchsorted(self.indptr_n, [start, start + len(genes)], side="right") - 1
            wrong = genes[(genes < 0) | (genes >= self.n_genes)][0]
            raise DataError(
                f"{self.name} is damaged: it stores a value for gene number {int(wrong)} (rows {first} to "
                f"{last - 1}), but there are {self.n_genes} genes. Copy or write it again."
            )


@dataclass(frozen=True)
class _Job:
    """Rows that are read at once, and where their entries go.

    Parameters
    ----------
    stored
        The matrix.
    rows
        Ascending.
    is_next
        Whether each row but the first is the next one of the matrix.
    target
        Entries of the result.
    place
        Rows of the result.
    """

    stored: StoredCSR
    rows: NDArray[np.int64]
    is_next: bool
    target: slice
    place: slice


def read_ranges(parts: Sequence[tuple[StoredCSR, NDArray[np.int64]]]) -> sparse.csr_matrix:
    """Read ascending rows of matrices with the same columns, and concatenate them.

    Ranges are read in parallel, directly into the result.
    """
    size_n = np.concatenate([stored.sizes(rows) for stored, rows in parts])
    indptr_n = np.concatenate([[0], np.cumsum(size_n)])
    x = sparse.csr_matrix(
        (np.empty(indptr_n[-1], np.float32), np.empty(indptr_n[-1], np.int32), indptr_n),
        shape=(len(size_n), parts[0][0].n_genes),
    )
    jobs: list[_Job] = []
    n = 0
    for stored, rows in parts:
        jumps = np.concatenate([[0], np.cumsum(np.diff(rows) != 1)])
        for first, last in ranges_of(rows, stored.indptr_n):
            target = slice(int(indptr_n[n + first]), int(indptr_n[n + last]))
            is_next = bool(jumps[last - 1] == jumps[first])
            jobs.append(_Job(stored, rows[first:last], is_next, target, slice(n + first, n + last)))
        n += len(rows)
    with ThreadPoolExecutor(N_THREADS) as pool:
        groups = [pool.submit(_fill_all, group, x, indptr_n) for group in _divided(jobs, N_THREADS)]
        is_sound = [group.result() for group in groups]
    if all(is_sound):
        x.has_canonical_format = True
    elif not x.has_canonical_format:
        x.sum_duplicates()
    return x


def _divided(jobs: Sequence[_Job], n_groups: int) -> list[list[_Job]]:
    """Divide jobs into groups of neighbours with about as many entries each."""
    bounds = np.array([job.target.stop for job in jobs])
    at = np.searchsorted(bounds, bounds[-1] * np.arange(1, n_groups) / n_groups) + 1 if jobs else []
    edges = [0, *np.minimum(at, len(jobs)), len(jobs)]
    return [list(jobs[a:b]) for a, b in pairwise(edges) if b > a]


def _fill_all(jobs: Sequence[_Job], x: sparse.csr_matrix, indptr_n: NDArray[np.int64]) -> bool:
    """Read the rows of neighbouring jobs, and return whether all are known to have ascending columns."""
    for (_, is_next), group in groupby(jobs, key=lambda job: (id(job.stored), job.is_next)):
        some = list(group)
        if is_next:
            target = slice(some[0].target.start, some[-1].target.stop)
            firsts, lasts = ([int(job.rows[at]) for job in some] for at in (0, -1))
            some[0].stored.fill_neighbours(firsts, lasts, x.data[target], x.indices[target])
        else:
            for job in some:
                job.stored.fill(job.rows, x.data[job.target], x.indices[job.target])
    loops, start, stop = load("chunks"), jobs[0].target.start, jobs[-1].target.stop
    indptr = indptr_n[jobs[0].place.start : jobs[-1].place.stop + 1] - start
    found = loops.sound(indptr, x.indices[start:stop], x.shape[1]) if loops is not None else 0
    if found == 0:  # or that is not known
        for job in jobs:
            job.stored.require_genes(int(job.stored.indptr_n[job.rows[0]]), x.indices[job.target])
    return bool(found == 2)


def ranges_of(
    rows: NDArray[np.int64], indptr_n: NDArray[np.int64], gap: int = GAP, longest: int = LONGEST
) -> Iterator[tuple[int, int]]:
    """Split ascending rows into ranges, where the gap to the next row is large or the range would be too long."""
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


def check_indptr(
    name: str, indptr_n: NDArray[np.int64], n_cells: int, n_entries: int, n_genes: int | None = None
) -> NDArray[np.int64]:
    """Check row starts, and return them as int64.

    Raises
    ------
    DataError
        If they do not match the number of cells or of entries, are not ascending, or give a row many times more entries
        than there are genes: some may repeat a column, and are added up.
    """
    indptr_n = np.asarray(indptr_n, dtype=np.int64)
    fits = len(indptr_n) == n_cells + 1 and indptr_n[0] == 0 and indptr_n[-1] == n_entries
    if not fits or (np.diff(indptr_n) < 0).any():
        raise DataError(
            f"{name} is damaged: its row starts (indptr) do not fit {n_cells:,} cells and {n_entries:,} stored values. "
            "Copy or write it again."
        )
    longest = int(np.diff(indptr_n).max()) if n_cells else 0
    if n_genes is not None and longest > max(8 * n_genes, LONGEST):
        raise DataError(f"{name} is damaged: a row has {longest:,} entries in {n_genes:,} columns. Write it again.")
    return indptr_n


def _ascends(rows: NDArray[np.int64]) -> bool:
    return bool((rows[1:] >= rows[:-1]).all())
