"""AnnData: h5ad files, zarr folders, and objects in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from genevae.data.sources.source import MemorySource
from genevae.errors import DataError, nearest, shorten

__all__ = [
    "as_float32",
    "from_anndata",
    "is_h5ad",
    "is_zarr",
    "matrix",
    "open_hdf5",
    "quietly",
    "read_h5ad",
    "read_zarr",
    "storage_of",
]

_EXACT = 2**24
"""The largest whole number up to which float32 holds every whole number."""
_MAGIC = b"\x89HDF\r\n\x1a\n"
"""How every HDF5 file starts."""


def is_h5ad(path: Path) -> bool:
    """Whether a path looks like an h5ad file."""
    return path.suffix == ".h5ad"


def is_zarr(path: Path) -> bool:
    """Whether a path looks like a zarr folder."""
    return path.suffix == ".zarr" or any((path / mark).is_file() for mark in (".zgroup", "zarr.json"))


def read_h5ad(path: Path) -> AnnData:
    """Read an h5ad file into memory."""
    with open_hdf5(path) as file:
        _require_tables(path, file)
    return _read(path, anndata.read_h5ad)


def read_zarr(path: Path) -> AnnData:
    """Read a zarr folder into memory."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder, and a zarr store is one: give the folder that was written.")
    _require_tables(path, {entry.name for entry in path.iterdir()})
    return _read(path, anndata.read_zarr)


def _require_tables(path: Path, names: Any) -> None:
    """Raise where a store has no obs and var tables."""
    if "obs" not in names or "var" not in names:
        raise DataError(
            f"{path} holds no AnnData: it has no 'obs' and 'var' tables but {shorten(names) or 'nothing'}. "
            "Write it again with adata.write_h5ad(...) or adata.write_zarr(...)."
        )


def _read(path: Path, reader: Callable[[Path], AnnData]) -> AnnData:
    try:
        with quietly():
            return reader(path)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(
            f"{path} cannot be read ({_first_line(error)}). It is damaged, or was written by a program "
            "that anndata does not know: copy or write it again."
        ) from error


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises
    ------
    DataError
        If it is not HDF5, or not whole.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(_why_not_hdf5(path, error)) from error
    with file:
        yield file


def _why_not_hdf5(path: Path, error: OSError) -> str:
    """Say why a file could not be opened, and what to do."""
    if not path.is_file():
        return f"{path} is a folder, and an {path.suffix} file was expected: give the file."
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if not start:
        return f"{path} is empty (0 bytes): write or download it again."
    if start != _MAGIC:
        return (
            f"{path} is not an HDF5 file, although its name ends in {path.suffix}: it starts with {start!r}. "
            "Unpack it if it is compressed, or download it again."
        )
    return f"{path} is not whole ({_first_line(error)}): the copy or download was cut short; fetch it again."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def quietly() -> Iterator[None]:
    """Keep anndata from warning of what users need not act on.

    Names that are not unique are reported by the inspection; old files are read all the same.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*names are not unique")
        warnings.filterwarnings("ignore", message="Suffix used", category=UserWarning)
        warnings.filterwarnings("ignore", message="Moving element from", category=FutureWarning)
        warnings.simplefilter("ignore", anndata.OldFormatWarning)
        yield


def from_anndata(adata: AnnData, layer: str | None = None, name: str = "the AnnData object") -> MemorySource:
    """Make a source of an AnnData object, which is never changed.

    A dense float32 matrix is shared, not copied; so are the entries of a CSR matrix whose rows are sorted.

    Parameters
    ----------
    adata
        The object.
    layer
        The layer that holds the expression; ``"raw"`` is ``adata.raw`` where no layer has that name. ``X`` by default.
    name
        What messages call it.

    Raises
    ------
    DataError
        If there is no such layer or no ``X``, or if float32 cannot hold the counts.
    """
    x, genes = matrix(adata, layer, name)
    with quietly():
        obs = pd.DataFrame(adata.obs).copy()
    return MemorySource(name, _in_rows(x, name), tuple(map(str, genes)), obs)


def matrix(adata: AnnData, layer: str | None, name: str) -> tuple[Any, pd.Index]:
    """Find a layer's matrix, as it is stored, and the names of its columns."""
    with quietly():
        adata = adata.to_memory() if adata.isbacked else adata
    if layer == "raw" and layer not in adata.layers and adata.raw is not None:
        return adata.raw.X, adata.raw.var_names
    if layer is None and adata.X is None:
        raise DataError(
            f"{name} has no X. Give the layer that holds the expression. {nearest('counts', _layers(adata))}"
        )
    if layer is not None and layer not in adata.layers:
        raise DataError(f"{name} has no layer '{layer}'. {nearest(layer, _layers(adata))} Without a layer, X is read.")
    return adata.X if layer is None else adata.layers[layer], adata.var_names


def _layers(adata: AnnData) -> list[str]:
    return [*map(str, adata.layers), *(["raw"] if adata.raw is not None else [])]


def storage_of(x: Any) -> str:
    """Say how a matrix is stored: csr, csc or dense."""
    return str(getattr(x, "format", "dense"))


def _in_rows(x: Any, name: str) -> sparse.csr_matrix | NDArray[np.float32]:
    """Convert to float32, CSR with sorted rows or dense."""
    if storage_of(x) == "dense":
        return as_float32(np.asarray(x), name)
    x = x.tocsr()
    parts = (np.asarray(x.data), np.asarray(x.indices), np.asarray(x.indptr))
    rows = sparse.csr_matrix(parts, shape=x.shape, copy=False)
    if not rows.has_canonical_format:
        rows = rows.astype(np.float64, copy=True)
        rows.sum_duplicates()
    values = as_float32(rows.data, name)
    return sparse.csr_matrix((values, rows.indices, rows.indptr), shape=rows.shape, copy=False)


def as_float32(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Convert to float32, and refuse where whole numbers would change.

    Raises
    ------
    DataError
        If the values are not numbers, or a whole number above 2²⁴ has no float32 of its own.
    """
    if values.dtype == np.float32:
        return values
    if values.dtype.kind not in "biuf":
        raise DataError(f"{name} holds {values.dtype} where numbers are expected: convert the matrix to float32.")
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32)
    if values.size and (np.fmax.reduce(values, axis=None) > _EXACT or np.fmin.reduce(values, axis=None) < -_EXACT):
        _require_whole(values[np.abs(values) > _EXACT], name)
    return converted


def _require_whole(large: NDArray[Any], name: str) -> None:
    """Raise where a large whole number does not survive float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        lost = (large == np.floor(large)) & (large.astype(np.float32).astype(large.dtype) != large)
    if lost.any():
        raise DataError(
            f"{name} holds {int(lost.sum())} counts that float32 cannot hold, such as {large[lost][0]:.0f}: "
            f"it is exact up to {_EXACT}. Round them to fewer digits, scale the matrix down, or drop those genes."
        )
