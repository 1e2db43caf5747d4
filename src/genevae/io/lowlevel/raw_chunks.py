"""Reading of chunked arrays directly from their files, without the library that wrote them.

HDF5 allows one reading thread at a time and copies through a cache; zarr schedules every chunk on an event loop.
Reading the chunks directly from their known positions takes a fraction of the time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.kernels.compile import load

__all__ = ["Chunks", "Ranges", "Unpack", "each_range", "read_all_into", "read_into", "unshuffled"]

Unpack = Callable[[Any], Any]
"""Decompresses the bytes of a chunk."""


def read_into(stored: Any, start: int, out: NDArray[Any]) -> None:
    """Read a range of a stored array into an existing array, directly if it can and its type is the same."""
    if hasattr(stored, "read_into") and stored.dtype == out.dtype:
        stored.read_into(start, out)
    else:
        out[:] = stored(start, start + len(out))


def read_all_into(stored: Any, start_r: NDArray[np.int64], n_r: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Read several ranges of a stored array into an existing array, one after the other; at once where it can."""
    if hasattr(stored, "read_all_into") and stored.dtype == out.dtype:
        stored.read_all_into(start_r, n_r, out)
        return
    for start, part in each_range(start_r, n_r, out):
        read_into(stored, start, part)


def each_range(
    start_r: NDArray[np.int64], n_r: NDArray[np.int64], out: NDArray[Any]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the start of each range, and the part of the array that it is to be written to: one after the other."""
    for start, n, end in zip(start_r.tolist(), n_r.tolist(), np.cumsum(n_r).tolist(), strict=True):
        yield start, out[end - n : end]


@dataclass(frozen=True)
class Chunks:
    """A one-dimensional array, stored as chunks of equal length at known positions in files.

    Parameters
    ----------
    dtype
        The data type.
    n
        Number of values.
    length
        Values in a chunk. The last one is padded.
    files
        The files.
    file_c, offset_c, n_bytes_c
        For each chunk, its file, its offset there, and its length in bytes.
    unpack
        Decompresses the bytes of a chunk; None if they are not compressed.
    is_verified
        Whether all that this does is to verify fletcher32's checksum at the end.
    """

    dtype: np.dtype[Any]
    n: int
    length: int
    files: tuple[Path, ...]
    file_c: NDArray[np.int64]
    offset_c: NDArray[np.int64]
    n_bytes_c: NDArray[np.int64]
    unpack: Unpack | None = None
    is_verified: bool = False
    _opened: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, at: slice) -> NDArray[Any]:
        """Read a range, limited to the length of the array."""
        start, stop, _ = at.indices(self.n)
        out = np.empty(max(stop - start, 0), dtype=self.dtype)
        self.read_into(start, out)
        return out

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read ``len(out)`` values from ``start`` on.

        Raises
        ------
        OSError
            If a file ends within a chunk.
        """
        done = 0
        while done < len(out):
            chunk, skipped = divmod(start + done, self.length)
            part = out[done : done + self.length - skipped]
            if self.unpack is None:
                self._read(chunk, skipped * self.dtype.itemsize, part.view(np.uint8).data)
            else:
                packed = np.empty(int(self.n_bytes_c[chunk]), np.uint8)
                self._read(chunk, 0, packed.data)
                part[:] = np.frombuffer(self.unpack(packed), self.dtype, len(part), skipped * self.dtype.itemsize)
            done += len(part)

    def read_all_into(self, start_r: NDArray[np.int64], n_r: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Read ranges one after the other into a contiguous array: by one compiled call if they are not compressed.

        Raises
        ------
        OSError
            If a file ends within a chunk.
        """
        if not self._read_compiled(start_r[n_r > 0], n_r[n_r > 0], out):
            for start, part in each_range(start_r, n_r, out):
                self.read_into(start, part)

    def _read_compiled(self, start_r: NDArray[np.int64], n_r: NDArray[np.int64], out: NDArray[Any]) -> bool:
        """Read ranges, and return whether all could be read so; why they could not, another reading finds out."""
        loops, size = load("chunks") if os.name == "posix" else None, self.dtype.itemsize
        if loops is None or len(self.files) > 1 or not (self.unpack is None or self.is_verified) or size % 2:
            return False

        # Pieces of chunks: of range r, and from ``first`` to ``last`` within a chunk.
        chunk_r = start_r // self.length
        pieces_r = (start_r + n_r - 1) // self.length - chunk_r + 1
        r, number = np.repeat(np.arange(len(n_r)), pieces_r), np.arange(pieces_r.sum())
        chunk = chunk_r[r] + number - (np.cumsum(pieces_r) - pieces_r)[r]
        first = np.maximum(start_r[r] - chunk * self.length, 0)
        last = np.minimum((start_r + n_r)[r] - chunk * self.length, self.length)

        handle = self._handle(0)  # kept: another thread may open the file too, and take the place of this handle
        file, at, n_bytes = handle.number, self.offset_c[chunk], self.n_bytes_c[chunk]
        if self.unpack is None:
            n_out = (last - first) * size
            address = out.__array_interface__["data"][0] + np.cumsum(n_out) - n_out
            return bool(loops.read(file, at + first * size, n_out, address) == len(at))
        if (n_bytes % 2).any() or (n_bytes < last * size + 4).any():
            return False
        room, kept = np.empty(n_bytes.max(initial=0) // 2, np.uint16), np.stack([first, last], 1) * size // 2
        return bool(loops.read_verified(file, at, n_bytes, kept, room, out.view(np.uint16)) == len(at))

    def _handle(self, file: int) -> _Handle:
        """Open a file; that of an array in one file stays open."""
        opened = self._opened.get(file) or _Handle(self.files[file])
        if len(self.files) == 1:
            self._opened[file] = opened
        return opened

    def _read(self, chunk: int, offset: int, out: memoryview) -> None:
        """Read the bytes of a chunk."""
        file, at = int(self.file_c[chunk]), int(self.offset_c[chunk]) + offset
        opened = self._handle(file)
        while len(out):
            n_read = os.preadv(opened.number, [out], at)
            if not n_read:
                raise OSError(f"{self.files[file]} ends within a chunk")
            out, at = out[n_read:], at + n_read


class _Handle:
    """An open file, closed with its last reference. A copy (as Dask makes) opens it again."""

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
    """An array in a file that is read in ranges of its first axis. It is opened on first use, and can be pickled.

    Parameters
    ----------
    path
        The file or store.
    array
        The name of the array in it.
    """

    path: Path
    array: str
    _opened: Any = field(default=None, repr=False, compare=False)

    def open(self) -> Any:
        """Open the array: as chunks, or with its library."""
        raise NotImplementedError

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors into messages that name the file."""
        raise NotImplementedError

    def opened(self) -> Any:
        """Return the open array."""
        if self._opened is None:
            self._opened = self.open()
        return self._opened

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        """Read a range."""
        with self.explained():
            return np.asarray(self.opened()[start:stop])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type."""
        with self.explained():
            dtype: np.dtype[Any] = np.dtype(self.opened().dtype)
            return dtype

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Read a range into an existing array of the same type."""
        with self.explained():
            if isinstance(self.opened(), Chunks):
                self.opened().read_into(start, out)
            else:
                out[:] = self.opened()[start : start + len(out)]

    def read_all_into(self, start_r: NDArray[np.int64], n_r: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Read ranges one after the other into an existing array of the same type."""
        with self.explained():
            opened = self.opened()
            if isinstance(opened, Chunks):
                opened.read_all_into(start_r, n_r, out)
                return
        for start, part in each_range(start_r, n_r, out):
            self.read_into(start, part)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}


def unshuffled(shuffled: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Invert the shuffle filter, which stores all first bytes of the values, then all second bytes, and so on."""
    n = len(shuffled) // dtype.itemsize
    byte_jn = np.frombuffer(shuffled, np.uint8).reshape(dtype.itemsize, n)
    byte_nj = np.empty((n, dtype.itemsize), np.uint8)
    for j, byte_n in enumerate(byte_jn):
        byte_nj[:, j] = byte_n
    return byte_nj.view(dtype).reshape(-1)
