"""Tables without pandas in a pickle: a list of dicts, one per row, or a dict of lists or arrays, one per column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from genevae.io.safe_pickle.arrays import array_of
from genevae.io.safe_pickle.machine import Made, UnreadablePickle

__all__ = ["is_plain", "read_plain"]

_SCALARS = (str, int, float, bool, type(None))


def is_plain(note: object) -> bool:
    """Return whether the content of a pickle is a list of dicts or a dict of lists or arrays."""
    if isinstance(note, list):
        return bool(note) and all(isinstance(row, dict) for row in note)
    return isinstance(note, dict) and any(isinstance(column, list | tuple | Made) for column in note.values())


def read_plain(note: Any, n_bytes: int) -> tuple[pd.DataFrame, list[str]]:
    """Return a table, and the names of the columns that are left out because they are not scalars.

    Parameters
    ----------
    note
        The content of a pickle. A key that a row lacks is a missing value.
    n_bytes
        The size of the pickle. The table may be 64 times as large, plus one megabyte.

    Raises
    ------
    UnreadablePickle
        If columns differ in length, none can be read, or the table is much larger than its bytes.
    """
    given = _columns_of_rows(note, n_bytes) if isinstance(note, list) else note
    columns: dict[str, Any] = {}
    left_out: list[str] = []
    for name, values in given.items():
        column = _column(values)
        if column is None:
            left_out.append(str(name))
        else:
            columns[str(name)] = column
        _check_size(sum(map(len, columns.values())), n_bytes)
    if len({len(column) for column in columns.values()}) != 1:
        raise UnreadablePickle("its columns differ in length, or none can be read")
    return pd.DataFrame(columns), left_out


def _columns_of_rows(rows: Sequence[Mapping[Any, Any]], n_bytes: int) -> dict[Any, list[Any]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_size(len(names) * len(rows), n_bytes)
    return {name: [row.get(name) for row in rows] for name in names}


def _column(values: object) -> Any:
    """Return the values of a column; None where they are not scalars of one axis."""
    if isinstance(values, list | tuple):
        return list(values) if all(isinstance(value, _SCALARS) for value in values) else None
    if not isinstance(values, Made):
        return None
    try:
        array = array_of(values)
    except (UnreadablePickle, TypeError, ValueError, LookupError, AttributeError):
        return None
    return array if array.ndim == 1 else None


def _check_size(n: int, n_bytes: int) -> None:
    if 8 * n > 64 * n_bytes + 2**20:
        raise UnreadablePickle("it describes a table that is much larger than its bytes")
