"""Workers that compute parts, in order, and again where one died."""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, TypeAlias

from genevae.errors import DataError, GenevaeError, warn

__all__ = ["Engine", "Workers"]

Workers: TypeAlias = "Executor | Engine | str | Any"
"""An executor, a Client of Dask, an executor of submitit, or one by name, such as "processes:4"."""

_Waiting: TypeAlias = "deque[tuple[list[tuple[Any, ...]], Any]]"
"""Arguments of calls that a worker makes together, and their future; None for those that are not under way."""

RETRIES = 3
"""How often a part is computed again whose worker died."""
JOBS = 64
"""Jobs of submitit in one pass, at most: each has several parts."""
_DIED = ("KilledWorker", "UncompletedJobError")
"""Errors of Dask and submitit for a worker that died. Python's own pools raise BrokenExecutor."""


class Engine:
    """Workers that compute parts.

    Parameters
    ----------
    executor
        A pool of Python, a Client of Dask, an executor of submitit, or anything with their ``submit``.
    renew
        Starts a pool again after one of its processes died; None for executors that cannot be started again.
    """

    def __init__(self, executor: Any, renew: Callable[[], Executor] | None = None) -> None:
        self.executor = executor
        self._renew = renew
        self._n_done = 0
        self._counted, self._counted_until = 1, -math.inf

    @property
    def shares_memory(self) -> bool:
        """Whether workers are threads of this process."""
        return isinstance(self.executor, ThreadPoolExecutor)

    @property
    def n_workers(self) -> int:
        """The number of workers; the number of processors where it is not known."""
        if _is_dask(self.executor):
            if time.monotonic() > self._counted_until:  # a cluster may grow, and its scheduler takes time to answer
                self._counted = sum(self.executor.nthreads().values()) or 1
                self._counted_until = time.monotonic() + 1.0
            return self._counted
        if _is_submitit(self.executor):
            return JOBS
        return int(getattr(self.executor, "_max_workers", None) or os.cpu_count() or 1)

    def in_order(
        self, function: Callable[..., Any], items: Iterable[tuple[Any, ...]], n_items: int, what: str, ahead: int = 1
    ) -> Iterator[Any]:
        """Yield the function of each item, in order.

        Parameters
        ----------
        function
            A function of the values of an item. For other processes it must be at module level.
        items, n_items
            The arguments of each call, which are made when they are needed, and their number.
        what
            What the workers read, in messages.
        ahead
            How many items are in progress for each worker, and one more, at most.

        Raises
        ------
        DataError
            If a worker dies again and again.
        """
        at_once = -(-n_items // JOBS) if _is_submitit(self.executor) else 1
        left = iter(items)
        waiting: _Waiting = deque()
        n_lost = 0
        try:
            while True:
                try:
                    while len(waiting) <= ahead * self.n_workers and (group := list(islice(left, at_once))):
                        waiting.append((group, None))
                        self._submit(function, waiting)
                    if not waiting:
                        return
                    self._submit(function, waiting)
                    results = waiting[0][1].result()
                except Exception as error:
                    if not isinstance(error, BrokenExecutor) and type(error).__name__ not in _DIED:
                        raise
                    n_lost += 1
                    self._after_death(waiting, n_lost, what, error)
                    continue
                n_lost = 0
                self._n_done += 1
                waiting.popleft()
                for result in results:
                    if isinstance(result, _Failed):
                        raise result.error
                    yield result
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()

    def _submit(self, function: Callable[..., Any], waiting: _Waiting) -> None:
        """Hand those that wait, and are not under way, to workers."""
        pure = {"pure": False} if _is_dask(self.executor) else {}
        for number, (group, future) in enumerate(waiting):
            if future is None:
                waiting[number] = group, self.executor.submit(_several, function, group, **pure)

    def _after_death(self, waiting: _Waiting, n_lost: int, what: str, error: Exception) -> None:
        """Let the lost parts be computed again, or raise."""
        is_over = isinstance(error, BrokenExecutor) and self._renew is None  # the user's own pool, which stays broken
        if n_lost > RETRIES or is_over:
            script = "" if self._n_done or is_over else (
                ' Or new processes start your script again: put the call under `if __name__ == "__main__":`.'
            )  # fmt: skip
            raise DataError(
                f"A worker died while it read {what}, probably because it ran out of memory. Use fewer workers.{script}"
            ) from error
        warn(f"A worker died while it read {what}: its part is computed again.")
        if isinstance(error, BrokenExecutor) and self._renew is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)
            self.executor = self._renew()
            for number, (group, _) in enumerate(waiting):
                waiting[number] = group, None
        else:
            waiting[0] = waiting[0][0], None


def _is_dask(executor: Any) -> bool:
    return type(executor).__module__.startswith("distributed") and hasattr(executor, "nthreads")


def _is_submitit(executor: Any) -> bool:
    return type(executor).__module__.startswith("submitit")


@dataclass(frozen=True)
class _Failed:
    """An error of ours, as a result: submitit would return its text alone."""

    error: GenevaeError


def _several(function: Callable[..., Any], group: list[tuple[Any, ...]]) -> list[Any]:
    """Compute several parts on a worker, up to the first that fails."""
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        _keep_freed_memory()
    results: list[Any] = []
    for arguments in group:
        try:
            results.append(function(*arguments))
        except GenevaeError as error:
            return [*results, _Failed(error)]
    return results


@cache
def _keep_freed_memory() -> None:
    """Let this process use the memory of freed arrays again, up to 128 MiB.

    Dask starts its workers so that they return it to the system at once, which makes every new array slower.
    """
    trim_threshold, mmap_threshold = -1, -3  # as in malloc.h
    with suppress(AttributeError, OSError):  # a system without mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 2**25)
        libc.mallopt(trim_threshold, 2**27)
