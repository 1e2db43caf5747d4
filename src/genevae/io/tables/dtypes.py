"""Conversion of text columns to numbers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["MISSING", "NUMBER", "typed"]

MISSING = frozenset(["", "NA", "NaN", "nan", "N/A", "#N/A"])
"""Texts that mean a missing value."""
NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?")
"""A plain decimal number. Leading zeros are not allowed, since they mark codes such as 007."""

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
"""An integer that fits in int64."""
_DIGITS = re.compile(r"[-+]?[0-9]+")
_EXACT = 2**53
"""Integers below this are exact in float64."""

_Column = NDArray[Any]


def typed(column: _Column) -> _Column:
    """Convert a text column to numbers if all its values are plain numbers. Missing values become NaN.

    Parameters
    ----------
    column
        Strings, as objects.

    Returns
    -------
    NDArray
        int64, float64, or the strings with NaN for missing ones.
    """
    codes, values = pd.factorize(column)
    missing = np.array([value in MISSING for value in values], dtype=bool)
    if all(NUMBER.fullmatch(value.strip()) for value in values[~missing]):
        numbers = _numbers(values, missing)
        if numbers is not None:
            return _at(numbers, codes)
    values = values.copy()
    values[missing] = np.nan
    return _at(values, codes)


def _at(values: _Column, codes: NDArray[np.intp]) -> _Column:
    column: _Column = values[codes]
    return column


def _numbers(values: _Column, missing: NDArray[np.bool_]) -> _Column | None:
    """Convert plain numbers; return None if integers, such as long ids, would change."""
    if not missing.any() and all(_WHOLE.fullmatch(value.strip()) for value in values):
        return np.array([int(value) for value in values], dtype=np.int64)
    numbers = np.array([np.nan if lacks else float(value) for value, lacks in zip(values, missing, strict=True)])
    is_id = np.array([_DIGITS.fullmatch(value.strip()) is not None for value in values], dtype=bool)
    return None if (is_id & (np.abs(numbers) >= _EXACT)).any() else numbers
