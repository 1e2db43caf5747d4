"""Batch files: a folder of ``batch_0000.h5``, ``batch_0001.h5`` … and ``config.json``, read and written.

Each file has ``X`` (cells × genes, dense or a CSR group of data, indices and indptr), ``genes``, ``cells``, and the
columns of the cell table as ``obs/NAME``, usually with ``gene_count``, ``umi_count`` and ``SRX_accession``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from genevae.errors import DataError, shorten
from genevae.io.concat import concat_sources
from genevae.io.lowlevel.hdf5 import HDF5_ERRORS, csr_of, damaged, dense_of, open_hdf5, require_room_of, write_hdf5
from genevae.io.lowlevel.soundness import require_sound
from genevae.io.read_options import ReadOptions, require_no_layer
from genevae.io.source import FileSource, Source, Stamp, select_rows
from genevae.io.storable import storable, store_keys

__all__ = ["CONFIG", "batch_name", "is_batch", "open_batches", "write_batch", "write_config"]

CONFIG = "config.json"
CHUNK = 2**16
"""Values in a chunk on disk."""
_NAME = re.compile(r"batch_(\d+)\.(h5|hdf5)")
_TABLES = ("genes", "cells")
LEVELS = "levels"
"""The group with the levels of each categorical column, in their order."""
NAME = "name"
"""The attribute with the name of a column whose key is another."""


def batch_name(number: int) -> str:
    """Return the name of a batch file."""
    return f"batch_{number:04d}.h5"


def is_batch(path: Path) -> bool:
    """Return whether a path is a folder of batch files, or a batch file."""
    if path.is_dir():
        return any(_NAME.fullmatch(entry.name) for entry in path.iterdir())
    if path.suffix not in (".h5", ".hdf5") or not path.is_file():
        return False
    try:
        with open_hdf5(path) as file:
            return "X" in file and all(name in file for name in _TABLES)
    except DataError:
        return _NAME.fullmatch(path.name) is not None


def open_batches(path: Path, files: ReadOptions) -> Source:
    """Open a folder of batch files, or one of them. Rows are read on demand.

    Raises
    ------
    DataError
        If a file is damaged, a number is missing in the sequence of files, or the config states another number of
        cells.
    """
    require_no_layer(path, files)
    if path.is_file():
        return _at_most(_open_one(path), files.max_cells_per_batch)
    numbered = sorted((int(found[1]), entry) for entry in path.iterdir() if (found := _NAME.fullmatch(entry.name)))
    lost = sorted(set(range(numbered[-1][0] + 1)) - {number for number, _ in numbered})
    if lost:
        raise DataError(
            f"{path} lacks {shorten(map(batch_name, lost))}, though it has {numbered[-1][1].name}. Get the missing "
            "files, or number the others from 0 without gaps."
        )
    require_sound([file for _, file in numbered])
    parts = [_open_one(file) for _, file in numbered]
    kept = [_at_most(part, files.max_cells_per_batch) for part in parts]
    source = concat_sources(kept, str(path), files.join, add_file_column=False)
    config = _read_config(path)
    for what, n_found in (("cells", sum(map(len, parts))), ("genes", len(source.genes))):
        n_stated = config.get(f"n_{what}", n_found)
        if n_stated != n_found:
            raise DataError(
                f"{path / CONFIG} states {n_stated} {what}, but the {len(numbered)} batch files have {n_found}. "
                f"Download or write them again, or remove n_{what} from {CONFIG}."
            )
    return source


def _at_most(source: Source, n: int | None) -> Source:
    """Keep at most so many cells of a file: a random sample, which depends on the name of the file alone."""
    if n is None or len(source) <= n:
        return source
    rng = np.random.default_rng(list(Path(source.name).name.encode()))
    return select_rows(source, np.sort(rng.choice(len(source), n, replace=False)))


def _open_one(path: Path) -> Source:
    stamp = Stamp.of(path)
    with open_hdf5(path) as file:
        for name in ("X", *_TABLES):
            if name not in file:
                raise DataError(f"{path} is not a batch file: it lacks '{name}', and has {shorten(file) or 'nothing'}.")
        try:
            require_room_of(path, file["genes"], file["cells"], *([file["obs"]] if "obs" in file else []))
            genes, cells = _texts(file["genes"]), _texts(file["cells"])
            stored = file["X"]
            is_dense = isinstance(stored, h5py.Dataset)
            shape = tuple(stored.attrs.get("shape", (len(cells), len(genes))))
            matrix = dense_of(path, stored) if is_dense else csr_of(path, stored, (int(shape[0]), int(shape[1])))
            levels = file.get(LEVELS, {})
            obs = pd.DataFrame({
                str(column.attrs.get(NAME, key)): _column(column, levels.get(key))
                for key, column in _datasets(file.get("obs", {}))
            })  # fmt: skip
        except DataError:
            raise
        except HDF5_ERRORS as error:
            raise damaged(path, error) from error
    if matrix.shape != (len(cells), len(genes)) or (len(obs.columns) and len(obs) != len(cells)):
        raise DataError(
            f"{path} is inconsistent: X has {matrix.shape[0]:,} × {matrix.shape[1]:,} entries for {len(cells):,} "
            f"cells, {len(genes):,} genes and {len(obs):,} rows of obs. Download or write it again."
        )
    return FileSource(str(path), matrix, tuple(genes), obs.set_axis(pd.Index(cells)) if len(obs.columns) else
                      pd.DataFrame(index=pd.Index(cells)), stamps=(stamp,))  # fmt: skip


def _datasets(group: Any, prefix: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the datasets of a group; where a name has a slash, HDF5 has made groups of it."""
    for key, value in group.items():
        if isinstance(value, h5py.Dataset):
            yield prefix + key, value
        else:
            yield from _datasets(value, f"{prefix}{key}/")


def _texts(dataset: h5py.Dataset) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in dataset[:]]


def _column(dataset: h5py.Dataset, levels: h5py.Dataset | None) -> Any:
    """Read a column: numbers, or texts as categories; with a list of levels, categories in their order."""
    is_number = dataset.dtype.kind in "biuf"
    values = dataset[:] if is_number else _texts(dataset)
    if levels is None:
        return values if is_number else pd.Categorical(values)
    categories = levels[:] if levels.dtype.kind in "biuf" else np.array(_texts(levels), dtype=object)
    return pd.Categorical(values, categories=categories, ordered=bool(levels.attrs.get("ordered", False)))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path / CONFIG} cannot be read ({error}). Correct it, or remove it.") from error
    return config if isinstance(config, dict) else {}


def write_batch(path: Path, x: Any, genes: Sequence[str], obs: pd.DataFrame) -> None:
    """Write one batch file. Sparse rows become a CSR group.

    Parameters
    ----------
    path
        The file.
    x
        Rows, CSR or dense.
    genes
        The name of each column.
    obs
        One row per cell. If it lacks ``gene_count`` and ``umi_count`` (number of non-zero genes, and their sum), they
        are added.
    """
    counts = {"gene_count": _n_stored(x), "umi_count": np.asarray(x.sum(1)).reshape(-1)}
    obs = storable(obs.assign(**{name: values for name, values in counts.items() if name not in obs}))
    with write_hdf5(path) as file:
        if sparse.issparse(x):
            for name in ("data", "indices", "indptr"):
                file.create_dataset(f"X/{name}", data=getattr(x, name), **_packed(getattr(x, name)))
            file["X"].attrs["shape"] = x.shape
        else:
            file.create_dataset("X", data=x, **_packed(x))
        file["genes"] = np.array(genes, dtype=h5py.string_dtype())
        file["cells"] = np.array(list(obs.index), dtype=h5py.string_dtype())
        file.create_group("obs", track_order=True)
        keys = store_keys(obs.columns)
        for name in obs.columns:
            _write_column(file, keys[name], name, obs[name])


def _write_column(file: h5py.File, key: str, name: str, column: pd.Series[Any]) -> None:
    """Write numbers as they are, and categories as their values beside a list of the levels in order.

    A value that is no level is missing; a missing number is NaN.
    """
    values = column
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = column.cat.categories
        if levels.dtype.kind in "iuf":
            values = column.astype(np.float64 if column.isna().any() else levels.dtype)
        else:
            levels = levels.astype(str)
            absent = next(text for text in ("", "missing", *map(str, range(len(levels) + 1))) if text not in levels)
            values = column.astype(object).map(str, na_action="ignore").astype(object).fillna(absent)
        kept = file.create_dataset(f"{LEVELS}/{key}", data=_array(levels))
        kept.attrs["ordered"] = bool(column.cat.ordered)
    elif not isinstance(column.dtype, np.dtype):  # nullable integers or booleans, of which some are missing
        values = column.astype(np.float64)
    stored = file["obs"].create_dataset(key, data=_array(values))
    if key != name:
        stored.attrs[NAME] = name


def _array(values: Any) -> NDArray[Any]:
    array = np.asarray(values)
    return array if array.dtype.kind in "biuf" else np.array(array.tolist(), dtype=h5py.string_dtype())


def write_config(folder: Path, n_cells: int, n_genes: int, max_cells_per_batch: int) -> None:
    """Write ``config.json``, with the total number of cells."""
    config = {"n_cells": n_cells, "n_genes": n_genes, "max_cells_per_batch": max_cells_per_batch}
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _n_stored(x: Any) -> Any:
    return np.diff(x.indptr) if sparse.issparse(x) else np.count_nonzero(x, axis=1)


def _packed(values: NDArray[Any]) -> dict[str, Any]:
    """Return options for light compression, in chunks of about a block of rows. Gzip includes a checksum."""
    if not values.size:
        return {}
    width = int(np.prod(values.shape[1:], dtype=np.int64))
    chunk = (min(len(values), max(1, CHUNK // max(width, 1))), *values.shape[1:])
    return {"compression": "gzip", "compression_opts": 1, "shuffle": True, "chunks": chunk}
