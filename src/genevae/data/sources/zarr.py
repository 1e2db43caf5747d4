"""Zarr stores: opened with a reason where they cannot be, and read by ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.data.sources.arrays import DenseRows, FloatArray
from genevae.data.sources.runs import StoredCSR, check_indptr
from genevae.data.sources.source import Matrix
from genevae.errors import DataError

__all__ = ["ZarrArray", "csr_of", "dense_of", "open_group"]

_ERRORS = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, NotImplementedError)
"""What zarr and its codecs raise where a store is not as it should be."""


def open_group(path: Path) -> Any:
    """Open a store for reading.

    Raises
    ------
    DataError
        If it is none, or damaged.
    """
    import zarr

    if not path.is_dir():
        raise DataError(f"{path} is not a folder, and a zarr store is one: give the folder that was written.")
    try:
        return zarr.open_group(str(path), mode="r")
    except _ERRORS as error:
        raise _damaged(path, error) from error


@dataclass
class ZarrArray:
    """An array that is read by ranges of its first axis; it opens its store when first asked, and can be pickled.

    Parameters
    ----------
    path
        The store.
    array
        The array's name in it.
    """

    path: Path
    array: str
    _opened: Any = field(default=None, repr=False, compare=False)

    def __call__(self, start: int, stop: int) -> NDArray[Any]:
        """Read a range."""
        try:
            if self._opened is None:
                self._opened = open_group(self.path)[self.array]
            return np.asarray(self._opened[start:stop])
        except _ERRORS as error:
            raise _damaged(f"{self.path} ({self.array})", error) from error

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "array": self.array, "_opened": None}


def csr_of(path: Path, group: Any, shape: tuple[int, int]) -> StoredCSR:
    """Open the CSR rows that a group holds as data, indices and indptr."""
    name = f"{path} ({group.path})"
    for part in ("data", "indices", "indptr"):
        if part not in group or group[part].ndim != 1:
            raise DataError(f"{name} is no sparse matrix: it lacks '{part}'. Copy or write the store again.")
    n_entries = group["data"].shape[0]
    if group["indices"].shape[0] != n_entries:
        raise DataError(f"{name} is damaged: {n_entries:,} values, but {group['indices'].shape[0]:,} columns of them.")
    indptr_n = check_indptr(name, ZarrArray(path, f"{group.path}/indptr")(0, shape[0] + 2), shape[0], n_entries)
    values = FloatArray(ZarrArray(path, f"{group.path}/data"), str(path))
    return StoredCSR(name, indptr_n, shape[1], values, ZarrArray(path, f"{group.path}/indices"))


def dense_of(path: Path, array: Any) -> Matrix:
    """Open a dense matrix."""
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(f"{path} ({array.path}) is no matrix of numbers: {array.ndim} axes of {array.dtype}.")
    return DenseRows(array.shape, FloatArray(ZarrArray(path, array.path), str(path)))


def _damaged(path: object, error: Exception) -> DataError:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} cannot be read ({why}). It is damaged or not whole: copy or write it again.")
