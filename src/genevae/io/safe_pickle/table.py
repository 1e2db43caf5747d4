"""Read the table in a ``.pkl`` file, whoever made it, without running what it names."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from genevae.errors import DataError
from genevae.io.safe_pickle.machine import RefusedName, UnreadablePickle, run
from genevae.io.safe_pickle.parts import ADMITTED, TableReader

__all__ = ["read_pickled_table"]

_UNPACK: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\x00": lzma.decompress,
}
"""How to unpack a file, by its first bytes."""
_FOREIGN = {b"\x28\xb5\x2f\xfd": "Zstandard", b"PK": "zip", b"PAR1": "parquet", b"\x89HDF": "HDF5"}
_SAFER = "In an environment in which you trust the file, save it as parquet, which is read too"


def read_pickled_table(path: Path) -> pd.DataFrame:
    """Read a table that ``DataFrame.to_pickle`` wrote, under any pandas from 1.0 to 3.

    A pickle may run any program when it is opened in the ordinary way. Here it is read as data: nothing that it names
    is imported or called, and a name that no table needs is refused. Columns may hold numbers, truth values, texts,
    categories (also of intervals), times, and single values of these kinds; periods and sparse columns are refused.
    Files packed by gzip, bzip2 or xz are unpacked.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    DataFrame
        The table, with the data types that this pandas gives to such columns.

    Raises
    ------
    DataError
        If the file is no pickle of a table, is damaged, or mentions what a table does not need.
    """
    try:
        data = _unpacked(path)
        return TableReader(len(data)).read(run(data, ADMITTED))
    except RefusedName as error:
        raise DataError(
            f"{path} is refused: it asks for '{error}', which no table needs, and nothing of it was run. If it is a "
            f"table with unusual columns: {_SAFER[0].lower()}{_SAFER[1:]}: {_advice(path)}."
        ) from error
    except UnreadablePickle as error:
        raise DataError(f"{path} cannot be read as a table: {error}. {_SAFER}: {_advice(path)}.") from error
    except _DAMAGED as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DataError(
            f"{path} cannot be read as a table, for its parts do not fit together ({reason}). It is damaged, or was "
            f"written by an unknown version of pandas: copy or write it again. {_SAFER}: {_advice(path)}."
        ) from error


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
"""What pandas and NumPy raise where the parts of a table do not fit together."""


def _advice(path: Path) -> str:
    return f"pd.read_pickle('{path.name}').to_parquet('{path.name.split('.pkl')[0]}.parquet')"


def _unpacked(path: Path) -> bytes:
    """Return the bytes of a file, unpacked."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give the file of a table.") from error
    if not data:
        raise DataError(f"{path} is empty (0 bytes): write or copy it again.")
    for start, kind in _FOREIGN.items():
        if data.startswith(start):
            raise DataError(f"{path} is a {kind} file, not a pickle: unpack it, or give it the name that fits.")
    for start, unpack in _UNPACK.items():
        if data.startswith(start):
            try:
                return unpack(data)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise DataError(f"{path} is not whole ({error}): copy or write it again.") from error
    return data
