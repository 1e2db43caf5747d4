"""Prepare the next items in the background while the present one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

__all__ = ["prefetched"]

Item = TypeVar("Item")

_WAIT = 0.1
"""Seconds after which a worker that waits for room looks whether it is still wanted."""


def prefetched(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """Yield the same items, in the same order; up to ``depth`` of them are made ahead, in a thread of their own.

    A thread serves where the work lets go of the interpreter, as reading, unpacking and copying arrays do. What goes
    wrong there is raised here. The thread ends when the items do, or when nobody asks for more.
    """
    ready: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(maxsize=depth)
    unwanted = threading.Event()

    def work() -> None:
        try:
            for item in items:
                if not _put(ready, (True, item), unwanted):
                    return
            _put(ready, (False, None), unwanted)
        except BaseException as error:  # noqa: BLE001 - it is raised again by the consumer
            _put(ready, (False, error), unwanted)

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
        unwanted.set()
        worker.join()


def _put(
    ready: queue.Queue[tuple[bool, Item | BaseException | None]], entry: object, unwanted: threading.Event
) -> bool:
    """Put an entry where there is room, and say whether it was still wanted."""
    while not unwanted.is_set():
        try:
            ready.put(entry, timeout=_WAIT)  # type: ignore[arg-type]
        except queue.Full:
            continue
        return True
    return False
