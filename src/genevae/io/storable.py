"""Tables in a form that every format can hold: what is written can be read, and missing stays missing.

All writers pass their tables through :func:`storable`, and stores also through :func:`store_keys`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from genevae.errors import DataError, shorten

__all__ = ["NAMES", "named_columns", "original_names", "storable", "storable_column", "store_keys", "unique"]

NAMES = "genevae-names"
"""The attribute of a stored table with the names of the columns whose keys are others, as JSON."""
RESERVED = ("", ".", "..", "_index", "__categories", "zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
"""Keys that have another meaning in a store."""
NAMES_AT_ONCE = 2**16
"""Names of cells that are checked together."""
MAX_KEY = 200
"""Longest key in bytes: in a zarr store it is the name of a folder."""


def named_columns(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return a table whose columns have names that are text, each once.

    Raises
    ------
    DataError
        If two columns have the same name.
    """
    names = [str(name) for name in table.columns]
    twice = [name for name, again in zip(names, pd.Index(names).duplicated(), strict=True) if again]
    if twice:
        raise DataError(
            f"{source} has several columns with the same name: {shorten(dict.fromkeys(twice))}. Rename or remove them, "
            "for example with adata.obs = adata.obs.loc[:, ~adata.obs.columns.duplicated()]."
        )
    return table if names == list(table.columns) else table.set_axis(names, axis=1)


def storable(table: pd.DataFrame) -> pd.DataFrame:
    """Convert a table to numbers, booleans and categories, with names that are text.

    Numbers and booleans keep their type, and are nullable where some are missing. Categories keep their order. Text
    becomes categories, which all readers of stores support, and so does everything else: dates, periods, intervals and
    mixed values, each as its text.
    """
    names = unique(_text(name) for name in table.columns)
    columns = {name: storable_column(table.iloc[:, at]) for at, name in enumerate(names)}
    title = None if table.index.name is None else _text(table.index.name)
    index = pd.Index(_names(table.index), dtype=object)
    index.name = None if title in columns or title in RESERVED else title
    return pd.DataFrame(columns, index=index)


def storable_column(column: pd.Series[Any]) -> Any:
    """Convert one column, as :func:`storable` does."""
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _with_plain_categories(pd.Categorical(column))
    if isinstance(dtype, pd.SparseDtype):
        return storable_column(column.sparse.to_dense())
    kind = getattr(dtype, "kind", "O")
    if kind in "iufb" and not isinstance(dtype, np.dtype):
        return _numbers(column.astype(_nullable(dtype)))
    if kind in "iub" or (kind == "f" and dtype.itemsize <= 8):
        return column.to_numpy()
    if kind == "f":
        return column.to_numpy(np.float64)
    missing = column.isna().to_numpy()
    if kind in "mM":
        return _categories(column.astype(str).to_numpy(object), missing)
    values = column.astype(object)
    inferred = infer_dtype(values[~missing], skipna=False)
    if inferred in ("boolean", "integer", "floating", "mixed-integer-float"):
        as_type = {"boolean": "boolean", "integer": "Int64"}.get(inferred, "Float64")
        try:
            return _numbers(values.where(~missing, None).astype(as_type))
        except (OverflowError, TypeError, ValueError):  # integers beyond 64 bits
            pass
    return _categories(values.to_numpy(), missing, repeats=inferred == "string")


def _nullable(dtype: Any) -> str:
    """Return the name of pandas' nullable type for numbers of another extension."""
    if dtype.kind == "b":
        return "boolean"
    bits = 8 * dtype.itemsize
    return {"i": f"Int{bits}", "u": f"UInt{bits}"}.get(dtype.kind, f"Float{max(bits, 32)}")


def _numbers(column: pd.Series[Any]) -> Any:
    """Return nullable numbers as an array of NumPy, unless integers or booleans are missing."""
    dtype: Any = column.dtype
    if dtype.kind == "f":
        return column.to_numpy(dtype.numpy_dtype, na_value=np.nan)
    return column.array if column.isna().any() else column.to_numpy(dtype.numpy_dtype)


def _categories(values: Any, missing: Any, repeats: bool = True) -> pd.Categorical:
    """Return values as sorted categories of text; of texts, which repeat, each is converted once."""
    codes, found = pd.factorize(values[~missing]) if repeats else (np.arange((~missing).sum()), values[~missing])
    texts = [_text(value) for value in found]
    levels = sorted(set(texts))
    code_of = {level: code for code, level in enumerate(levels)}
    of_all = np.full(len(values), -1)
    of_all[~missing] = np.array([code_of[text] for text in texts], dtype=np.int64)[codes]
    return pd.Categorical.from_codes(of_all, categories=np.array(levels, dtype=object))


def _with_plain_categories(column: pd.Categorical) -> pd.Categorical:
    """Return categories of numbers, booleans or text, in the same order."""
    levels = column.categories
    if isinstance(levels.dtype, np.dtype) and levels.dtype.kind in "iufb":
        return column
    numeric = getattr(levels.dtype, "kind", "O") in "iufb"
    plain = levels.to_numpy(_numpy_type(levels.dtype)) if numeric else [_text(level) for level in _texts(levels)]
    kept = list(dict.fromkeys(plain))
    code_of = {level: code for code, level in enumerate(kept)}
    new_codes = np.array([*(code_of[level] for level in plain), -1], column.codes.dtype)  # the last is that of missing
    categories = np.array(kept) if numeric else np.array(kept, dtype=object)
    return pd.Categorical.from_codes(new_codes[column.codes], categories=categories, ordered=column.ordered)


def _numpy_type(dtype: Any) -> Any:
    return getattr(dtype, "numpy_dtype", np.float64)


def _texts(levels: pd.Index) -> Iterable[Any]:
    """Return levels, dates as briefly as they all can be written."""
    return list(levels.astype(str) if getattr(levels.dtype, "kind", "O") in "mM" else levels)


def _text(value: Any) -> str:
    """Return text that can be encoded; HDF5 and readers in C end a text at a null character."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _names(index: pd.Index) -> Any:
    """Return names as text; those of an atlas are all text that can be encoded, which is found out block by block."""
    names = index.to_numpy(object)
    if all(_are_text(names[start : start + NAMES_AT_ONCE]) for start in range(0, len(names), NAMES_AT_ONCE)):
        return names
    return [_text(name) for name in names]


def _are_text(names: Any) -> bool:
    """Return whether names are text that can be encoded and has no null character."""
    if not set(map(type, names)) <= {str}:
        return False
    joined = "".join(names)
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in joined


def unique(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Return names of which a repeated one has a number behind it."""
    found: dict[str, None] = {}
    listed = list(names)
    reserved = {*listed, *taken}
    for name in listed:
        new, number = name, 0
        while new in found or (number and new in reserved):
            number += 1
            new = f"{name}_{number}"
        found[new] = None
    return list(found)


def store_keys(names: Iterable[str]) -> dict[str, str]:
    """Return the key of each name in a store, where ``/`` divides groups and some keys have another meaning.

    >>> store_keys(["donor", "CD4/CD8", "_index"])
    {'donor': 'donor', 'CD4/CD8': 'CD4_CD8', '_index': '_index_'}
    """
    listed = list(names)
    plain = [name for name in listed if _key(name) == name]
    others = [name for name in listed if _key(name) != name]
    return dict(zip([*plain, *others], unique([*plain, *map(_key, others)]), strict=True))


def _key(name: str) -> str:
    key = name.replace("/", "_").encode()[:MAX_KEY].decode(errors="ignore")
    return f"{key}_" if key in RESERVED else key


def original_names(table: pd.DataFrame, attributes: Mapping[str, Any]) -> pd.DataFrame:
    """Give the columns of a stored table the names that they had before they were stored."""
    if NAMES not in attributes:
        return table
    names = json.loads(attributes[NAMES])
    title = table.index.name
    return table.rename(columns=names).rename_axis(index=names.get(title, title))
