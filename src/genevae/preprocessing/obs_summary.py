"""Summary of obs columns: which of them can be covariates, and their values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from genevae.data.covariates import category_name

__all__ = ["field_specifications"]


def field_specifications(obs: pd.DataFrame) -> pd.DataFrame:
    """Return the number of values of each column, and whether it is useful as a covariate.

    A column of categories, strings or booleans is useful if it has at least two values, and at most half as many as
    there are cells; with more, it is almost an id. A numeric column is useful if it varies.

    Parameters
    ----------
    obs
        One row per cell.

    Returns
    -------
    DataFrame
        One row per column, in the order of ``obs``: ``field``; ``kind``, categorical, numeric or another type;
        ``cardinality``, the number of values without missing ones; ``using``, whether it is useful;
        ``non_null_fraction``, the share of cells in which it is not missing.

    Examples
    --------
    >>> import pandas as pd
    >>> field_specifications(pd.DataFrame({"type": ["T", "B", "T", None], "lane": ["1"] * 4}))
      field         kind  cardinality  using  non_null_fraction
    0  type  categorical            2   True               0.75
    1  lane  categorical            1  False               1.00
    """
    rows = [(str(title), *_specification(obs.iloc[:, at])) for at, title in enumerate(obs.columns)]
    table = pd.DataFrame(rows, columns=["field", "kind", "cardinality", "using", "non_null_fraction"])
    return table.astype({"cardinality": np.int64, "using": bool, "non_null_fraction": np.float64})


def _specification(column: pd.Series[Any]) -> tuple[str, int, bool, float]:
    """Return the kind, the number of values, whether the column is useful, and the share that is not missing."""
    non_null = float(column.notna().mean()) if len(column) else 0.0
    if _is_categorical(column):
        cardinality = len(_values(column))
        return "categorical", cardinality, 2 <= cardinality <= len(column) / 2, non_null
    cardinality = int(column.nunique())
    kind = "numeric" if pd.api.types.is_numeric_dtype(column) else str(column.dtype)
    return kind, cardinality, pd.api.types.is_numeric_dtype(column) and cardinality > 1, non_null


def _is_categorical(column: pd.Series[Any]) -> bool:
    return (
        isinstance(column.dtype, pd.CategoricalDtype)
        or pd.api.types.is_bool_dtype(column.dtype)
        or pd.api.types.is_object_dtype(column.dtype)
        or pd.api.types.is_string_dtype(column.dtype)
    )


def _values(column: pd.Series[Any]) -> set[str]:
    """Return the values that occur, as text, as in a schema. Unused categories are left out."""
    return set(map(category_name, pd.Series(column.unique()).dropna()))
