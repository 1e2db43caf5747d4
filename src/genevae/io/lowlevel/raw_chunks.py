"""Numbers in a row of chunks, read from their files without the library that wrote them.

HDF5 lets one thread at a time read, and copies through a cache; zarr asks for each chunk on an event loop. Where a file
only says where its chunks lie and how they are packed, reading them takes a fraction of the time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chunks", "Ranges", "ReadsInto", "Unpack", "read_into", "unshuffled"]

Unpack = Callable[[Any], Any]
"""Turns the bytes of a chunk into those of its numbers."""


@runtime_checkable
class ReadsInto(Protocol):
    """Numbers that can be read into a place that is there already, which has their type."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read ``len(out)`` numbers, from ``start`` on."""


def read_into(stored: Any, start: int, out: NDArray[Any]) -> None:
    """Read a range of what is read by ranges into a place that is there already, the quicker way if there is one."""
    if isinstance(stored, ReadsInto) and stored.dtype == out.dtype:
        stored.read_into(start, out)
    else:
        out[:] = stored(start, start + len(out))


@dataclass(frozen=True)
class Chunks:
    """One axis of numbers, cut into chunks of equal length that lie somewhere in some files.

    Parameters
    ----------
    dtype
        Of the numbers.
    n
        How many numbers there are.
    length
        Numbers in a chunk, also in the last: what is beyond the end is padding.
    files
        The files.
    file_c, offset_c, n_bytes_c
        Of each chunk, which file it lies in, where it starts there, and how long it is.
    unpack
        Turns the bytes of a chunk into those of its numbers; None where they are the same.
    """

    dtype: np.dtype[Any]
    n: int
    length: int
    files: tuple[Path, ...]
    file_c: NDArray[np.int64]
    offset_c: NDArray[np.int64]
    n_bytes_c: NDArray[np.int64]
    unpack: Unpack | None = None
    _opened: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, at: slice) -> NDArray[Any]:
        """Read a range; as ever, it ends where the numbers do."""
        start, stop, _ = at.indices(self.n)
        out = np.empty(max(stop - start, 0), dtype=self.dtype)
        self.read_into(start, out)
        return out

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read ``len(out)`` numbers, from ``start`` on.

        Raises
        ------
        OSError
            If a file ends before the chunk does.
        """
        done = 0
        while done < len(out):
            chunk, skipped = divmod(start + done, self.length)
            part = out[done : done + self.length - skipped]
            if self.unpack is None:
                self._read(chunk, skipped * self.dtype.itemsize, part.view(np.uint8).data)
            else:
                packed = bytearray(int(self.n_bytes_c[chunk]))
                self._read(chunk, 0, memoryview(packed))
                part[:] = np.frombuffer(self.unpack(packed), self.dtype, len(part), skipped * self.dtype.itemsize)
            done += len(part)

    def _read(self, chunk: int, offset: int, out: memoryview) -> None:
        """Fill a place with the bytes of a chunk."""
        file, at = int(self.file_c[chunk]), int(self.offset_c[chunk]) + offset
        opened = self._opened.get(file) or _Handle(self.files[file])
        if len(self.files) == 1:
            self._opened[file] = opened
        while len(out):
            n_read = os.preadv(opened.number, [out], at)
            if not n_read:
                raise OSError(f"{self.files[file]} ends before its numbers do")
            out, at = out[n_read:], at + n_read


class _Handle:
    """An open file, which is closed with the last reference to it; a copy (Dask makes some) opens it anew."""

    number = -1

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __reduce__(self) -> tuple[type[_Handle], tuple[Path]]:
        return _Handle, (self.path,)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


@dataclass
class Ranges:
    """Numbers in a file that are read by ranges of their first axis; it is opened when first asked, and can be pickled.

    Parameters
    ----------
    path
        The file or store.
    array
        What the numbers are called in it.
    """

    path: Path
    array: str
    _opened: Any = field(default=None, repr=False, compare=False)

    def open(self) -> Any:
        """Open them: as chunks, or as what their library makes of them."""
        raise NotImplementedError

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say what is wrong with the file where it cannot be read."""
        raise NotImplementedError

    def opened(self) -> Any:
        """Return what they are opened as."""
        if self._opened is None:
            self._opened = self.open()
        return self._opened

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        """Read a range."""
        with self.explained():
            return np.asarray(self.opened()[start:stop])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        with self.explained():
            found: np.dtype[Any] = np.dtype(self.opened().dtype)
            return found

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read a range into a place that is there already, which has their type."""
        with self.explained():
            if isinstance(self.opened(), Chunks):
                self.opened().read_into(start, out)
            else:
                out[:] = self.opened()[start : start + len(out)]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}


def unshuffled(shuffled: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Put the bytes of each number side by side again: all first bytes came first, then all second ones, and so on."""
    n = len(shuffled) // dtype.itemsize
    byte_jn = np.frombuffer(shuffled, np.uint8).reshape(dtype.itemsize, n)
    byte_nj = np.empty((n, dtype.itemsize), np.uint8)
    for place, byte_n in enumerate(byte_jn):
        byte_nj[:, place] = byte_n
    return byte_nj.view(dtype).reshape(-1)
