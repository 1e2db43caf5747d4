"""Tables of AnnData stores, h5ad or zarr."""

from __future__ import annotations

import json
from typing import Any

import h5py
import pandas as pd
from anndata.io import write_elem

from genevae.io.h5ad import ignore_warnings
from genevae.io.storable import NAMES, storable, storable_column, store_keys

__all__ = ["write_frame"]

MANY = 4_000
"""Columns of an HDF5 table beyond which their list, 16 bytes for each, may not fit into the head of a group, 64 KiB."""
NAMES_AT_ONCE = 2**18
"""Names that are written together: libraries make several copies of what they are given."""


def write_frame(root: Any, key: str, table: pd.DataFrame) -> None:
    """Write a table, with the original names of columns whose keys must be others.

    The format is that of anndata, whose own function needs as much memory again as all names of cells take.
    """
    head = storable(table.iloc[:0])
    title = head.index.name
    keys = store_keys([*([] if title is None else [title]), *head.columns])
    group = root.create_group(key, **({"track_order": True} if _is_wide(root, table) else {}))
    group.attrs["encoding-type"], group.attrs["encoding-version"] = "dataframe", "0.2.0"
    group.attrs["column-order"] = [keys[name] for name in head.columns]
    group.attrs["_index"] = keys.get(title, "_index")
    _write_names(group, group.attrs["_index"], storable(table.iloc[:, :0]).index)
    with ignore_warnings():
        for at, name in enumerate(head.columns):  # one after the other, because each is a copy
            write_elem(group, keys[name], storable_column(table.iloc[:, at]))
    if renamed := {new: name for name, new in keys.items() if new != name}:
        group.attrs[NAMES] = json.dumps(renamed)


def _is_wide(root: Any, table: pd.DataFrame) -> bool:
    return isinstance(root, h5py.Group) and table.shape[1] > MANY


def _write_names(group: Any, key: str, index: pd.Index[Any]) -> None:
    """Write names block by block."""
    if isinstance(group, h5py.Group):
        stored = group.create_dataset(key, (len(index),), h5py.string_dtype())
    else:
        from zarr.core.dtype import VariableLengthUTF8

        chunk = min(max(len(index), 1), NAMES_AT_ONCE)
        stored = group.create_array(key, shape=(len(index),), dtype=VariableLengthUTF8(), chunks=(chunk,))
    stored.attrs["encoding-type"], stored.attrs["encoding-version"] = "string-array", "0.2.0"
    for start in range(0, len(index), NAMES_AT_ONCE):
        stored[start : start + NAMES_AT_ONCE] = index[start : start + NAMES_AT_ONCE].to_numpy(object)
