"""Construction of values from the records of a pickle: arrays, scalars, dates, and Arrow strings.

Every function takes a record from :mod:`genevae.io.safe_pickle.machine`, checks its numbers against the available
bytes, and builds the value itself. Nothing from the file is used in a call before such a check. References:
``ndarray.__reduce__``, ``numpy.core.numeric._frombuffer``; the Arrow columnar format,
https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-layout.
"""

from __future__ import annotations

import datetime
import itertools
import math
import re
import zoneinfo
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.io.safe_pickle.machine import Forbidden, ForbiddenName, Made, Name, UnreadablePickle

__all__ = ["UNREADABLE", "array_of", "arrow_texts_of", "flag_missing", "made_by", "require_allowed", "zone_of"]

UNREADABLE: Final = object()
"""What stands for an object of a column that is not a scalar, or for a column that cannot be read."""
_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[mM]8|O8?|U\d{1,5}")
_ZONE = re.compile(r"\w[\w+-]*(/\w[\w+-]*)*", re.ASCII)
_UNITS = {b"s": "s", b"ms": "ms", b"us": "us", b"ns": "ns"}
_RESOLUTIONS = {7: "s", 8: "ms", 9: "us", 10: "ns"}
"""The codes of units in pandas' timestamps."""


def made_by(note: object, *names: str) -> Made:
    """Return the record if it is a call of one of these names, or raise."""
    require_allowed(note)
    if isinstance(note, Made) and note.name.name in names:
        return note
    found = f"{note.name.module}.{note.name.name}" if isinstance(note, Made) else type(note).__name__
    raise UnreadablePickle(f"{found} was found where {' or '.join(names)} is expected")


def require_allowed(note: object) -> None:
    """Raise if something stands for a name that is not allowed."""
    if isinstance(note, Forbidden):
        raise ForbiddenName(str(note))


def bytes_of(note: object) -> bytes:
    """Return bytes, which protocol 2 writes as a string to encode."""
    if isinstance(note, bytes):
        return note
    made = made_by(note, "encode", "bytes", "bytearray", "py_buffer")
    if made.name.name == "encode":
        text, encoding = made.args
        if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
            raise UnreadablePickle("bytes are not encoded by latin1")
        return text.encode("latin1")
    return bytes_of(made.args[0]) if made.args else b""


def dtype_of(note: object) -> np.dtype[Any]:
    """Return a data type of numbers, booleans, times or objects; structured types are not allowed."""
    made = made_by(note, "dtype")
    code, (_, order, *composite) = made.args[0], made.state
    if not isinstance(code, str) or not _DTYPE.fullmatch(code) or any(part is not None for part in composite[:3]):
        raise UnreadablePickle(f"the data type '{code if type(code) is str else 'without name'}' is not for tables")
    if order not in ("<", ">", "|", "="):
        raise UnreadablePickle("a data type has no known byte order")
    if code[0] in "mM":
        unit, *multiple = composite[6][1]
        if bytes_of(unit) not in _UNITS or multiple != [1, 1, 1]:
            raise UnreadablePickle("times have an unknown unit")
        code = f"{code}[{_UNITS[bytes_of(unit)]}]"
    return np.dtype(object) if code[0] == "O" else np.dtype(f"{order}{code}")


def array_of(note: object, errors: list[UnreadablePickle] | None = None) -> NDArray[Any]:
    """Return an array of one or two axes, with its own copy of the values.

    Parameters
    ----------
    note
        The record.
    errors
        Where it is given, objects that are not scalars become :data:`UNREADABLE`, and the reason of the first one is
        added here.
    """
    made = made_by(note, "_reconstruct", "_frombuffer")
    if made.name.name == "_frombuffer":
        data, dtype_note, shape, order, *axes = made.args
        if order not in ("C", "F", "K"):
            raise UnreadablePickle("an array has no known order")
        transpose = order == "K" and axes == [(1, 0)]
    else:
        _, shape, dtype_note, fortran, data = made.state
        order, transpose = "F" if fortran else "C", False
    dtype = dtype_of(dtype_note)
    flat = _objects(data, errors) if dtype.kind == "O" else _numbers(bytes_of(data), dtype)
    if not isinstance(shape, tuple) or not 1 <= len(shape) <= 2 or not all(type(n) is int and n >= 0 for n in shape):
        raise UnreadablePickle("an array has other than one or two axes")
    if math.prod(shape) != len(flat):
        raise UnreadablePickle(f"an array of shape {shape} holds {len(flat)} values")
    x = flat.reshape(shape, order="F" if order == "F" else "C")
    return x.T if transpose else x


def _numbers(data: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "U" or len(data) % dtype.itemsize:
        raise UnreadablePickle(f"{len(data)} bytes hold no whole number of {dtype}")
    if dtype.kind == "b" and data.translate(None, b"\0\1"):
        raise UnreadablePickle("truth values are neither 0 nor 1")
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))  # a copy: frombuffer is read-only


def _objects(items: object, errors: list[UnreadablePickle] | None) -> NDArray[np.object_]:
    if type(items) is not list:
        raise UnreadablePickle("an array of objects is no list")
    if not set(map(type, items)) <= _PLAIN:
        items = [item if type(item) in _PLAIN else _scalar_or_mark(item, errors) for item in items]
    x = np.empty(len(items), object)
    x[:] = items
    return x


def _scalar_or_mark(note: object, errors: list[UnreadablePickle] | None) -> Any:
    try:
        return scalar_of(note)
    except UnreadablePickle as error:
        if errors is None:
            raise
        if not errors:
            errors.append(error)
        return UNREADABLE


def flag_missing(texts: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Return which entries are missing, and raise if another one is not a string."""
    missing = np.asarray(pd.isna(texts), bool)
    if not all(type(text) is str for text in texts[~missing]):
        raise UnreadablePickle("a column of texts holds something else")
    return missing


def scalar_of(note: object) -> Any:
    """Return a scalar of an object column."""
    if isinstance(note, Name) and note.name == "NA":
        return pd.NA
    made = made_by(note, *_SCALARS)
    return _SCALARS[made.name.name](*made.args)


def _numpy_scalar(dtype_note: object, data: object) -> Any:
    code, raw = made_by(dtype_note, "dtype").args[0], bytes_of(data)
    dtype = dtype_of(dtype_note)
    if dtype.kind == "O":  # NumPy would unpickle the bytes
        raise UnreadablePickle("a single NumPy value is an object")
    if dtype.kind == "U":
        return raw.decode("utf-32-be" if dtype.byteorder == ">" else "utf-32-le").rstrip("\0")
    (value,) = _numbers(raw, dtype)
    if code[0] in "mM":
        return pd.Timestamp(value) if code[0] == "M" else pd.Timedelta(value)
    return value


def _not_a_time(*_: object) -> Any:
    return pd.NaT


def _timestamp(value: object, _freq: object, zone: object, resolution: object = 10) -> Any:
    if type(value) is not int or type(resolution) is not int or resolution not in _RESOLUTIONS:
        raise UnreadablePickle("a time is no number in a known unit")
    unit: Any = _RESOLUTIONS[resolution]
    time = pd.Timestamp(np.datetime64(value, unit))
    return time if zone is None else time.tz_localize("UTC").tz_convert(zone_of(zone))


def _date(data: object) -> datetime.date:
    century, year, month, day = bytes_of(data)
    return datetime.date(256 * century + year, month, day)


def _datetime(data: object, zone: object = None) -> datetime.datetime:
    raw = bytes_of(data)
    if len(raw) != 10:
        raise UnreadablePickle("a time has other than ten bytes")
    tzinfo = None if zone is None else zone_of(zone)
    year, month = 256 * raw[0] + raw[1], raw[2] & 127  # the highest bit marks the second hour when clocks go back
    day, hour, minute, second = raw[3:7]
    microsecond = int.from_bytes(raw[7:])
    return datetime.datetime(year, month, day, hour, minute, second, microsecond, tzinfo, fold=raw[2] >> 7)


_SCALARS: dict[str, Callable[..., Any]] = {
    "scalar": _numpy_scalar,
    "_nat_unpickle": _not_a_time,
    "__nat_unpickle": _not_a_time,
    "_unpickle_timestamp": _timestamp,
    "date": _date,
    "datetime": _datetime,
}


def zone_of(note: object) -> datetime.tzinfo:
    """Return a time zone: UTC, a fixed offset, or a name of the tz database."""
    made = made_by(note, "_UTC", "timezone", "_p", "_unpickle")
    if made.name.name == "_UTC":
        return datetime.UTC
    if made.name.name == "timezone":
        distance = made_by(made.args[0], "timedelta").args
        if not all(type(n) is int for n in distance):
            raise UnreadablePickle("the offset of a time zone is not a number")
        return datetime.timezone(datetime.timedelta(*distance[:3]))
    if not isinstance(made.args[0], str) or not _ZONE.fullmatch(made.args[0]):
        raise UnreadablePickle("a time zone has no name")
    return zoneinfo.ZoneInfo(made.args[0])


def arrow_texts_of(note: object, spend: Callable[[int], None]) -> NDArray[np.object_]:
    """Return the strings of an Arrow array, complete or in chunks; missing ones are None.

    ``spend`` is called with their number before they are made, because chunks may share bytes and so be much larger.
    """
    made = made_by(note, "_restore_array", "chunked_array")
    if made.name.name == "chunked_array":
        chunks = [arrow_texts_of(made_by(chunk, "_restore_array"), spend) for chunk in made.args[0]]
        return np.concatenate([np.empty(0, object), *chunks])
    kind, length, _, start, (valid, offsets, data), *_ = made.args[0]
    (alias,) = made_by(kind, "type_for_alias").args
    if alias not in ("string", "large_string", "utf8", "large_utf8") or min(length, start) < 0:
        raise UnreadablePickle("an Arrow column holds no texts")
    spend(length)
    texts = np.empty(length, object)
    if length:
        ends = np.frombuffer(bytes_of(offsets), "<i8" if "large" in alias else "<i4")[start : start + length + 1]
        texts[:] = _cut(b"" if data is None else bytes_of(data), ends, length)
    if valid is not None:
        packed = np.frombuffer(bytes_of(valid), np.uint8)[start // 8 : (start + length + 7) // 8]
        there = np.unpackbits(packed, bitorder="little")[start % 8 :][:length].astype(bool)
        if len(there) != length:
            raise UnreadablePickle("a string column has an incomplete mask of missing values")
        texts[~there] = None
    return texts


def _cut(data: bytes, ends: NDArray[Any], n: int) -> list[str]:
    """Split bytes into ``n`` strings at the given offsets."""
    if len(ends) != n + 1 or ends[0] < 0 or ends[-1] > len(data) or (np.diff(ends) < 0).any():
        raise UnreadablePickle("the strings of a column are outside of its bytes")
    return [data[start:end].decode() for start, end in itertools.pairwise(ends.tolist())]
