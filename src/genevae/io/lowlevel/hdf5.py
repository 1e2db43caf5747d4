"""HDF5 files: opening with clear errors, and reading in ranges."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial, reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from isal import isal_zlib

from genevae.errors import DataError
from genevae.io.bounded import require_room
from genevae.io.lowlevel.csr_ranges import StoredCSR, check_indptr
from genevae.io.lowlevel.dense import DenseRows, FloatArray
from genevae.io.lowlevel.raw_chunks import Chunks, Ranges, Unpack, unshuffled
from genevae.io.lowlevel.soundness import require_sound
from genevae.io.source import Matrix
from genevae.kernels.compile import load

__all__ = [
    "HDF5_ERRORS",
    "Hdf5Array",
    "csr_of",
    "damaged",
    "declared_bytes",
    "dense_of",
    "open_hdf5",
    "require_room_of",
    "write_hdf5",
]

HDF5_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zlib.error,
)
"""Errors that h5py, zarr and anndata raise for damaged files."""

_InflateError: type[Exception] = isal_zlib.error  # type: ignore[assignment] # its stub calls it an instance
_CACHE = 2**20
"""Bytes of HDF5's chunk cache per array; small, because many files are open at once."""
_MAGIC = b"\x89HDF\r\n\x1a\n"
"""The first bytes of every HDF5 file."""


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, after it was tried in another process; see :mod:`~genevae.io.lowlevel.soundness`.

    Raises
    ------
    DataError
        If it is not HDF5 or is truncated, if reading it is not safe, or if it turns out to be damaged while it is open.
    """
    require_sound([path])
    file = _open(path)
    try:
        with file:
            yield file
    except HDF5_ERRORS as error:
        raise damaged(path, error) from error


def require_room_of(path: Path, *stored: Any) -> None:
    """Check the declared size of groups or arrays of a store before they are read at once.

    Raises
    ------
    DataError
        If it is out of proportion to the files.
    """
    files = [path] if path.is_file() else [f for each in stored for f in (path / each.path).rglob("*") if f.is_file()]
    require_room(path, sum(map(declared_bytes, stored)), sum(file.stat().st_size for file in files))


def declared_bytes(stored: Any) -> int:
    """Return the bytes in memory that a group or array of a store declares."""
    if hasattr(stored, "shape"):
        if stored.shape is None:  # an element that is None
            return 0
        is_text = stored.dtype.kind in "OT"
        return int(np.prod(stored.shape, dtype=object)) * (64 if is_text else max(stored.dtype.itemsize, 8))
    return sum(declared_bytes(stored[name]) for name in stored)


class _Disk(io.FileIO):
    """A file for HDF5, which cannot survive a write that fails: such writes are kept in memory, and the error as well.

    HDF5 crashes, or raises in destructors, if its last writes fail.
    """

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self.error: OSError | None = None
        self.failed: list[tuple[int, bytes]] = []

    def write(self, data: Any) -> int:
        content, at = memoryview(data).cast("B"), self.tell()
        try:
            done = 0
            while self.error is None and done < len(content):
                done += super().write(content[done:])
        except OSError as error:
            self.error = error
        if self.error is not None:
            self.failed.append((at, bytes(content)))
            self.seek(at + len(content))
        return len(content)

    def readinto(self, buffer: Any) -> int:
        view, at = memoryview(buffer).cast("B"), self.tell()
        read = super().readinto(view) or 0
        view[read:] = bytes(len(view) - read)
        for start, content in self.failed:
            first, last = max(start, at), min(start + len(content), at + len(view))
            if first < last:
                view[first - at : last - at] = content[first - start : last - start]
        self.seek(at + len(view))
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def check(self) -> None:
        """Raise if the disk was full, or failed otherwise."""
        if self.error is not None:
            raise self.error


@contextmanager
def write_hdf5(path: Path, edit: bool = False) -> Iterator[h5py.File]:
    """Write an HDF5 file, or edit one; a disk that is full is an OSError here, and not the end of the process.

    Call ``file.check()`` in between to learn early that the disk is full.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with _Disk(path, "r+b" if edit else "w+b") as disk:
        with h5py.File(disk, "r+" if edit else "w") as file:
            file.check = disk.check
            yield file
        disk.check()


def _open(path: Path) -> h5py.File:
    register_filters()
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(_why_not_hdf5(path, error)) from error


def _why_not_hdf5(path: Path, error: OSError) -> str:
    """Explain why a file could not be opened."""
    if path.is_dir():
        return f"{path} is a folder, but an {path.suffix} file was expected. Give the file."
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as read_error:
        return f"{path} cannot be read: {read_error.strerror}. Check the permissions."
    if not start:
        return f"{path} is empty (0 bytes). Write or download it again."
    if start[:2] == b"\x1f\x8b":
        return (
            f"{path} is compressed with gzip, although its name ends in {path.suffix}. Unpack it first: "
            f"gunzip -c {path} > {path.with_stem(path.stem + '_unpacked')}"
        )
    if start != _MAGIC:
        return (
            f"{path} is not an HDF5 file, although its name ends in {path.suffix}: it starts with {start!r}. "
            "Unpack it if it is compressed, or download it again."
        )
    if cause := _cause(path, error):
        return cause
    return f"{path} is not whole ({first_line(error)}). The copy or download was cut short: get it again."


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def damaged(path: object, error: Exception) -> DataError:
    """Return the error for a file that cannot be read."""
    if cause := _cause(path, error):
        return DataError(cause)
    return DataError(
        f"{path} cannot be read ({first_line(error)}). It is damaged, or was written by a program that genevae does "
        "not support. Copy or write it again."
    )


def _cause(path: object, error: Exception) -> str | None:
    """Return what to do about an error that is no damage: a lock, a writer that did not close, a missing filter."""
    text = " ".join(str(each) for each in (error, error.__cause__, error.__context__) if each).lower()
    if "unable to lock file" in text:
        return (
            f"{path} is open for writing in another program, such as a notebook, or a file system without locks holds "
            "it. Close it there (file.close()) and try again. If no program has it open: export "
            "HDF5_USE_FILE_LOCKING=FALSE"
        )
    if "already open for write" in text or "file consistency flags" in text:
        return (
            f"{path} was not closed by the program that wrote it, which may still run. Wait for its end. If it was "
            f"stopped, clear the mark: h5clear -s {path}"
        )
    if "filter" in text or "plugin" in text:
        return (
            f"{path} is compressed with a filter that HDF5 does not have here ({first_line(error)}). Install it, and "
            "try again: pip install hdf5plugin"
        )
    return None


@cache
def register_filters() -> None:
    """Make the filters of hdf5plugin known to HDF5, if it is installed."""
    if find_spec("hdf5plugin") is not None:
        import_module("hdf5plugin")


class Hdf5Array(Ranges):
    """A dataset of an HDF5 file."""

    def open(self) -> Chunks | h5py.Dataset:
        """Open the file."""
        register_filters()
        dataset = h5py.File(self.path, "r", rdcc_nbytes=_CACHE)[self.array]
        return _chunks_of(self.path, dataset) or dataset

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors into messages that name the file."""
        try:
            yield
        except HDF5_ERRORS as error:
            raise damaged(f"{self.path} ({self.array})", error) from error


def _chunks_of(path: Path, dataset: h5py.Dataset) -> Chunks | None:
    """Return the positions of a dataset's chunks in the file, or None if only HDF5 can read them."""
    packing = dataset.id.get_create_plist()
    filters = tuple(packing.get_filter(number)[0] for number in range(packing.get_nfilters()))
    is_plain = dataset.ndim == 1 and dataset.dtype.kind in "iuf" and dataset.dtype.isnative and len(dataset)
    is_inside = not dataset.external and not dataset.file.userblock_size
    if not (is_plain and is_inside and set(filters) <= set(_UNPACKERS)):
        return None
    length, at = len(dataset), dataset.id.get_offset()
    places = [] if at is None else [(0, at, len(dataset) * dataset.dtype.itemsize, 0)]
    if dataset.chunks:
        (length,) = dataset.chunks
        dataset.id.chunk_iter(
            lambda chunk: places.append((chunk.chunk_offset[0], chunk.byte_offset, chunk.size, chunk.filter_mask))
        )
    place_c4 = np.array(sorted(places), dtype=np.int64).reshape(-1, 4)
    if len(place_c4) != -(-len(dataset) // length) or place_c4[:, 3].any():
        return None  # some chunks were never written, or are compressed differently
    file_c = np.zeros(len(place_c4), dtype=np.int64)
    unpack = _unpack_of(filters, dataset.dtype, length)
    is_verified = filters == (h5py.h5z.FILTER_FLETCHER32,) and sys.byteorder == "little"
    return Chunks(
        dataset.dtype, len(dataset), length, (path,), file_c, place_c4[:, 1], place_c4[:, 2], unpack, is_verified
    )


def _inflated(packed: Any, n_bytes: int) -> bytes:
    """Decompress the output of the gzip filter, about so many bytes: room for them is made once."""
    try:
        return isal_zlib.decompress(packed, bufsize=min(n_bytes, 2**24))
    except _InflateError as error:
        raise ValueError(str(error)) from error


def _intact(packed: Any) -> Any:
    """Verify the checksum at the end of a chunk, and return what is before it."""
    loops = load("chunks") if sys.byteorder == "little" else None
    if loops is None or len(packed) % 2:  # the loop takes two bytes at a time
        from numcodecs import Fletcher32

        return Fletcher32().decode(packed)
    all_i = np.frombuffer(packed, np.uint16)
    content, (low, high) = all_i[:-2], all_i[-2:].tolist()
    if loops.fletcher32(content) != (high << 16 | low):
        raise ValueError("the checksum of a chunk is another than when it was written")
    return content.view(np.uint8)


_UNPACKERS: dict[int, Callable[[np.dtype[Any], int], Unpack]] = {
    h5py.h5z.FILTER_SHUFFLE: lambda dtype, _: partial(unshuffled, dtype=dtype),
    h5py.h5z.FILTER_DEFLATE: lambda dtype, length: partial(_inflated, n_bytes=length * dtype.itemsize + 8),
    h5py.h5z.FILTER_FLETCHER32: lambda *_: _intact,
}
"""The inverse of each filter."""


def _unpack_of(filters: Sequence[int], dtype: np.dtype[Any], length: int) -> Unpack | None:
    """Return the inverse of these filters in sequence."""
    steps = [_UNPACKERS[number](dtype, length) for number in reversed(filters)]
    return (lambda packed: reduce(lambda content, step: step(content), steps, packed)) if steps else None


def csr_of(path: Path, group: h5py.Group, shape: tuple[int, int]) -> StoredCSR:
    """Open a group of data, indices and indptr as CSR rows."""
    name = f"{path} ({group.name})"
    for part in ("data", "indices", "indptr"):
        if part not in group or group[part].ndim != 1:
            raise DataError(f"{name} is not a sparse matrix: it lacks '{part}'. Copy or write the file again.")
    n_entries = len(group["data"])
    if len(group["indices"]) != n_entries:
        raise DataError(
            f"{name} is damaged: it has {n_entries:,} values, but {len(group['indices']):,} column indices."
        )
    indptr_n = check_indptr(name, group["indptr"][:], shape[0], n_entries, shape[1])
    values = FloatArray(Hdf5Array(path, f"{group.name}/data"), str(path))
    return StoredCSR(name, indptr_n, shape[1], values, Hdf5Array(path, f"{group.name}/indices"))


def dense_of(path: Path, dataset: h5py.Dataset) -> Matrix:
    """Open a dense matrix."""
    if dataset.ndim != 2 or dataset.dtype.kind not in "biuf":
        raise DataError(f"{path} ({dataset.name}) is not a matrix of numbers: {dataset.ndim} axes of {dataset.dtype}.")
    return DenseRows(dataset.shape, FloatArray(Hdf5Array(path, dataset.name), str(path)))
