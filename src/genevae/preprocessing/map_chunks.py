"""Parallel passes over the cells of a source, in chunks of rows, with results in order.

Chunks are always the same rows, and their results are combined in order. So the result is the same, to the last bit, in
the current thread, in several threads and in several processes.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from genevae.errors import DataError
from genevae.io.source import FileSource, Source

__all__ = ["GroupSums", "map_chunks", "sum_groups"]

_LIGHT = 2**20
"""Sources up to this size in bytes are sent to other processes; for larger ones, the rows are sent."""

_WORKER_DIED = ("KilledWorker", "UncompletedJobError")
"""Errors of Dask and submitit for a worker that died. Python's own pools raise BrokenExecutor."""

_Floats = NDArray[np.float64]
_Rows = NDArray[np.int64]
_With = TypeVar("_With")
_Result = TypeVar("_Result")


def map_chunks(
    work: Callable[[Any, _With], _Result],
    source: Source,
    rows: _Rows,
    extra: Callable[[slice], _With],
    chunk: int,
    executor: Executor | None = None,
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
        The rows, in the order of reading.
    extra
        Returns the extra argument for a slice of ``rows``.
    chunk
        Number of rows to read at a time.
    executor
        A pool of threads or processes, or anything with that interface; by default the current thread. At most one more
        chunk than workers is in progress.

    Raises
    ------
    DataError
        If a chunk cannot be read, or a worker dies.
    """
    slices = [slice(start, min(start + chunk, len(rows))) for start in range(0, len(rows), max(chunk, 1))]
    if executor is None:
        for at in slices:
            yield work(source.read(rows[at]), extra(at))
        return
    shared = _for_workers(source, executor)
    under_way: deque[Future[_Result]] = deque()
    try:
        for at in slices:
            if len(under_way) > _n_workers(executor):
                yield under_way.popleft().result()
            if shared is None:
                under_way.append(executor.submit(work, source.read(rows[at]), extra(at)))
            else:
                under_way.append(executor.submit(_read_and_work, work, shared, rows[at], extra(at)))
        while under_way:
            yield under_way.popleft().result()
    except Exception as error:
        if not isinstance(error, BrokenExecutor) and type(error).__name__ not in _WORKER_DIED:
            raise
        raise DataError(
            f"A worker died while it read {source.name}, probably because it ran out of memory. Use fewer workers."
        ) from error
    finally:
        for future in under_way:
            future.cancel()


def _read_and_work(work: Callable[[Any, _With], _Result], source: Source, rows: _Rows, with_: _With) -> _Result:
    return work(source.read(rows), with_)


def _n_workers(executor: Executor) -> int:
    """Return the number of workers of Python's pools; the number of processors for other executors."""
    return int(getattr(executor, "_max_workers", None) or os.cpu_count() or 1)


def _for_workers(source: Source, executor: Executor) -> Source | None:
    """Return the source to send to workers, or None to send rows instead."""
    if isinstance(executor, ThreadPoolExecutor):
        return source
    if isinstance(source, FileSource):  # names and tables are not needed to read rows
        source = replace(source, genes=(), obs=pd.DataFrame(), aliases={}, panels=None)
    return source if _is_light(source) else None


class _TooLargeError(Exception):
    """The source is too large to be sent."""


class _ByteCounter:
    """A file that discards its content, and raises above a limit."""

    def __init__(self) -> None:
        self.n_bytes = 0

    def write(self, part: bytes) -> int:
        """Count bytes."""
        length = memoryview(part).nbytes
        self.n_bytes += length
        if self.n_bytes > _LIGHT:
            raise _TooLargeError
        return length


class _SizePickler(pickle.Pickler):
    """Stops at a large array before it is copied, since copying would read one on disk completely."""

    def reducer_override(self, value: Any) -> Any:
        """Raise at a large array."""
        if isinstance(value, np.ndarray) and value.nbytes > _LIGHT:
            raise _TooLargeError
        return NotImplemented


def _is_light(source: Source) -> bool:
    """Return whether a source is small and can be sent to another process."""
    try:
        _SizePickler(_ByteCounter(), protocol=5).dump(source)
    except (_TooLargeError, pickle.PicklingError, TypeError, AttributeError):  # the last two: open files, closures
        return False
    return True


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
