"""Conditions that are nested in others, such as experiments, each of which has one perturbation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from genevae.data.covariates import Categorical, obs_column

__all__ = ["Nesting", "nestings"]


@dataclass(frozen=True)
class Nesting:
    """Each category of one field occurs with one category of another only.

    Parameters
    ----------
    inner, outer
        The names of the fields.
    outer_c
        The code of the outer category, for each category of the inner field; −1 where no cell has both.
    """

    inner: str
    outer: str
    outer_c: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"'{self.inner}' is nested in '{self.outer}': each of its categories has one of '{self.outer}', so that "
            f"the data cannot separate the two. An effect of '{self.outer}' compares cells of its categories of "
            f"'{self.inner}', and includes what these differ by."
        )


def nestings(categorical: Sequence[Categorical], obs: pd.DataFrame) -> tuple[Nesting, ...]:
    """Find the fields that are nested in others.

    A field is nested if it has more categories than the other, which has two or more, and none of them occurs with two
    categories of the other. Fields with combinations are left out.

    Parameters
    ----------
    categorical
        The fields.
    obs
        One row per cell; cells in which one of two fields is unknown do not count.
    """
    simple = [field for field in categorical if not field.combined]
    code = {field.name: field.encode(obs_column(obs, field.name)).numpy() for field in simple}
    found = []
    for inner, outer in itertools.permutations(simple, 2):
        n_inner, n_outer = len(inner.categories), len(outer.categories)
        known = (code[inner.name] < n_inner) & (code[outer.name] < n_outer)
        pairs = np.unique(code[inner.name][known] * n_outer + code[outer.name][known])
        inner_p, outer_p = np.divmod(pairs, max(n_outer, 1))
        n_seen, n_outer_seen = len(np.unique(inner_p)), len(np.unique(outer_p))
        if len(pairs) == n_seen > n_outer_seen > 1:
            outer_c = np.full(n_inner, -1)
            outer_c[inner_p] = outer_p
            found.append(Nesting(inner.name, outer.name, tuple(outer_c.tolist())))
    return tuple(found)
