"""Conditions that are nested in others, such as experiments, each of which has one perturbation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from genevae.data.covariates import Categorical, obs_column

__all__ = ["Nesting", "nestings", "one_way"]

OF_ALL, OF_EACH = 0.99, 0.9
"""Shares of all cells, and of those of each category, that have its commonest category of the other field."""


@dataclass(frozen=True)
class Nesting:
    """Each category of one field occurs with one category of another only, but for a few cells perhaps.

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
            f"the data cannot separate what the two do. Effects of '{self.outer}' use categories of '{self.inner}' "
            f"that occur with it, and include their differences. Leave '{self.inner}' out if it is not "
            "needed, or pool its embedding: --setting pool_nested=true."
        )


def nestings(categorical: Sequence[Categorical], obs: pd.DataFrame) -> tuple[Nesting, ...]:
    """Find the fields that are nested in others.

    A field is nested if it has at least as many categories as the other, of which two or more occur, and 99 % of the
    cells, and 90 % of those of each category, have the one category of the other that is its commonest: single cells
    with a wrong label change nothing. Two fields of which each category of one has one of the other are nested in each
    other. Fields with combinations are left out.

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
        if not known.any():
            continue
        pair_p, n_p = np.unique(code[inner.name][known] * n_outer + code[outer.name][known], return_counts=True)
        inner_p, outer_p = np.divmod(pair_p, n_outer)
        largest = np.lexsort((outer_p, -n_p, inner_p))  # by inner category, its commonest outer one first
        seen, first = np.unique(inner_p[largest], return_index=True)
        commonest, most = outer_p[largest][first], n_p[largest][first]
        size = np.bincount(inner_p, weights=n_p)[seen]
        is_nested = most.sum() >= OF_ALL * size.sum() and (most >= OF_EACH * size).all()
        if is_nested and len(seen) >= len(np.unique(commonest)) == len(np.unique(outer_p)) > 1:
            outer_c = np.full(n_inner, -1)
            outer_c[seen] = commonest
            found.append(Nesting(inner.name, outer.name, tuple(outer_c.tolist())))
    return tuple(found)


def one_way(nested: Sequence[Nesting]) -> tuple[Nesting, ...]:
    """Leave out the second of two fields that are nested in each other."""
    kept: list[Nesting] = []
    for nesting in nested:
        if not any((each.outer, each.inner) == (nesting.inner, nesting.outer) for each in kept):
            kept.append(nesting)
    return tuple(kept)
