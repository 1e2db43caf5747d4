"""Memory that a training step frees, kept for the next one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""The numbers by which glibc's mallopt knows its settings."""


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Let the C library hold on to large blocks until training ends, and give them back then.

    By itself glibc returns blocks above some size to the system as soon as they are freed, and the next step has to
    have them cleared and mapped again, page by page: with 20,000 genes that took a fifth of a step. Does nothing where
    the C library is another.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_THRESHOLD, 2**30)
    try:
        yield
    finally:
        if libc is not None:
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # a Linux with another C library
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
