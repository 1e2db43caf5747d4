"""What is computed for each level of a column, not for each cell: there may be millions of cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["by_level", "levels_of", "without_names"]


def without_names(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column without the names of its cells.

    Where pandas selects rows of a column, it makes a hash table of all names, and keeps it with them.
    """
    return pd.Series(column.array, name=column.name, copy=False)


def levels_of(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return one row of each level that occurs in a column of categories, missing included; other columns whole.

    >>> levels_of(pd.Series(["b", "a", "b"], dtype="category")).tolist()
    ['b', 'a']
    """
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return without_names(column)
    return _rows_of(column, pd.unique(column.cat.codes.to_numpy()))


def by_level(function: Callable[[pd.Series[Any]], Any], column: pd.Series[Any]) -> NDArray[Any]:
    """Return what a function gives for each cell, where it looks at the value of the cell alone.

    It is given one row of each level that occurs in a column of categories, and other columns whole.

    >>> by_level(lambda values: values.astype(str).str.len(), pd.Series(["b", "aa", "b"], dtype="category"))
    array([1, 2, 1])
    """
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return np.asarray(function(without_names(column)))
    code_n = column.cat.codes.to_numpy()
    seen_c = pd.unique(code_n)
    found_c = np.asarray(function(_rows_of(column, seen_c)))
    of_code = np.zeros(len(column.cat.categories) + 1, dtype=found_c.dtype)
    of_code[seen_c] = found_c  # the last is that of missing values, whose code is −1
    return np.asarray(of_code[code_n])


def _rows_of(column: pd.Series[Any], code_c: NDArray[Any]) -> pd.Series[Any]:
    return pd.Series(pd.Categorical.from_codes(code_c, dtype=column.dtype), name=column.name)
