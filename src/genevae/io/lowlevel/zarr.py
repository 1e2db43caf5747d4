"""Zarr stores: opening with clear errors, and reading in ranges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genevae.errors import DataError
from genevae.io.lowlevel.csr_ranges import StoredCSR, check_indptr
from genevae.io.lowlevel.dense import DenseRows, FloatArray
from genevae.io.lowlevel.hdf5 import HDF5_ERRORS
from genevae.io.lowlevel.raw_chunks import Ranges
from genevae.io.lowlevel.zarr_chunks import chunks_of
from genevae.io.source import Matrix

__all__ = ["ZarrArray", "csr_of", "dense_of", "open_group"]


def open_group(path: Path) -> Any:
    """Open a store for reading.

    Raises
    ------
    DataError
        If it is not a store, or damaged.
    """
    import zarr

    if not path.is_dir():
        raise DataError(f"{path} is not a folder, but a zarr store is one. Give the folder.")
    try:
        return zarr.open_group(str(path), mode="r")
    except HDF5_ERRORS as error:
        raise _damaged(path, error) from error


class ZarrArray(Ranges):
    """An array of a zarr store."""

    def open(self) -> Any:
        """Open the store."""
        array = open_group(self.path)[self.array]
        return chunks_of(self.path / self.array.strip("/"), array) or array

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors into messages that name the store."""
        try:
            yield
        except HDF5_ERRORS as error:
            raise _damaged(f"{self.path} ({self.array})", error) from error


def csr_of(path: Path, group: Any, shape: tuple[int, int]) -> StoredCSR:
    """Open a group of data, indices and indptr as CSR rows."""
    name = f"{path} ({group.path})"
    for part in ("data", "indices", "indptr"):
        if part not in group or group[part].ndim != 1:
            raise DataError(f"{name} is not a sparse matrix: it lacks '{part}'. Copy or write the store again.")
    n_entries = group["data"].shape[0]
    if group["indices"].shape[0] != n_entries:
        n_indices = group["indices"].shape[0]
        raise DataError(f"{name} is damaged: it has {n_entries:,} values, but {n_indices:,} column indices.")
    indptr_n = check_indptr(
        name, ZarrArray(path, f"{group.path}/indptr")(0, shape[0] + 2), shape[0], n_entries, shape[1]
    )
    values = FloatArray(ZarrArray(path, f"{group.path}/data"), str(path))
    return StoredCSR(name, indptr_n, shape[1], values, ZarrArray(path, f"{group.path}/indices"))


def dense_of(path: Path, array: Any) -> Matrix:
    """Open a dense matrix."""
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(f"{path} ({array.path}) is not a matrix of numbers: {array.ndim} axes of {array.dtype}.")
    return DenseRows(array.shape, FloatArray(ZarrArray(path, array.path), str(path)))


def _damaged(path: object, error: Exception) -> DataError:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} cannot be read ({why}). It is damaged or not whole. Copy or write it again.")
