"""Reading of pickled tables (``.pkl``) from untrusted sources, without running any code of them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from genevae.errors import DataError
from genevae.io.bounded import require_regular, require_room, room_for
from genevae.io.safe_pickle.machine import ForbiddenName, UnreadablePickle, run
from genevae.io.safe_pickle.parts import ADMITTED, TableReader
from genevae.io.safe_pickle.plain import is_plain, read_plain

__all__ = ["name_left_out", "read_pickled_table"]

_UNPACK: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
"""Readers of compressed files by their first bytes."""
_FOREIGN = {b"\x28\xb5\x2f\xfd": "Zstandard", b"PK": "zip", b"PAR1": "parquet", b"\x89HDF": "HDF5"}
_SAFER = "If you trust the file, convert it to parquet"


def read_pickled_table(path: Path, left_out: dict[str, list[Path]] | None = None) -> pd.DataFrame:
    """Read a table of pandas 1.0 to 3, an AnnData object or a view of one, a list of dicts or a dict of lists.

    Opening a pickle in the usual way can run any code. Here it is read as data: nothing in it is imported or called.
    Columns may contain numbers, booleans, strings, categories (also of intervals), times, and scalars of these types. A
    column of others, such as periods, lists or objects of other classes, is left out, with a line on stderr that names
    it, where another column can be read. An AnnData object is its ``obs``. A list has one dict per row, and a dict one
    list or array per column. Files compressed by gzip, bzip2 or xz are decompressed.

    Parameters
    ----------
    path
        The file.
    left_out
        Gets the file for each column that is left out, instead of the line on stderr; for
        :func:`name_left_out`, which names a column of many files once.

    Returns
    -------
    DataFrame
        The table, with data types of the installed pandas.

    Raises
    ------
    DataError
        If the file is not a pickled table or is damaged, or if its index or all of its columns need names that are not
        of tables.
    """
    try:
        data = _unpacked(path)
        table, names = _table(run(data, ADMITTED), len(data))
    except ForbiddenName as error:
        raise DataError(
            f"{path} may be unsafe and was not read: it needs '{error}', which no table needs. No code was run. "
            f"{_SAFER}: {_advice(path)}."
        ) from error
    except UnreadablePickle as error:
        raise DataError(f"{path} cannot be read as a table: {error}. {_SAFER}: {_advice(path)}.") from error
    except _DAMAGED as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DataError(
            f"{path} cannot be read as a table, because its parts are inconsistent ({reason}). It is damaged, or was "
            f"written by an unknown version of pandas. Copy or write it again. {_SAFER}: {_advice(path)}."
        ) from error
    if left_out is None:
        name_left_out({name: [path] for name in names})
    else:
        for name in names:
            left_out.setdefault(name, []).append(path)
    return table


def name_left_out(columns: Mapping[str, Sequence[Path]]) -> None:
    """Print a line on stderr for each column that was left out of tables in a folder."""
    for name, paths in columns.items():
        place = paths[0] if len(paths) == 1 else f"{paths[0].parent} ({len(paths)} files)"
        print(f"genevae: {place}: column '{name}' is left out, as it cannot be read as scalars", file=sys.stderr)  # noqa: T201


def _table(note: object, n_bytes: int) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of a pickle's content, and the names of columns that are left out."""
    if is_plain(note):
        return read_plain(note, n_bytes)
    reader = TableReader(n_bytes)
    return reader.read(note), reader.left_out


_DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
"""Errors that pandas and NumPy raise for inconsistent tables."""


def _advice(path: Path) -> str:
    return f"pd.read_pickle('{path.name}').to_parquet('{path.name.split('.pkl')[0]}.parquet')"


def _unpacked(path: Path) -> bytes:
    """Return the decompressed bytes of a file."""
    try:
        require_room(path, require_regular(path), path.stat().st_size)
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Give a pickled table.") from error
    if not data:
        raise DataError(f"{path} is empty (0 bytes). Write or copy it again.")
    for start, kind in _FOREIGN.items():
        if data.startswith(start):
            raise DataError(f"{path} is a {kind} file, not a pickle. Decompress or rename it.")
    for start, unpack in _UNPACK.items():
        if data.startswith(start):
            try:
                with unpack(io.BytesIO(data)) as file:
                    content: bytes = file.read(room_for(len(data)) + 1)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise DataError(f"{path} is not whole ({error}). Copy or write it again.") from error
            require_room(path, len(content), len(data))
            return content
    return data
