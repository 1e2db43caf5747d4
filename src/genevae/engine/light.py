"""What is small enough to be sent to a worker."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

__all__ = ["is_light"]

_LIGHT = 2**20
"""Bytes that are sent to a worker with each part, at most."""


class _TooLargeError(Exception):
    """It is too large to be sent."""


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


def is_light(value: Any) -> bool:
    """Return whether a value is small and can be sent to another process."""
    try:
        _SizePickler(_ByteCounter(), protocol=5).dump(value)
    except (_TooLargeError, pickle.PicklingError, TypeError, AttributeError):  # the last two: open files, closures
        return False
    return True
