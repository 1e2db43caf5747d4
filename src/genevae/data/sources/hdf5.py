"""HDF5 files: opened with a reason where they cannot be, and read by ranges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from genevae.data.sources.arrays import DenseRows, FloatArray
from genevae.data.sources.runs import StoredCSR, check_indptr
from genevae.data.sources.source import Matrix
from genevae.errors import DataError

__all__ = ["HDF5_ERRORS", "Hdf5Array", "csr_of", "damaged", "dense_of", "open_hdf5"]

HDF5_ERRORS = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError)
"""What h5py raises where a file is not as it should be."""

_MAGIC = b"\x89HDF\r\n\x1a\n"
"""How every HDF5 file starts."""


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises
    ------
    DataError
        If it is not HDF5, or not whole.
    """
    file = _open(path)
    with file:
        yield file


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(_why_not_hdf5(path, error)) from error


def _why_not_hdf5(path: Path, error: OSError) -> str:
    """Say why a file could not be opened, and what to do."""
    if path.is_dir():
        return f"{path} is a folder, and an {path.suffix} file was expected: give the file."
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as refusal:
        return f"{path} cannot be read: {refusal.strerror}. Check that you may read it."
    if not start:
        return f"{path} is empty (0 bytes): write or download it again."
    if start != _MAGIC:
        return (
            f"{path} is not an HDF5 file, although its name ends in {path.suffix}: it starts with {start!r}. "
            "Unpack it if it is compressed, or download it again."
        )
    return f"{path} is not whole ({first_line(error)}): the copy or download was cut short; fetch it again."


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def damaged(path: object, error: Exception) -> DataError:
    """Say that a file cannot be read."""
    return DataError(
        f"{path} cannot be read ({first_line(error)}). It is damaged, or was written by a program that genevae does "
        "not know: copy or write it again."
    )


@dataclass
class Hdf5Array:
    """A dataset that is read by ranges of its first axis; it opens its file when first asked, and can be pickled.

    Parameters
    ----------
    path
        The file.
    dataset
        The dataset's name in it.
    """

    path: Path
    dataset: str
    _opened: Any = field(default=None, repr=False, compare=False)

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        """Read a range."""
        try:
            if self._opened is None:
                self._opened = h5py.File(self.path, "r")[self.dataset]
            return np.asarray(self._opened[start:stop])
        except HDF5_ERRORS as error:
            raise damaged(f"{self.path} ({self.dataset})", error) from error

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "dataset": self.dataset, "_opened": None}


def csr_of(path: Path, group: h5py.Group, shape: tuple[int, int]) -> StoredCSR:
    """Open the CSR rows that a group holds as data, indices and indptr."""
    name = f"{path} ({group.name})"
    for part in ("data", "indices", "indptr"):
        if part not in group or group[part].ndim != 1:
            raise DataError(f"{name} is no sparse matrix: it lacks '{part}'. Copy or write the file again.")
    n_entries = len(group["data"])
    if len(group["indices"]) != n_entries:
        raise DataError(f"{name} is damaged: {n_entries:,} values, but {len(group['indices']):,} columns of them.")
    indptr_n = check_indptr(name, group["indptr"][:], shape[0], n_entries)
    values = FloatArray(Hdf5Array(path, f"{group.name}/data"), str(path))
    return StoredCSR(name, indptr_n, shape[1], values, Hdf5Array(path, f"{group.name}/indices"))


def dense_of(path: Path, dataset: h5py.Dataset) -> Matrix:
    """Open a dense matrix."""
    if dataset.ndim != 2 or dataset.dtype.kind not in "biuf":
        raise DataError(f"{path} ({dataset.name}) is no matrix of numbers: {dataset.ndim} axes of {dataset.dtype}.")
    return DenseRows(dataset.shape, FloatArray(Hdf5Array(path, dataset.name), str(path)))
