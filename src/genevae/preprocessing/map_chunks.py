"""One pass over the cells of a source: chunks of rows, on any workers, whose results come in order.

A chunk is always the same rows, and what is made of the chunks is put together in their order; so a result is the same,
to the last bit, in this thread, in many threads and in many processes.
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
"""A source of at most so many bytes travels to workers that share no memory; of others, the rows do."""

_DEATHS = ("KilledWorker", "UncompletedJobError")
"""What Dask and submitit call the death of a worker, which Python's own pools call BrokenExecutor."""

_Floats = NDArray[np.float64]
_Rows = NDArray[np.int64]
_With = TypeVar("_With")
_Result = TypeVar("_Result")


def map_chunks(
    work: Callable[[Any, _With], _Result],
    source: Source,
    rows: _Rows,
    beside: Callable[[slice], _With],
    chunk: int,
    executor: Executor | None = None,
) -> Iterator[_Result]:
    """Do something with every chunk of rows, and give back what comes of it, in order.

    Parameters
    ----------
    work
        Takes the rows, as the source reads them, and what belongs to them. For workers in other processes it must be
        a function or an object of a class at the top of a module.
    source
        The data. Threads read from it together. Other workers are sent the source if that is little, as it is for a
        file that they open again, and else the rows of their chunk.
    rows
        The rows, in the order of reading.
    beside
        Gives what belongs to a slice of ``rows``.
    chunk
        How many rows are read at a time.
    executor
        Who does the work: threads, processes, or anything with that interface; this thread by default. There are
        never more chunks under way than workers, and one.

    Raises
    ------
    DataError
        If a chunk cannot be read, or a worker dies.
    """
    slices = [slice(start, min(start + chunk, len(rows))) for start in range(0, len(rows), max(chunk, 1))]
    if executor is None:
        for at in slices:
            yield work(source.read(rows[at]), beside(at))
        return
    shared = _for_workers(source, executor)
    under_way: deque[Future[_Result]] = deque()
    try:
        for at in slices:
            if len(under_way) > _n_workers(executor):
                yield under_way.popleft().result()
            if shared is None:
                under_way.append(executor.submit(work, source.read(rows[at]), beside(at)))
            else:
                under_way.append(executor.submit(_read_and_work, work, shared, rows[at], beside(at)))
        while under_way:
            yield under_way.popleft().result()
    except Exception as error:
        if not isinstance(error, BrokenExecutor) and type(error).__name__ not in _DEATHS:
            raise
        raise DataError(
            f"A worker died while it read {source.name}, most likely for want of memory: give fewer workers."
        ) from error
    finally:
        for future in under_way:
            future.cancel()


def _read_and_work(work: Callable[[Any, _With], _Result], source: Source, rows: _Rows, with_: _With) -> _Result:
    return work(source.read(rows), with_)


def _n_workers(executor: Executor) -> int:
    """Return how many workers there are; Python's pools know, and others are taken to be as many as processors."""
    return int(getattr(executor, "_max_workers", None) or os.cpu_count() or 1)


def _for_workers(source: Source, executor: Executor) -> Source | None:
    """Return what workers read from; None where they had better be sent the rows."""
    if isinstance(executor, ThreadPoolExecutor):
        return source
    if isinstance(source, FileSource):  # the names and the table of a million cells are not needed to read rows
        source = replace(source, genes=(), obs=pd.DataFrame(), aliases={}, panels=None)
    return source if _is_light(source) else None


class _HeavyError(Exception):
    """What is measured is too large to be sent."""


class _Scale:
    """A file that keeps nothing, and refuses more than a few bytes."""

    def __init__(self) -> None:
        self.n_bytes = 0

    def write(self, part: bytes) -> int:
        """Count what comes."""
        length = memoryview(part).nbytes
        self.n_bytes += length
        if self.n_bytes > _LIGHT:
            raise _HeavyError
        return length


class _Weigher(pickle.Pickler):
    """Stops at a large array before it is copied, which for one on disk would be to read it all."""

    def reducer_override(self, value: Any) -> Any:
        """Look at what comes next."""
        if isinstance(value, np.ndarray) and value.nbytes > _LIGHT:
            raise _HeavyError
        return NotImplemented


def _is_light(source: Source) -> bool:
    """Whether a source can be sent to another process, and is small."""
    try:
        _Weigher(_Scale(), protocol=5).dump(source)
    except (
        _HeavyError,
        pickle.PicklingError,
        TypeError,
        AttributeError,
    ):  # the latter two: open files, local functions
        return False
    return True


@dataclass(frozen=True)
class GroupSums:
    """Sums over the cells of each group that a chunk has.

    Parameters
    ----------
    group_b
        The groups, by number.
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
        total_bg[group, self.sum_bg.indices] += self.sum_bg.data  # each place comes once


def sum_groups(x: Any, group_n: NDArray[Any]) -> GroupSums:
    """Add up, in float64, the rows of each group.

    Parameters
    ----------
    x
        Values of cells × genes, CSR or dense.
    group_n
        The number of each cell's group.
    """
    group_b, place_n = np.unique(group_n, return_inverse=True)
    n = len(group_n)
    member_bn = sparse.csr_matrix((np.ones(n), (place_n, np.arange(n))), shape=(len(group_b), n))
    return GroupSums(group_b.astype(np.int64), member_bn @ x)
