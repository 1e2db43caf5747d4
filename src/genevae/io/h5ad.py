"""AnnData: h5ad files, zarr folders, one modality of MuData files, and objects in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import read_elem
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype
from scipy import sparse

from genevae.errors import DataError, GenevaeError, LayerError, nearest, shorten
from genevae.io.cache import cached
from genevae.io.lowlevel import zarr
from genevae.io.lowlevel.csc_to_csr import rows_of_columns
from genevae.io.lowlevel.csr_ranges import StoredCSR
from genevae.io.lowlevel.dense import as_float32
from genevae.io.lowlevel.hdf5 import HDF5_ERRORS, csr_of, damaged, declared_bytes, dense_of, open_hdf5, require_room_of
from genevae.io.lowlevel.texts import read_with_few_copies
from genevae.io.lowlevel.zarr import open_group
from genevae.io.ram import SHARE, available_bytes
from genevae.io.read_options import ReadOptions
from genevae.io.source import FileSource, Matrix, MemorySource, Source, Stamp
from genevae.io.storable import named_columns, original_names

__all__ = [
    "MARKS",
    "aliases_of",
    "from_anndata",
    "ignore_warnings",
    "is_h5ad",
    "is_h5mu",
    "is_zarr",
    "layers_of",
    "matrix",
    "open_h5ad",
    "open_h5mu",
    "open_zarr",
    "read_h5ad",
    "read_h5mu",
    "read_zarr",
    "storage_of",
]


RNA = "rna"
"""The modality of MuData that is read where none is named."""
MARKS = ("zarr.json", ".zgroup")
"""The files that identify a zarr store."""


def is_h5ad(path: Path) -> bool:
    """Return whether a path looks like an h5ad file."""
    return path.suffix == ".h5ad"


def is_zarr(path: Path) -> bool:
    """Return whether a path looks like a zarr folder."""
    return path.suffix == ".zarr" or any((path / mark).is_file() for mark in MARKS)


def read_h5ad(path: Path) -> AnnData:
    """Read an h5ad file into memory."""
    with open_hdf5(path) as file:
        _require_tables(path, file)
        _require_memory(path, file)
        return _with_original_names(_read(path, anndata.read_h5ad), file)


def read_zarr(path: Path) -> AnnData:
    """Read a zarr folder into memory."""
    return _read(path, _read_entire_zarr)


def _read_entire_zarr(path: Path) -> AnnData:
    group = open_group(path)
    _require_tables(path, group)
    _require_memory(path, group)
    return _with_original_names(anndata.read_zarr(path), group)


def _with_original_names(adata: AnnData, stored: Any) -> AnnData:
    with ignore_warnings():
        for name in ("obs", "var"):
            table = getattr(adata, name)
            renamed = original_names(table, stored[name].attrs)
            if renamed is not table:
                setattr(adata, name, renamed)
    return adata


def _require_memory(path: Path, root: Any) -> None:
    """Check the declared size of a store before all of it is read."""
    for name in ("obs", "var"):
        require_room_of(path, root[name])
    if (n_bytes := declared_bytes(root)) > available_bytes():
        raise DataError(
            f"{path} needs {n_bytes / 1e9:,.3g} GB of memory, and {available_bytes() / 1e9:,.3g} GB are free. Give the "
            "path instead of reading it, and rows are read as they are needed; or use a larger machine."
        )


def open_h5ad(path: Path, files: ReadOptions) -> Source:
    """Open an h5ad file. Rows are read on demand.

    Raises
    ------
    DataError
        If it is damaged, has no such layer, or stores the matrix by columns (CSC) and does not fit in memory.
    """
    stamp = Stamp.of(path)
    with open_hdf5(path) as file:
        _require_tables(path, file)
        return _open(path, file, files, Storage(csr_of, dense_of), read_h5ad, (stamp,))


def is_h5mu(path: Path) -> bool:
    """Return whether a path looks like a MuData file."""
    return path.suffix == ".h5mu"


def open_h5mu(path: Path, files: ReadOptions) -> Source:
    """Open one modality of a MuData file, with the obs columns of all modalities. Rows are read on demand.

    Raises
    ------
    DataError
        If it is damaged, or has no such modality.
    """
    stamp = Stamp.of(path)
    with open_hdf5(path) as file:
        group = _modality(path, file, files.modality)
        source = _open(path, group, files, Storage(csr_of, dense_of), lambda _: _read_modality(path, group), (stamp,))
        return replace(source, obs=_with_shared_columns(path, file, source.obs))  # type: ignore[type-var]


def read_h5mu(path: Path) -> AnnData:
    """Read the RNA modality of a MuData file into memory, with the obs columns of all modalities."""
    with open_hdf5(path) as file:
        group = _modality(path, file, None)
        adata = _read_modality(path, group)
        adata.obs = _with_shared_columns(path, file, adata.obs)
        return adata


def _modality(path: Path, root: Any, name: str | None) -> Any:
    """Return the group of a modality: the one that is named, the only one, or rna."""
    known = list(root["mod"]) if "mod" in root else []
    chosen = name or (known[0] if len(known) == 1 else RNA)
    if chosen not in known:
        raise DataError(
            f"{path} has no modality '{chosen}'. {nearest(chosen, known)} Name the one with the expression: "
            "--modality NAME (in Python: modality='NAME')."
        )
    _require_tables(path, root["mod"][chosen])
    return root["mod"][chosen]


def _read_modality(path: Path, group: Any) -> AnnData:
    _require_memory(path, group)
    adata = _read(path, lambda _: read_elem(group))
    if not isinstance(adata, AnnData):
        raise DataError(f"{path} is damaged: its {group.name} is not AnnData. Copy or write it again.")
    return _with_original_names(adata, group)


def _with_shared_columns(path: Path, root: Any, obs: pd.DataFrame) -> pd.DataFrame:
    """Add the obs columns of the whole file, but those that repeat a column of a modality, as "rna:donor" does."""
    if "obs" not in root:
        return obs
    shared = _read_table(path, root["obs"])
    shared.index = shared.index.astype(str)
    added = [name for name in shared if name not in obs and ":" not in str(name)]
    return obs.join(shared[added]) if added and shared.index.is_unique else obs


def open_zarr(path: Path, files: ReadOptions) -> Source:
    """Open a zarr folder. Rows are read on demand."""
    group = open_group(path)
    try:
        _require_tables(path, group)
        return _open(path, group, files, Storage(zarr.csr_of, zarr.dense_of), read_zarr, ())
    except HDF5_ERRORS as error:
        raise damaged(path, error) from error


@dataclass(frozen=True)
class Storage:
    """The functions that open the matrices of a kind of store."""

    csr_of: Callable[[Path, Any, tuple[int, int]], StoredCSR]
    dense_of: Callable[[Path, Any], Matrix]

    def matrix(self, kind: str, path: Path, stored: Any, shape: tuple[int, int]) -> Matrix:
        """Open a matrix. A CSC matrix is converted to CSR in a scratch file."""
        if kind == "dense":
            return self.dense_of(path, stored)
        if kind == "csr":
            return self.csr_of(path, stored, shape)
        columns = self.csr_of(path, stored, shape[::-1])
        return cached(rows_of_columns(columns.values, columns.genes, columns.indptr_n, shape[0]), shape[1], "disk")


def _open(
    path: Path,
    root: Any,
    files: ReadOptions,
    storage: Storage,
    read: Callable[[Path], AnnData],
    stamps: tuple[Stamp, ...],
) -> Source:
    """Open the matrix and the tables of a store. Matrices in other encodings are read into memory."""
    stored, var = _find_layer(path, root, files.layer)
    kind, shape = _encoding(stored)
    if kind == "csc" and files.keep != "disk":
        _require_room(path, stored, shape)
    is_old = any(hasattr(table, "dtype") for table in (root["obs"], var))  # an array of records: AnnData below 0.7
    if kind == "other" or is_old or (kind == "csc" and files.keep != "disk"):
        return from_anndata(read(path), files.layer, str(path))
    obs, var_table = named_columns(_read_table(path, root["obs"]), str(path)), _read_table(path, var)
    genes = tuple(map(str, var_table.index))
    if tuple(shape) != (len(obs), len(genes)):
        raise DataError(
            f"{path} is inconsistent: the matrix has {' × '.join(f'{n:,}' for n in shape)} entries for "
            f"{len(obs):,} cells and {len(genes):,} genes. Copy or write it again."
        )
    matrix = storage.matrix(kind, path, stored, shape)
    obs.index = obs.index.astype(str)
    return FileSource(str(path), matrix, genes, obs, aliases_of(var_table), stamps=stamps)


def _read_table(path: Path, stored: Any) -> pd.DataFrame:
    """Read obs or var."""
    require_room_of(path, stored)
    table = _read(path, lambda _: read_with_few_copies(stored))
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"{path} is damaged: its {stored.name} is not a table. Copy or write it again.")
    return original_names(table, stored.attrs)


def _find_layer(path: Path, root: Any, layer: str | None) -> tuple[Any, Any]:
    """Return the stored matrix of a layer, and the table of its columns."""
    layers = list(root["layers"]) if "layers" in root else []
    known = [*layers, *(["raw"] if "raw" in root else [])]
    if layer is None or layer in layers:
        key = "X" if layer is None else f"layers/{layer}"
        if key not in root:
            raise _no_x(str(path), known)
        return root[key], root["var"]
    if layer == "raw" and "raw" in root and "X" in root["raw"]:
        return root["raw/X"], root["raw/var"]
    raise LayerError(f"{path} has no layer '{layer}'. {nearest(layer, known)} Without a layer, X is read.")


def _no_x(name: str, layers: list[str]) -> DataError:
    """Return the error for data without X, with the layer to give instead."""
    if not layers:
        return DataError(f"{name} has no X and no layers, so it has no expression. Give another file.")
    chosen = min(layers, key=lambda layer: (layer != "counts", layer == "raw"))
    return DataError(
        f"{name} has no X. Give the layer that holds the expression: --layer {chosen} (in Python: layer='{chosen}'). "
        f"There are: {shorten(layers)}."
    )


def _encoding(stored: Any) -> tuple[str, Any]:
    """Return the encoding of a matrix (csr, csc, dense, or other) and its shape."""
    encoding = str(stored.attrs.get("encoding-type", stored.attrs.get("h5sparse_format", "")))
    if hasattr(stored, "ndim"):
        return "dense" if stored.ndim == 2 else "other", tuple(stored.shape)
    shape = tuple(int(n) for n in stored.attrs.get("shape", stored.attrs.get("h5sparse_shape", ())))
    return {"csr_matrix": "csr", "csr": "csr", "csc_matrix": "csc", "csc": "csc"}.get(encoding, "other"), shape


def _require_room(path: Path, stored: Any, shape: tuple[int, int]) -> None:
    """Raise if a CSC matrix is too large to be converted in memory."""
    if 4 * 8 * stored["data"].shape[0] > SHARE * available_bytes():
        raise DataError(
            f"{path} stores its {shape[0]:,} × {shape[1]:,} matrix by columns (CSC), so its rows cannot be read, and "
            f"it is too large for memory. Convert it once: "
            f"genevae data convert {path} --out {path.with_name(path.stem + '_by_rows.zarr')}"
        )


def aliases_of(var: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return the columns of a gene table that are names: text with mostly unique values."""
    texts = {str(name): column.astype(str) for name, column in var.items() if not is_numeric_dtype(column)}
    return {name: tuple(text) for name, text in texts.items() if text.nunique() > 0.5 * max(len(text), 1)}


def _require_tables(path: Path, names: Any) -> None:
    """Raise if a store has no obs and var tables."""
    if "obs" not in names or "var" not in names:
        raise DataError(
            f"{path} is not AnnData: it has no 'obs' and 'var' tables, but {shorten(names) or 'nothing'}. "
            "Write it again with adata.write_h5ad(...) or adata.write_zarr(...)."
        )


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """Read with anndata, which may raise any error if a store is damaged."""
    try:
        with ignore_warnings():
            return reader(path)
    except GenevaeError:
        raise
    except Exception as error:
        raise damaged(path, error) from error


@contextmanager
def ignore_warnings() -> Iterator[None]:
    """Suppress warnings of anndata that need no action by users.

    Names that are not unique are reported by ``genevae inspect``; old files can be read.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*names are not unique")
        warnings.filterwarnings("ignore", message="Suffix used", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*autosharding", category=UserWarning)
        warnings.filterwarnings("ignore", message="Writing zarr v2", category=UserWarning)
        warnings.filterwarnings("ignore", message="Moving element from", category=FutureWarning)
        warnings.simplefilter("ignore", anndata.OldFormatWarning)
        yield


def from_anndata(adata: AnnData, layer: str | None = None, name: str = "the AnnData object") -> MemorySource:
    """Make a source from an AnnData object, which is never modified.

    A dense float32 matrix is shared, not copied, and so are the entries of a CSR matrix with sorted rows.

    Parameters
    ----------
    adata
        The object.
    layer
        The layer that holds the expression. ``"raw"`` means ``adata.raw``, unless there is a layer of that name. ``X``
        by default.
    name
        Name in messages.

    Raises
    ------
    DataError
        If there is no such layer or no ``X``, or if counts are too large for float32.
    """
    x, genes = matrix(adata, layer, name)
    with ignore_warnings():
        obs = named_columns(pd.DataFrame(adata.obs).copy(), name)
    return MemorySource(name, _in_rows(x, name), tuple(map(str, genes)), obs, aliases_of(_var_of(adata, layer)))


def layers_of(adata: AnnData) -> dict[str, Any]:
    """Return the layers by name, without X, which anndata has among them under None since version 0.13."""
    return {str(name): x for name, x in adata.layers.items() if name is not None}


def matrix(adata: AnnData, layer: str | None, name: str) -> tuple[Any, pd.Index]:
    """Return the matrix of a layer, as stored, and the names of its columns."""
    with ignore_warnings():
        adata = adata.to_memory() if adata.isbacked else adata
    if layer == "raw" and layer not in adata.layers and adata.raw is not None:
        return adata.raw.X, adata.raw.var_names
    if layer is None and adata.X is None:
        raise _no_x(name, _layers(adata))
    if layer is not None and layer not in adata.layers:
        raise LayerError(f"{name} has no layer '{layer}'. {nearest(layer, _layers(adata))} Without a layer, X is read.")
    return adata.X if layer is None else adata.layers[layer], adata.var_names


def _var_of(adata: AnnData, layer: str | None) -> pd.DataFrame:
    return adata.raw.var if layer == "raw" and layer not in adata.layers else adata.var


def _layers(adata: AnnData) -> list[str]:
    return [*layers_of(adata), *(["raw"] if adata.raw is not None else [])]


def storage_of(x: Any) -> str:
    """Return the format of a matrix: csr, csc or dense."""
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
