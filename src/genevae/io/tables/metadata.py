"""Tables of metadata: reading, and joining to the cells."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from shlex import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.errors import DataError, nearest, shorten
from genevae.io.bounded import require_room
from genevae.io.safe_pickle.table import read_pickled_table
from genevae.io.tables.dtypes import typed
from genevae.io.tables.text import (
    count_fields,
    kind_of,
    missing_package,
    packing_of,
    read_header,
    records,
    require_file,
    separator_of,
    without_empty_end,
)

__all__ = ["join_metadata", "read_table", "reading_parquet"]

_BLOCK = 1 << 24
"""Characters to parse at once."""


# --- reading ----------------------------------------------------------------------------------------------------------


def read_table(path: str | Path) -> pd.DataFrame:
    """Read all columns of a table of metadata, without an index.

    A text column becomes numeric only if every value is a plain number without leading zeros, so that barcodes and
    codes such as 007 are unchanged. Empty fields, NA, NaN, nan, N/A and #N/A are missing.

    Parameters
    ----------
    path
        A file of comma-separated (``.csv``) or tab-separated (``.tsv``, ``.txt``) text in UTF-8, plain or compressed
        (``.gz``, ``.zst``); a pickled table (``.pkl``); or parquet. A saved index becomes the first column.

    Raises
    ------
    DataError
        If the file does not exist, is empty, damaged, of unknown format or not text; if a row has more or fewer fields
        than the header, or two columns have the same name.
    """
    path = Path(path)
    require_file(path)
    kind = kind_of(path)
    if kind in ("pkl", "pickle"):
        table = read_pickled_table(path)
    elif kind == "parquet":
        table = _read_parquet(path)
    elif kind in ("csv", "tsv", "txt"):
        table = _read_text(path)
    else:
        raise DataError(
            f"{path} is not a table of a known format. Give .csv, .tsv or .txt (plain, .gz or .zst), or .parquet."
        )
    _require_table(path, table)
    return table


def _require_table(path: Path, table: pd.DataFrame) -> None:
    if not len(table):
        raise DataError(f"{path} is empty: it has columns ({shorten(table.columns)}) but no rows.")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()].unique()
        raise DataError(f"{path} has several columns with the same name: {shorten(twice)}. Rename or remove them.")


def _read_parquet(path: Path) -> pd.DataFrame:
    if packing_of(path):
        raise DataError(f"{path} is a compressed parquet file. Decompress it: parquet is compressed internally.")
    with reading_parquet(path):
        table = pd.read_parquet(path, engine="pyarrow")
        if not isinstance(table.index, pd.RangeIndex):
            table = table.reset_index(names=[name or "" for name in table.index.names])
        return table.set_axis(list(map(str, table.columns)), axis=1)


@contextmanager
def reading_parquet(path: Path, by_blocks: bool = False) -> Iterator[None]:
    """Turn errors of pyarrow into a DataError. Damaged files raise many kinds of errors."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise missing_package(path, "pyarrow") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            found = file.metadata
            groups = [found.row_group(at) for at in range(found.num_row_groups)]
            n_bytes = max(8 * found.num_rows * found.num_columns, sum(group.total_byte_size for group in groups))
        require_room(path, 0 if by_blocks else n_bytes, path.stat().st_size)
        yield
    except DataError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} cannot be read as parquet ({reason}). It is damaged, or not parquet. Write it again."
        ) from error


def _read_text(path: Path) -> pd.DataFrame:
    separator = separator_of(path)
    columns = read_header(path, separator)
    rows = islice(records(path, separator, whole=True), 1, None)
    blocks = [
        pd.read_csv(
            io.StringIO("\n".join(block)),
            sep=separator,
            header=None,
            names=range(len(columns)),
            index_col=False,
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,
        )
        for block in _blocks(path, rows, separator, len(columns))
    ]
    parsed = [typed(np.concatenate([block[at].to_numpy(dtype=object) for block in blocks])) for at in blocks[0]]
    return pd.DataFrame(dict(enumerate(parsed))).set_axis(columns, axis=1)


def _blocks(path: Path, rows: Iterable[tuple[int, str]], separator: str, n_columns: int) -> Iterator[list[str]]:
    """Collect records into blocks, and check that they have as many fields as the header."""
    block, size = [], 0
    for number, given in rows:
        record = without_empty_end(given, separator, count_fields(path, number, given, separator), n_columns)
        n = count_fields(path, number, record, separator)
        if n != n_columns:
            raise DataError(
                f"{path}, line {number}, has {n} fields where the header has {n_columns}: '{record[:60]}'. "
                "Correct the line, or put quotes around fields that contain the separator."
            )
        block.append(record)
        size += len(record)
        if size > _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


# --- joining ----------------------------------------------------------------------------------------------------------


def join_metadata(
    obs: pd.DataFrame, tables: Mapping[str, pd.DataFrame], key: str | None = None, table_key: str | None = None
) -> pd.DataFrame:
    """Add the columns of tables to obs (a left join). Each table is matched with the cells by itself.

    Keys are compared as text, so that 7 matches "7". Cells without a row get missing values; rows without a cell are
    left out. If both have a column of the same name, the table's replaces that of ``obs``.

    Parameters
    ----------
    obs
        One row per cell. It is not modified.
    tables
        Tables by their names in messages, with one row per key.
    key
        The column of ``obs`` to match; by default that of the same name as ``table_key``, or else the cell names.
    table_key
        The column of the tables to match; by default that of the same name as ``key``, or else the first, or, if no
        cell is in the first, the one that has most of them. Of several tables, those that lack the named column, where
        another has it, are matched with the cell names in the same way.

    Returns
    -------
    DataFrame
        The rows of ``obs``, in the same order.

    Raises
    ------
    DataError
        If ``obs`` or a table has no such column, a table has no other column or different rows with the same key, no
        cell matches, or two tables have a column of the same name.
    """
    first: dict[str, str] = {}
    joined = obs
    wanted = key if table_key is None else table_key
    some_have_it = any(wanted in table.columns for table in tables.values())
    for name, table in tables.items():
        keys = (None, None) if some_have_it and wanted not in table.columns else (key, table_key)
        added = _matching_rows(obs, table, *keys, name)
        if twice := [column for column in added if column in first]:
            raise DataError(
                f"{first[twice[0]]} and {name} both have {shorten(twice)}, and only one can be added to the cells. "
                "Rename or remove it in one of them."
            )
        first |= dict.fromkeys(added.columns, name)
        order = [*joined.columns, *(column for column in added.columns if column not in joined.columns)]
        joined = pd.concat([joined.drop(columns=added.columns, errors="ignore"), added], axis=1)[order]
    return joined


def _matching_rows(
    obs: pd.DataFrame, table: pd.DataFrame, key: str | None, table_key: str | None, name: str
) -> pd.DataFrame:
    """Return the other columns of a table, with the row of each cell."""
    if table_key is not None and table_key not in table.columns:
        raise DataError(
            f"{name} has no column '{table_key}' to match with the cells. {nearest(table_key, table.columns)}"
        )
    if key is not None and key not in obs.columns:
        raise DataError(f"The cells have no column '{key}' to match with {name}. {nearest(key, obs.columns)}")
    if key is None and table_key in obs.columns:
        key = table_key
    obs_keys = _as_text(obs.index if key is None else obs[key])
    if table_key is None:
        table_key = key if key in table.columns else _key_column(table, obs_keys)
    added = table.drop(columns=table_key).reset_index(drop=True)
    if not added.shape[1]:
        raise DataError(
            f"{name} has one column only ('{table_key}'), so it adds nothing to the cells. Add more columns."
        )
    table_keys = _as_text(table[table_key])
    kept = _first_rows(table_keys, added, name)
    at = pd.Index(table_keys[kept], dtype=object).get_indexer(pd.Index(obs_keys, dtype=object))
    if len(obs) and (at < 0).all():
        raise DataError(
            f"No cell is in {name}: its '{table_key}' has {_examples(table_keys)}, but the cells "
            f"{'are named' if key is None else f'have {key}'} {_examples(obs_keys)}. {_shared_keys(obs, table)}"
        )
    return added.iloc[kept].reset_index(drop=True).reindex(at).set_axis(obs.index, axis=0)


def _key_column(table: pd.DataFrame, obs_keys: NDArray[np.object_]) -> str:
    """Return the first column if it has any of the keys, or else the column that has most of them."""
    keys = pd.Index(obs_keys, dtype=object).unique()
    first: str = table.columns[0]
    if keys.isin(_as_text(table[first])).any():
        return first
    n_shared = {str(column): keys.isin(_as_text(table[column])).sum() for column in table.columns}
    return max(n_shared, key=n_shared.__getitem__)


def _shared_keys(obs: pd.DataFrame, table: pd.DataFrame) -> str:
    """Name the options by which cells and a table match, by the texts that their columns share."""
    theirs = {str(title): set(_texts_of(table[title])) for title in table.columns}
    columns: dict[str | None, pd.Series | pd.Index] = {None: obs.index}
    columns |= {str(title): obs[title] for title in obs.columns}
    shares = []
    for ours, column in columns.items():
        keys = set(_texts_of(column))
        for title, texts in theirs.items():
            if (n_shared := len(keys & texts)) and not (ours is None and title in columns):
                shares.append((n_shared / len(keys), ours == title, ours is None, ours, title))
    if not shares:
        return "No column of the cells shares a value with a column of this table. Are they of the same data?"
    *_, ours, title = max(shares, key=lambda share: share[:3])
    options = [] if ours is None else [f"--key {quote(ours)}"]
    options += [] if ours == title else [f"--metadata-key {quote(title)}"]
    name = "the cell names" if ours is None else f"the obs column '{ours}'"
    return (
        f"Its '{title}' shares values with {name}: match them by {' '.join(options)} (key and metadata_key in Python)."
    )


def _texts_of(values: pd.Series | pd.Index) -> Iterable[str]:
    """Yield the different values as text, where they can be keys: texts, categories and integers."""
    unique = pd.Series(values.unique()).dropna()
    if isinstance(unique.dtype, pd.CategoricalDtype):
        unique = unique.astype(unique.cat.categories.dtype)
    return () if unique.dtype.kind in "bfcmM" else map(_text, unique)


def _as_text(values: pd.Series | pd.Index) -> NDArray[np.object_]:
    """Convert every value to text, integers without decimal point. Missing values are kept."""
    column: NDArray[np.object_]
    if pd.api.types.infer_dtype(values, skipna=True) == "string":
        column = values.to_numpy(dtype=object)
        return column
    codes, unique = pd.factorize(values)
    texts = np.array([*map(_text, unique), np.nan], dtype=object)  # the last one is for missing values, with code −1
    column = texts[codes]
    return column


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _first_rows(keys: NDArray[np.object_], added: pd.DataFrame, name: str) -> NDArray[np.int64]:
    """Return the first row of each key.

    Raises
    ------
    DataError
        If another row of the same key differs.
    """
    given = ~pd.isna(keys)
    later = pd.Series(keys).duplicated().to_numpy() & given
    if later.any():
        twice = pd.Series(keys).isin(keys[later]).to_numpy()
        rows = added[twice].astype(str).set_axis(range(added.shape[1]), axis=1).assign(key=keys[twice])
        differing = rows.drop_duplicates()["key"]
        differing = differing[differing.duplicated()].unique()
        if len(differing):
            raise DataError(
                f"{name} has several different rows for {len(differing)} keys: {shorten(differing, 5)}. "
                "Keep one row per key."
            )
    return np.flatnonzero(given & ~later)


def _examples(values: NDArray[np.object_]) -> str:
    unique = pd.unique(values[: 10**5])
    return shorten([f"'{value}'" for value in unique[~pd.isna(unique)]], 3) or "nothing"
