"""Prefetching: compute the next items in a thread while the current one is used."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["mapped", "prefetched"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_WAIT = 0.1
"""Seconds after which a blocked worker checks whether it should stop."""


def prefetched(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """Yield the same items, in the same order, with up to ``depth`` of them computed in advance by a thread.

    A thread is enough, because reading, decompressing and copying arrays release the GIL. Errors of the thread are
    raised here. The thread ends with the items, or when the iterator is closed.
    """
    ready: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def work() -> None:
        try:
            for item in items:
                if not _put(ready, (True, item), stop):
                    return
            _put(ready, (False, None), stop)
        except BaseException as error:  # noqa: BLE001 - the consumer raises it
            _put(ready, (False, error), stop)

    worker = threading.Thread(target=work, name="genevae-prefetch", daemon=True)
    worker.start()
    try:
        while True:
            is_item, value = ready.get()
            if not is_item:
                if value is not None:
                    raise value  # type: ignore[misc]
                return
            yield value  # type: ignore[misc]
    finally:
        stop.set()
        worker.join()


def mapped(function: Callable[[Item], Result], items: Iterable[Item], n_threads: int) -> Iterator[Result]:
    """Yield a function of each item, in the same order, computed in threads; at most ``n_threads`` are in advance."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="genevae-read") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) == n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _put(ready: queue.Queue[tuple[bool, Item | BaseException | None]], entry: object, stop: threading.Event) -> bool:
    """Put an entry into the queue when there is room; return False if the worker should stop."""
    while not stop.is_set():
        try:
            ready.put(entry, timeout=_WAIT)  # type: ignore[arg-type]
        except queue.Full:
            continue
        return True
    return False
