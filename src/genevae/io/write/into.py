"""Results in a file that exists: elements are added to an h5ad file, and all else in it stays as it is."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, write_elem
from numpy.typing import NDArray

from genevae.errors import DataError, RunError, shorten
from genevae.io.atomic import replace_with, staging_folder, sync
from genevae.io.h5ad import ignore_warnings
from genevae.io.lowlevel.hdf5 import open_hdf5, write_hdf5
from genevae.io.source import Stamp
from genevae.io.storable import storable, store_keys
from genevae.io.write.anndata import Block, make_element

__all__ = ["require_into", "write_into"]


def require_into(path: Path) -> None:
    """Check that results can be written into a file, before the work begins.

    Raises
    ------
    RunError
        If it is not an h5ad file of this time.
    """
    if path.suffix != ".h5ad":
        raise RunError(
            f"Results can be written into .h5ad files, not into {path}. Write them to their own file (--out)."
        )
    with open_hdf5(path) as file:
        if not isinstance(file.get("obs"), h5py.Group) or "column-order" not in file["obs"].attrs:
            raise RunError(
                f"{path} has no table of cells as AnnData writes it today. Write it again with adata.write_h5ad(...), "
                "or write the results to their own file (--out)."
            )


def write_into(
    path: Path,
    blocks: Iterable[Block],
    cells: pd.Index,
    columns: NDArray[np.int64],
    uns: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Add elements to an h5ad file. They are added to a copy, which replaces the file when it is complete.

    Parameters
    ----------
    path
        The file.
    blocks
        Blocks of rows, all with the same elements: layers of the result's genes, obsm, and columns of obs.
    cells
        The names of the result's cells, which must be those in the file.
    columns
        For each gene of the file, its column in the layers, or −1; there a layer is NaN.
    uns
        Entries of the unstructured annotation.
    overwrite
        Whether elements that are in the file already are replaced.

    Raises
    ------
    DataError
        If the cells are not the same.
    RunError
        If an element is in the file already, the file changed in the meantime, or it cannot be written. It is then as
        before.
    """
    path = path.resolve()  # a link stays one
    stamp = Stamp.of(path)
    _require_same_cells(path, cells)
    iterator = iter(blocks)
    first = next(iterator)
    with open_hdf5(path) as file:
        there = [name for name in _keys([*first, *(f"uns/{key}" for key in uns)]).values() if name in file]
    if there and not overwrite:
        raise RunError(f"{path} has {shorten(there)} already. Give --force (overwrite=True) to replace it.")
    with staging_folder(path) as folder:
        draft = folder / path.name
        shutil.copy2(path, draft)
        with write_hdf5(draft, edit=True) as file, ignore_warnings():
            for name in there:
                del file[name]
            _add(file, itertools.chain([first], iterator), columns)
            for key, value in uns.items():
                write_elem(file.require_group("uns"), key, value)
        sync(draft)
        stamp.check()
        replace_with(draft, path, sign=False)  # the file is the user's


def _keys(names: Iterable[str]) -> dict[str, str]:
    """Return the path of each element in the file."""
    return {name: f"{name.split('/')[0]}/{store_keys([name.split('/', 1)[1]]).popitem()[1]}" for name in names}


def _require_same_cells(path: Path, cells: pd.Index) -> None:
    with open_hdf5(path) as file, ignore_warnings():
        theirs = list(map(str, read_elem(file["obs"]).index))
    ours = list(map(str, cells))
    if ours == theirs:
        return
    at = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    reason = f"{len(theirs):,} cells, and the results are of {len(ours):,}"
    if at is not None:
        reason = f"the cell '{theirs[at]}' in row {at + 1:,}, where the results have '{ours[at]}'"
    raise DataError(
        f"{path} has {reason}. Results can be written into a file of the same cells in the same order; write these to "
        "their own file (--out)."
    )


def _add(file: h5py.File, blocks: Iterable[Block], column_g: NDArray[np.int64]) -> None:
    elements: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for block in blocks:
        keys = keys or _keys(block)
        for name, rows in block.items():
            values = _spread(np.asarray(rows), column_g) if name.startswith("layers/") else rows
            if name not in elements:
                elements[name] = make_element(file, name if name.startswith("obs/") else keys[name], values, "gzip")
            elements[name].append(values)
    table = {name: each.close() for name, each in elements.items()}
    columns = {name: values for name, values in table.items() if name.startswith("obs/")}
    order = [name.decode() if isinstance(name, bytes) else str(name) for name in file["obs"].attrs["column-order"]]
    for name, values in columns.items():
        key = keys[name].removeprefix("obs/")
        column = storable(pd.DataFrame({key: values}))[key]
        write_elem(
            file["obs"], key, column.array if isinstance(column.dtype, pd.CategoricalDtype) else column.to_numpy()
        )
        order += [] if key in order else [key]
    file["obs"].attrs["column-order"] = np.array(order, dtype=h5py.string_dtype())


def _spread(rows: NDArray[Any], column_g: NDArray[np.int64]) -> NDArray[Any]:
    """Move columns to those of the genes in the file."""
    wide = np.full((len(rows), len(column_g)), np.nan, dtype=rows.dtype)
    wide[:, column_g >= 0] = rows[:, column_g[column_g >= 0]]
    return wide
