"""Groups of cells by an obs column, which tasks compare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.data.covariates import category_name, category_names, obs_column
from genevae.errors import CategoryError, nearest

__all__ = ["chosen_groups", "group_names", "known_groups"]


def group_names(obs: pd.DataFrame, name: str) -> NDArray[np.object_]:
    """Return the group of each cell as text, empty where it is missing.

    Raises
    ------
    CategoryError
        If ``name`` is not the name of one column.
    """
    if not isinstance(name, str):
        raise CategoryError(f"group_by is the name of one obs column, not {name!r}. Join several in a column first.")
    return np.asarray(category_names(obs_column(obs, name).astype(object)).fillna(""), dtype=object)


def known_groups(group_n: NDArray[np.object_]) -> list[str]:
    """Return the groups, by name."""
    return sorted(set(group_n) - {""})


def chosen_groups(given: Any, group_n: NDArray[np.object_], name: str) -> list[str]:
    """Return groups as texts; one may be given alone, and as a number.

    Raises
    ------
    CategoryError
        If one is not a group of the column ``name``.
    """
    several = isinstance(given, Iterable) and not isinstance(given, str)
    found, known = [str(category_name(each)) for each in (given if several else [given])], known_groups(group_n)
    for each in found:
        if each not in known:
            raise CategoryError(f"'{each}' is not a group of '{name}'. {nearest(each, known)}")
    return found
