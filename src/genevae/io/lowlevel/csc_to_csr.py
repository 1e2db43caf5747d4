"""Conversion of CSC matrices to CSR in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["rows_of_columns"]

ENTRIES = 2**25
"""Entries in memory at once."""


def rows_of_columns(
    values: Callable[[int, int], NDArray[np.float32]],
    cells: Callable[[int, int], NDArray[Any]],
    indptr_g: NDArray[np.int64],
    n_cells: int,
    entries: int = ENTRIES,
) -> Iterator[sparse.csr_matrix]:
    """Yield the rows of a CSC matrix in bands. Each band takes one pass over all columns.

    Parameters
    ----------
    values, cells
        Functions that read the values, and the rows, of a range of stored entries.
    indptr_g
        Start of each column, and the end of the last.
    n_cells
        Number of rows.
    entries
        Approximate number of stored entries in memory. The number of passes is twice the total divided by this.
    """
    n_bands = max(1, int(np.ceil(2 * indptr_g[-1] / entries)))
    ends = np.linspace(0, n_cells, n_bands + 1).astype(np.int64)
    for first, last in pairwise(ends):
        if first < last:
            yield _band(values, cells, indptr_g, int(first), int(last), entries // 2)


def _band(
    values: Callable[[int, int], NDArray[np.float32]],
    cells: Callable[[int, int], NDArray[Any]],
    indptr_g: NDArray[np.int64],
    first: int,
    last: int,
    at_once: int,
) -> sparse.csr_matrix:
    """Collect the entries of one band of rows."""
    kept: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    for start in range(0, int(indptr_g[-1]), at_once):
        stop = min(start + at_once, int(indptr_g[-1]))
        cell_e = cells(start, stop).astype(np.int64)
        inside = np.flatnonzero((cell_e >= first) & (cell_e < last))
        gene_e = np.searchsorted(indptr_g, inside + start, side="right") - 1
        kept.append((values(start, stop)[inside], cell_e[inside] - first, gene_e))
    shape = (last - first, len(indptr_g) - 1)
    if not kept:
        return sparse.csr_matrix(shape, dtype=np.float32)
    x_e, row_e, column_e = (np.concatenate(part) for part in zip(*kept, strict=True))
    return sparse.csr_matrix((x_e, (row_e, column_e)), shape=shape, dtype=np.float32)
