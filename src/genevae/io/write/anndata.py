"""AnnData stores, h5ad or zarr, written in blocks of rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import write_elem
from numpy.typing import NDArray
from scipy import sparse

from genevae.errors import RunError, nearest
from genevae.io.atomic import replace_with, staging_folder
from genevae.io.h5ad import ignore_warnings, layers_of
from genevae.io.lowlevel.hdf5 import write_hdf5
from genevae.io.overwrite import require_free
from genevae.io.write.frame import write_frame

__all__ = [
    "STORES",
    "Block",
    "Compression",
    "fill_anndata",
    "fill_store",
    "make_element",
    "require_store",
    "write_anndata",
    "write_store",
]

Block = Mapping[str, Any]
"""Rows of elements of an AnnData, by name: ``"X"``, ``"layers/…"``, ``"obsm/…"`` (dense or CSR), ``"obs/…"`` (1-D)."""

Compression = Literal["gzip", "lzf", "none"]

STORES = (".h5ad", ".zarr")
CHUNK = 2**16
"""Values in a chunk on disk: about as many as in a block of rows."""
SHARD = 2**22
"""Values in a file of a zarr store."""


def require_store(path: Path, overwrite: bool, reads: Iterable[object]) -> None:
    """Check that a store can be written to a path, before the work begins.

    Raises
    ------
    RunError
        If the suffix is unknown, the path already exists, or it is not writable.
    """
    if path.suffix not in STORES:
        raise RunError(f"{path} cannot be written as '{path.suffix}'. {nearest(path.suffix, STORES)}")
    require_free(path, overwrite, reads)


def write_store(
    path: Path,
    blocks: Iterable[Block],
    obs: pd.DataFrame,
    var: pd.DataFrame,
    uns: Mapping[str, Any] | None = None,
    compression: Compression = "gzip",
    others: Mapping[str, Any] | None = None,
) -> None:
    """Write an AnnData store atomically, in memory that does not depend on the number of cells.

    Parameters
    ----------
    path
        A name ending in ``.h5ad`` or ``.zarr``. An existing store is replaced at the end.
    blocks
        Blocks of rows, all with the same elements.
    obs, var
        The tables. Columns of the blocks are added to ``obs``.
    uns
        Unstructured annotation.
    compression
        Compression of an h5ad file. Zarr stores use LZ4.
    others
        Elements that are written as a whole, by name: ``"obsm/…"``, ``"varm/…"``.

    Raises
    ------
    RunError
        If the disk is full, or the path is not writable. No partial result is left.
    """
    with staging_folder(path) as folder:
        draft = folder / path.name
        fill_store(draft, blocks, obs, var, uns, compression, others)
        replace_with(draft, path)


def write_anndata(path: Path, adata: AnnData) -> None:
    """Write an AnnData object atomically, replacing an existing store."""
    with staging_folder(path) as folder:
        draft = folder / path.name
        fill_anndata(draft, adata)
        replace_with(draft, path)


def fill_anndata(draft: Path, adata: AnnData) -> None:
    """Write an AnnData object to a path where nothing is."""
    block = {} if adata.X is None else {"X": adata.X}
    block |= {f"layers/{name}": x for name, x in layers_of(adata).items()}
    others = {f"{place}/{name}": x for place in ("obsm", "varm") for name, x in getattr(adata, place).items()}
    fill_store(draft, [block], adata.obs, adata.var, adata.uns, others=others)


def fill_store(
    draft: Path,
    blocks: Iterable[Block],
    obs: pd.DataFrame,
    var: pd.DataFrame,
    uns: Mapping[str, Any] | None,
    compression: Compression = "gzip",
    others: Mapping[str, Any] | None = None,
) -> None:
    """Write a store to a path where nothing is."""
    with _created(draft) as root:
        elements: dict[str, _Element] = {}
        for block in blocks:
            for name, rows in block.items():
                if name not in elements:
                    elements[name] = make_element(root, name, rows, compression)
                elements[name].append(rows)
            getattr(root, "check", lambda: None)()
        columns = {name.removeprefix("obs/"): e.close() for name, e in elements.items() if isinstance(e, _Column)}
        for element in elements.values():
            element.close()
        _write_tables(root, obs.assign(**columns), var, uns or {}, others or {})


@contextmanager
def _created(path: Path) -> Iterator[Any]:
    """Yield an empty store, and close it."""
    if path.suffix == ".h5ad":
        with write_hdf5(path) as file:
            yield file
        return
    import zarr

    if path.exists():
        shutil.rmtree(path)
    yield zarr.open_group(str(path), mode="w", zarr_format=3)


def _write_tables(
    root: Any, obs: pd.DataFrame, var: pd.DataFrame, uns: Mapping[str, Any], others: Mapping[str, Any]
) -> None:
    root.attrs["encoding-type"], root.attrs["encoding-version"] = "anndata", "0.1.0"
    with ignore_warnings():
        write_frame(root, "obs", obs)
        write_frame(root, "var", var)
        write_elem(root, "uns", dict(uns))
        for name in ("layers", "obsm", "varm", "obsp", "varp"):
            if name not in root:
                write_elem(root, name, {})
        for name, value in others.items():
            place, key = name.split("/", 1)
            if isinstance(value, pd.DataFrame):
                write_frame(root[place], key, value)
            else:
                write_elem(root[place], key, value)


class _Array:
    """A one-dimensional array (or rows of fixed length) that grows on disk by complete chunks."""

    def __init__(self, root: Any, name: str, like: NDArray[Any], compression: Compression) -> None:
        self.chunk = max(1, CHUNK // int(np.prod(like.shape[1:], dtype=np.int64)))
        width = like.shape[1:]
        if hasattr(root, "create_dataset") and not hasattr(root, "create_array"):
            filters: dict[str, Any] = {} if compression == "none" else {"compression": compression, "shuffle": True}
            filters["fletcher32"] = compression != "gzip"  # gzip has a checksum already
            self.array = root.create_dataset(
                name, (0, *width), like.dtype, maxshape=(None, *width), chunks=(self.chunk, *width), **filters
            )
        else:
            from zarr.codecs import BloscCodec, Crc32cCodec

            self.array = root.create_array(
                name,
                shape=(0, *width),
                dtype=like.dtype,
                chunks=(self.chunk, *width),
                shards=(self.chunk * (SHARD // CHUNK), *width),
                compressors=[BloscCodec(cname="lz4", clevel=5), Crc32cCodec()],
            )
        file_chunk = self.chunk * (1 if not hasattr(self.array, "shards") else SHARD // CHUNK)
        self.waiting, self.n_waiting, self.n_written = np.empty((file_chunk, *width), like.dtype), 0, 0

    def append(self, values: NDArray[Any]) -> None:
        """Add values, and write complete chunks."""
        while len(values):
            n = min(len(values), len(self.waiting) - self.n_waiting)
            self.waiting[self.n_waiting : self.n_waiting + n] = values[:n]
            values, self.n_waiting = values[n:], self.n_waiting + n
            if self.n_waiting == len(self.waiting):
                self._write()

    def close(self) -> None:
        """Write the remaining values."""
        self._write()

    def _write(self) -> None:
        end = self.n_written + self.n_waiting
        if self.n_waiting:
            self.array.resize((end, *self.waiting.shape[1:]))
            self.array[self.n_written : end] = self.waiting[: self.n_waiting]
        self.n_written, self.n_waiting = end, 0


class _Element(Protocol):
    """An element of an AnnData that grows by rows."""

    def append(self, rows: Any) -> None:
        """Add rows."""

    def close(self) -> Any:
        """Write the remaining rows."""


class _Dense:
    def __init__(self, root: Any, name: str, rows: NDArray[Any], compression: Compression) -> None:
        self.array = _Array(root, name, rows, compression)
        _mark(self.array.array, "array", "0.2.0")

    def append(self, rows: NDArray[Any]) -> None:
        self.array.append(np.asarray(rows))

    def close(self) -> None:
        self.array.close()


class _CSR:
    def __init__(self, root: Any, name: str, rows: sparse.csr_matrix, compression: Compression) -> None:
        self.group, self.n_genes, self.n_cells, self.end = root.create_group(name), int(rows.shape[1]), 0, 0
        self.data = _Array(self.group, "data", rows.data, compression)
        self.indices = _Array(self.group, "indices", np.empty(0, dtype=np.int32), compression)
        self.indptr = _Array(self.group, "indptr", np.empty(0, dtype=np.int64), compression)
        self.indptr.append(np.zeros(1, dtype=np.int64))

    def append(self, rows: Any) -> None:
        x = sparse.csr_matrix(rows)
        self.data.append(x.data)
        self.indices.append(x.indices.astype(np.int32, copy=False))
        self.indptr.append(x.indptr[1:].astype(np.int64) + self.end)
        self.end, self.n_cells = self.end + int(x.indptr[-1]), self.n_cells + int(x.shape[0])

    def close(self) -> None:
        for array in (self.data, self.indices, self.indptr):
            array.close()
        _mark(self.group, "csr_matrix", "0.1.0")
        self.group.attrs["shape"] = [self.n_cells, self.n_genes]


class _Column:
    """A column of obs, which is kept in memory."""

    def __init__(self) -> None:
        self.parts: list[Any] = []

    def append(self, rows: Any) -> None:
        self.parts.append(np.asarray(rows))

    def close(self) -> NDArray[Any]:
        return np.concatenate(self.parts)


def make_element(root: Any, name: str, rows: Any, compression: Compression) -> _Element:
    """Create an element, in the format of its first rows."""
    if name.startswith("obs/"):
        return _Column()
    if "/" in name and (parent := name.split("/", maxsplit=1)[0]) not in root:
        write_elem(root, parent, {})
    return (_CSR if sparse.issparse(rows) else _Dense)(root, name, rows, compression)


def _mark(element: Any, kind: str, version: str) -> None:
    element.attrs["encoding-type"], element.attrs["encoding-version"] = kind, version
