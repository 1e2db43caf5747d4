"""What pandas' notes in a pickle mean: a table, whichever version of pandas since 1.0 wrote it.

The table is built from checked arrays by the public constructors of the pandas that is installed, so a table of
pandas 3 can be read under pandas 2 and the other way round, and no ``__setstate__`` is ever called.
References: ``DataFrame.__reduce__`` and ``BlockManager.__reduce__`` of pandas 1.3 to 3.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.io.safe_pickle.arrays import (
    UNREADABLE,
    array_of,
    arrow_texts_of,
    flag_missing,
    made_by,
    require_allowed,
    zone_of,
)
from genevae.io.safe_pickle.machine import NOTHING, ForbiddenName, Made, Name, UnreadablePickle

__all__ = ["ADMITTED", "TableReader"]

_ARRAYS = "pandas.core.arrays"
_INDEXES = "pandas.core.indexes"
_HOMES = {
    "_codecs": "encode",
    "anndata": "AnnData",
    "anndata.base": "AnnData",
    "anndata.core.anndata": "AnnData",
    "anndata._core.anndata": "AnnData",
    "anndata.core.views": "DataFrameView",
    "anndata._core.views": "DataFrameView",
    "__builtin__": "slice bytes bytearray getattr",  # none is called; arguments of getattr must be listed as well
    "builtins": "slice bytes bytearray getattr",
    "datetime": "date datetime timedelta timezone",
    "pytz": "_UTC _p",
    "zoneinfo": "ZoneInfo",
    "zoneinfo.ZoneInfo": "_unpickle",
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "pandas._libs.arrays": "__pyx_unpickle_NDArrayBacked",
    "pandas._libs.internals": "_unpickle_block",
    "pandas._libs.missing": "NA",
    "pandas._libs.tslibs.nattype": "_nat_unpickle __nat_unpickle",
    "pandas._libs.tslibs.timestamps": "_unpickle_timestamp",
    "pandas._libs.tslibs.offsets": "Day Hour Minute Second MonthEnd MonthBegin YearEnd YearBegin",
    f"{_ARRAYS}.boolean": "BooleanArray BooleanDtype",
    f"{_ARRAYS}.categorical": "Categorical",
    f"{_ARRAYS}.datetimes": "DatetimeArray",
    f"{_ARRAYS}.floating": "FloatingArray Float32Dtype Float64Dtype",
    f"{_ARRAYS}.integer": "IntegerArray Int8Dtype Int16Dtype Int32Dtype Int64Dtype "
    "UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype",
    f"{_ARRAYS}.string_": "StringArray StringArrayNumpySemantics StringDtype",
    f"{_ARRAYS}.string_arrow": "ArrowStringArray ArrowStringArrayNumpySemantics",
    f"{_ARRAYS}.timedeltas": "TimedeltaArray",
    "pandas.core.dtypes.dtypes": "CategoricalDtype DatetimeTZDtype",
    "pandas.core.frame": "DataFrame",
    f"{_INDEXES}.base": "Index _new_Index",
    f"{_INDEXES}.category": "CategoricalIndex",
    f"{_INDEXES}.datetimes": "DatetimeIndex _new_DatetimeIndex",
    f"{_INDEXES}.interval": "IntervalIndex _new_IntervalIndex",
    f"{_INDEXES}.multi": "MultiIndex",
    f"{_INDEXES}.numeric": "Int64Index UInt64Index Float64Index",
    f"{_INDEXES}.range": "RangeIndex",
    f"{_INDEXES}.timedeltas": "TimedeltaIndex",
    "pandas.core.internals.blocks": "new_block",
    "pandas.core.internals.managers": "BlockManager",
    "pandas": "DataFrame Index RangeIndex MultiIndex CategoricalIndex DatetimeIndex TimedeltaIndex IntervalIndex "
    "Categorical CategoricalDtype DatetimeTZDtype StringDtype BooleanDtype Float32Dtype Float64Dtype NA "
    "Int8Dtype Int16Dtype Int32Dtype Int64Dtype UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype",
    "pandas.arrays": "StringArray ArrowStringArray BooleanArray IntegerArray FloatingArray "
    "DatetimeArray TimedeltaArray",
    "pyarrow.lib": "_restore_array chunked_array py_buffer type_for_alias",
}
"""The names that the pickle of a table may contain, by module."""

ADMITTED = frozenset((module, name) for module, names in _HOMES.items() for name in names.split())


class TableReader:
    """Builds a table from the records of a pickle.

    Parameters
    ----------
    n_bytes
        The size of the pickle. The table may be 64 times as large, plus one megabyte.
    """

    def __init__(self, n_bytes: int) -> None:
        self._left = 64 * n_bytes + 2**20
        self._indexes: dict[int, pd.Index] = {}
        self.left_out: list[str] = []

    def read(self, note: object) -> pd.DataFrame:
        """Return the table, without columns that cannot be read as scalars; ``left_out`` has their names.

        Raises
        ------
        UnreadablePickle
            If the record is neither a table nor an AnnData object, its parts are inconsistent, or no column can be
            read. Pandas may also raise ValueError, TypeError and similar errors.
        """
        if isinstance(note, Made) and note.name.name == "AnnData":
            note = note.state.get("_obs")
        state = made_by(note, "DataFrame", "DataFrameView").state
        blocks, (columns_note, index_note) = _parts(made_by(state.get("_mgr", state.get("_data")), "BlockManager"))
        names, index = self._index(columns_note), self._index(index_note)
        self._spend(len(names))
        columns: dict[int, Any] = {}
        errors: list[UnreadablePickle] = []
        for values_note, places in blocks:
            at = _places(places, len(names))
            try:
                rows = list(_rows(self._values(values_note, errors)))
            except ForbiddenName as error:
                errors.append(error)
                rows = [UNREADABLE] * len(at)
            for place, column in zip(at, rows, strict=True):
                if place in columns or (column is not UNREADABLE and len(column) != len(index)):
                    raise UnreadablePickle("two columns have one position, or a column and the index differ in length")
                columns[place] = column
        if len(columns) != len(names):
            raise UnreadablePickle(f"there are {len(names)} names for {len(columns)} columns")
        self._spend(len(names) * len(index))
        kept = [place for place in range(len(names)) if not (errors and _has_unreadable(columns[place]))]
        if errors and not kept:
            raise errors[0]
        self.left_out = [str(name) for name in names.delete(kept)]
        table = pd.DataFrame({place: columns[place] for place in kept}, index=index)
        table.columns = names[kept] if self.left_out else names
        return table

    def _spend(self, n: int) -> None:
        """Account for ``n`` values of eight bytes."""
        self._left -= 8 * n
        if self._left < 0:
            raise UnreadablePickle("it describes a table that is much larger than its bytes")

    def _index(self, note: object) -> pd.Index:
        """Return an index, which several parts of a table may share."""
        if id(note) not in self._indexes:
            made = made_by(note, "_new_Index", "_new_DatetimeIndex", "_new_IntervalIndex")
            kind, given = made.args
            require_allowed(kind)
            if not isinstance(kind, Name) or not isinstance(given, dict):
                raise UnreadablePickle("an index has no type")
            self._indexes[id(note)] = self._new_index(kind.name, given)
            self._spend(len(self._indexes[id(note)]))
        return self._indexes[id(note)]

    def _new_index(self, kind: str, given: dict[str, Any]) -> pd.Index:
        if kind == "MultiIndex":
            levels = [self._index(level) for level in given["levels"]]
            codes = [self._array(code) for code in given["codes"]]
            return pd.MultiIndex(levels, codes, names=[_label(name) for name in given["names"]])
        name = _label(given.get("name"))
        if kind == "RangeIndex":
            numbers = range(given["start"], given["stop"], given["step"])
            self._spend(len(numbers))
            return pd.RangeIndex(numbers, name=name)
        if kind == "IntervalIndex":
            ends = self._index(given["left"]), self._index(given["right"])
            if given["closed"] not in ("left", "right", "both", "neither"):
                raise UnreadablePickle("intervals are closed on an unknown side")
            return pd.IntervalIndex.from_arrays(*ends, closed=given["closed"], name=name)
        values = self._values(given["data"])
        if not isinstance(values, pd.DatetimeIndex) and given.get("tz") is not None:
            values = pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(zone_of(given["tz"]))
        return pd.Index(values, name=name)

    def _values(self, note: object, errors: list[UnreadablePickle] | None = None) -> Any:
        """Return the values of columns: rows of an array, or one of pandas' arrays."""
        made = made_by(note, *_MASKED, *_BACKED, *_ARROW, "_reconstruct", "_frombuffer", "__pyx_unpickle_NDArrayBacked")
        kind = made.name.name
        if kind in _MASKED:
            parts = self._array(made.state["_data"]), self._array(made.state["_mask"])
            return _MASKED[kind](*parts)
        if kind in _ARROW:
            texts = arrow_texts_of(made.state.get("_pa_array", made.state.get("_data")), self._spend)
            return _texts(texts, made.state.get("_dtype"))
        if kind in ("_reconstruct", "_frombuffer"):
            return self._array(made, errors)
        if kind not in _BACKED:
            require_allowed(made.args[0])
        return self._backed(made.args[0].name if kind not in _BACKED else kind, made.state)

    def _backed(self, kind: str, state: Any) -> Any:
        """Return a pandas array that consists of a NumPy array and a data type."""
        if isinstance(state, dict):
            values_note = next((state[key] for key in ("_ndarray", "_codes", "_data") if key in state), None)
            dtype = state.get("_dtype")
        else:
            dtype, values_note = state[:2]
            if isinstance(dtype, Made) and dtype.name.name in ("_reconstruct", "_frombuffer"):
                dtype, values_note = values_note, dtype
        values = self._array(values_note)
        if kind == "Categorical":
            given = made_by(dtype, "CategoricalDtype").state
            return pd.Categorical.from_codes(values, self._index(given["categories"]), bool(given["ordered"]))
        if kind.startswith("StringArray"):
            return _texts(values.reshape(-1), dtype)
        if values.dtype.kind != ("M" if kind == "DatetimeArray" else "m"):
            raise UnreadablePickle(f"a {kind} holds {values.dtype}")
        if isinstance(dtype, Made) and dtype.name.name == "DatetimeTZDtype":
            return pd.DatetimeIndex(values.reshape(-1)).tz_localize("UTC").tz_convert(zone_of(dtype.state["tz"]))
        return values

    def _array(self, note: object, errors: list[UnreadablePickle] | None = None) -> NDArray[Any]:
        values = array_of(note, errors)
        self._spend(values.size)
        return values


_MASKED = {
    "IntegerArray": pd.arrays.IntegerArray,
    "FloatingArray": pd.arrays.FloatingArray,
    "BooleanArray": pd.arrays.BooleanArray,
}
_BACKED = ("Categorical", "DatetimeArray", "TimedeltaArray", "StringArray", "StringArrayNumpySemantics")
_ARROW = ("ArrowStringArray", "ArrowStringArrayNumpySemantics")


def _texts(values: NDArray[np.object_], dtype: object) -> Any:
    """Return strings as data type ``string``, or (for ``str``) as objects with NaN for missing ones."""
    missing = flag_missing(values)
    given = made_by(dtype, "StringDtype").args if dtype is not None else ()
    if len(given) > 1 and isinstance(given[1], float):
        values[missing] = np.nan
        return values
    values[missing] = pd.NA
    return pd.array(values, dtype="string")


def _parts(manager: Made) -> tuple[list[tuple[object, object]], Any]:
    """Return the values and positions of the blocks, and the two axes."""
    if manager.state is NOTHING:
        notes, axes = manager.args[:2]
        return [made_by(note, "_unpickle_block", "new_block").args[:2] for note in notes], axes
    given = manager.state[-1]["0.14.1"]  # the name of the layout in pandas before 1.3
    return [(block["values"], block["mgr_locs"]) for block in given["blocks"]], given["axes"]


def _places(note: object, n_columns: int) -> list[int]:
    """Return the column numbers of a block."""
    if isinstance(note, Made) and note.name.name == "slice":
        return list(range(n_columns)[slice(*note.args)])
    places = array_of(note)
    if places.dtype.kind != "i" or places.ndim != 1 or (places < 0).any() or (places >= n_columns).any():
        raise UnreadablePickle("a column has no position in the table")
    return [int(place) for place in places]


def _rows(values: Any) -> Iterator[Any]:
    """Yield the columns of a block: the rows of a 2-D array, or the 1-D array itself."""
    return iter(values) if values.ndim == 2 else iter([values])


def _has_unreadable(column: Any) -> bool:
    """Return whether a column cannot be read, or has an object that is not a scalar."""
    if column is UNREADABLE:
        return True
    return isinstance(column, np.ndarray) and column.dtype == object and any(x is UNREADABLE for x in column)


def _label(name: object) -> str | int | float | None:
    """Return the name of an index."""
    if name is None or isinstance(name, str | int | float):
        return name
    raise UnreadablePickle("the name of an index is neither text nor number")
