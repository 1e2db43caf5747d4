"""Parallel passes over the cells of a source, in chunks of rows, with results in order.

Chunks are always the same rows, and their results are combined in order. So the result is the same, to the last bit, in
the current thread, in several threads and in several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genevae.engine import Workers, engine, is_light
from genevae.io.source import Source, without_tables

__all__ = ["GroupSums", "as_array", "map_chunks", "sum_groups"]

_Floats = NDArray[np.float64]
_Rows = NDArray[np.int64]
_With = TypeVar("_With")
_Result = TypeVar("_Result")


def map_chunks(
    work: Callable[[Any, _With], _Result],
    source: Source,
    rows: _Rows | range,
    extra: Callable[[slice], _With],
    chunk: int,
    workers: Workers | None = None,
) -> Iterator[_Result]:
    """Apply a function to every chunk of rows, and yield the results in order.

    Parameters
    ----------
    work
        Function of the rows, as the source reads them, and their extra argument. For other processes it must be a
        function, or an instance of a class, at module level.
    source
        The data. Threads share it. Other workers receive the source if it is small (such as a file, which they open
        again), and the rows of their chunk otherwise.
    rows
        The rows, in the order of reading; a range takes no memory.
    extra
        Returns the extra argument for a slice of ``rows``.
    chunk
        Number of rows to read at a time.
    workers
        An executor, or the name of one; see :mod:`genevae.engine`. By default the current thread. At most one more
        chunk than workers is in progress.

    Raises
    ------
    DataError
        If a chunk cannot be read, or a worker dies again and again.
    """
    slices = [slice(start, min(start + chunk, len(rows))) for start in range(0, len(rows), max(chunk, 1))]
    with engine(workers) as found:
        if found is None:
            for at in slices:
                yield work(source.read(as_array(rows[at])), extra(at))
            return
        rows = as_array(rows)
        shared, rows = (source, rows) if found.shares_memory else without_tables(source, rows)
        if found.shares_memory or is_light(shared):
            function: Callable[..., _Result] = partial(_read_and_work, work, shared)
            items: Iterator[tuple[Any, ...]] = ((rows[at], extra(at)) for at in slices)
        else:
            function, items = work, ((shared.read(rows[at]), extra(at)) for at in slices)
        yield from found.in_order(function, items, len(slices), source.name)


def as_array(rows: _Rows | range) -> _Rows:
    """Return the rows of a range."""
    return np.arange(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows


def _read_and_work(work: Callable[[Any, _With], _Result], source: Source, rows: _Rows, with_: _With) -> _Result:
    return work(source.read(rows), with_)


@dataclass(frozen=True)
class GroupSums:
    """Sums over the cells of each group in a chunk.

    Parameters
    ----------
    group_b
        The numbers of the groups.
    sum_bg
        Their sums: float64, CSR or dense.
    """

    group_b: NDArray[np.int64]
    sum_bg: Any

    def add_to(self, total_bg: _Floats) -> None:
        """Add these sums to those of all groups."""
        if not sparse.issparse(self.sum_bg):
            total_bg[self.group_b] += self.sum_bg
            return
        group = np.repeat(self.group_b, np.diff(self.sum_bg.indptr))
        total_bg[group, self.sum_bg.indices] += self.sum_bg.data  # every entry occurs once


def sum_groups(x: Any, group_n: NDArray[Any]) -> GroupSums:
    """Sum the rows of each group in float64.

    Parameters
    ----------
    x
        Values of cells × genes, CSR or dense.
    group_n
        The number of each cell's group.
    """
    group_b, index_n = np.unique(group_n, return_inverse=True)
    n = len(group_n)
    member_bn = sparse.csr_matrix((np.ones(n), (index_n, np.arange(n))), shape=(len(group_b), n))
    return GroupSums(group_b.astype(np.int64), member_bn @ x)
