"""Splits of cells into training, validation and test sets.

A split depends on its seed alone. Every part is an array of ascending row numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from genevae.data.covariates import category_name, category_names
from genevae.errors import CategoryError, DataError, nearest, shorten

__all__ = ["Split", "group_split", "held_out_split", "random_split", "stratified_split"]

_Rows = NDArray[np.int64]
_TRAIN, _VALIDATION, _TEST = 0, 1, 2


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of rows.

    Parameters
    ----------
    train, validation, test
        Row numbers, ascending (int64).
    """

    train: _Rows
    validation: _Rows
    test: _Rows

    @classmethod
    def from_parts(cls, part_n: NDArray[np.int8]) -> Split:
        """Make a split from the part of each cell: 0 is training, 1 validation, 2 test."""
        return cls(*(np.flatnonzero(part_n == part).astype(np.int64) for part in (_TRAIN, _VALIDATION, _TEST)))


def random_split(n: int, validation: float = 0.1, test: float = 0.0, seed: int = 0) -> Split:
    """Split cells at random.

    Parameters
    ----------
    n
        Number of cells.
    validation, test
        Share of each part. Training, and each part with a share above zero, gets at least one cell.
    seed
        Seed of the selection.

    Raises
    ------
    DataError
        If no share is left for training, or there are fewer cells than parts.

    Examples
    --------
    >>> split = random_split(100, validation=0.1, test=0.2)
    >>> len(split.train), len(split.validation), len(split.test)
    (70, 10, 20)
    """
    _require_shares(validation, test)
    _require_enough(n, "cells", validation, test)
    n_validation, n_test = (max(round(n * share), 1) if share else 0 for share in (validation, test))
    while n_validation + n_test >= n:
        n_validation, n_test = (n_validation - 1, n_test) if n_validation > n_test else (n_validation, n_test - 1)
    chosen = np.random.default_rng(seed).permutation(n)[: n_validation + n_test].copy()  # most are not needed further
    part_n = np.full(n, _TRAIN, dtype=np.int8)
    part_n[chosen[:n_validation]] = _VALIDATION
    part_n[chosen[n_validation:]] = _TEST
    return Split.from_parts(part_n)


def stratified_split(labels: ArrayLike, validation: float = 0.1, test: float = 0.0, seed: int = 0) -> Split:
    """Split cells at random within each label, so that every part has the labels' proportions.

    Each part gets its share of each label, rounded up or down such that rounding cancels over labels. Every label keeps
    at least one training cell.

    Parameters
    ----------
    labels
        One per cell. Missing labels count as one label.
    validation, test
        Share of each part.
    seed
        Seed of the selection.

    Raises
    ------
    DataError
        If no share is left for training, or there are fewer cells than parts.
    """
    _require_shares(validation, test)
    codes = _codes(labels)
    _require_enough(len(codes), "cells", validation, test)
    rng = np.random.default_rng(seed)
    ends = np.cumsum(np.bincount(codes)) if len(codes) else np.zeros(0, dtype=np.int64)
    part_n = np.full(len(codes), _TRAIN, dtype=np.int8)
    for label, end in enumerate(ends):
        cells = rng.permutation(np.flatnonzero(codes == label))
        n_validation, n_test = (_quota(end - len(cells), end, share) for share in (validation, test))
        n_test = min(n_test, len(cells) - 1)
        n_validation = min(n_validation, len(cells) - 1 - n_test)
        part_n[cells[:n_validation]] = _VALIDATION
        part_n[cells[n_validation : n_validation + n_test]] = _TEST
    return Split.from_parts(part_n)


def _quota(start: int, end: int, share: float) -> int:
    """Return how many of the cells ``start … end`` a part gets if it gets every (1 / share)-th of all cells."""
    return int(np.floor(end * share + 0.5) - np.floor(start * share + 0.5))


def group_split(groups: ArrayLike, validation: float = 0.1, test: float = 0.0, seed: int = 0) -> Split:
    """Split whole groups (donors, batches), so that no group is in two parts.

    Parameters
    ----------
    groups
        One per cell. Cells without a group count as one group.
    validation, test
        Target share of the cells in each part, met as closely as whole groups allow. Training, and each part with a
        share above zero, gets at least one group.
    seed
        Seed of the selection.

    Raises
    ------
    DataError
        If no share is left for training, or there are fewer groups than parts.
    """
    _require_shares(validation, test)
    codes = _codes(groups)
    size_of = np.bincount(codes)
    _require_enough(len(size_of), "groups", validation, test)
    waiting = [int(group) for group in np.random.default_rng(seed).permutation(len(size_of))]
    part_of = np.full(len(size_of), _TRAIN, dtype=np.int8)
    for part, share, n_reserved in ((_TEST, test, 1 + (validation > 0)), (_VALIDATION, validation, 1)):
        if share:
            taken = _take(waiting[: len(waiting) - n_reserved], size_of, share * len(codes))
            part_of[taken] = part
            waiting = [group for group in waiting if group not in taken]
    return Split.from_parts(part_of[codes])


def _take(waiting: list[int], size_of: NDArray[np.int64], target: float) -> list[int]:
    """Take every group, in order, that brings the number of cells closer to the target; at least one."""
    taken: list[int] = []
    n_cells = 0
    for group in waiting:
        if n_cells + size_of[group] / 2 <= target:
            taken.append(group)
            n_cells += int(size_of[group])
    return taken or [min(waiting, key=lambda group: int(size_of[group]))]


def held_out_split(obs: pd.DataFrame, held_out: Mapping[str, str], validation: float = 0.1, seed: int = 0) -> Split:
    """Use one combination of covariates as the test set, and split the other cells at random.

    Parameters
    ----------
    obs
        One row per cell.
    held_out
        The value of each field in the test set, such as ``{"cell_type": "B", "condition": "stim"}``.
    validation
        Share of validation among the other cells.
    seed
        Seed of the selection.

    Raises
    ------
    CategoryError
        If a field or value is unknown, or no cell has this combination.
    DataError
        If too few cells are left for training.
    """
    is_test = np.ones(len(obs), dtype=bool)
    for name, value in held_out.items():
        is_test &= _has(obs, name, value)
    combination = ", ".join(f"{name}={value}" for name, value in held_out.items())
    if not held_out:
        raise CategoryError("No combination to hold out was given. Give at least one FIELD=VALUE.")
    if not is_test.any():
        raise CategoryError(f"No cell has {combination}, though each value occurs. There is nothing to hold out.")
    rest = np.flatnonzero(~is_test)
    if not len(rest):
        raise DataError(f"All {len(obs)} cells have {combination}, so none is left for training. Hold out fewer cells.")
    inner = random_split(len(rest), validation, 0.0, seed)
    return Split(rest[inner.train], rest[inner.validation], np.flatnonzero(is_test).astype(np.int64))


def _has(obs: pd.DataFrame, name: str, value: str) -> NDArray[np.bool_]:
    """Return which cells have a value."""
    if name not in obs.columns:
        raise CategoryError(f"There is no obs column '{name}' to hold out. {nearest(name, obs.columns)}")
    column = category_names(obs[name]).astype(str).to_numpy()
    has_value = np.asarray(column == category_name(value), dtype=bool)
    if not has_value.any():
        raise CategoryError(f"No cell has {name}={value}. {nearest(value, sorted(set(column)))}")
    return has_value


def _codes(labels: ArrayLike) -> NDArray[np.int64]:
    """Return a number for each label, from zero. Missing labels share one number."""
    values: Any = labels if hasattr(labels, "dtype") else pd.Series(labels, dtype=object)
    codes, _ = pd.factorize(values, use_na_sentinel=False)
    return np.asarray(codes, dtype=np.int64)


def _require_shares(validation: float, test: float) -> None:
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise DataError(
            f"validation={validation} and test={test} leave nothing to train on. Give shares of at least 0 with a "
            "sum below 1."
        )


def _require_enough(n: int, what: str, validation: float, test: float) -> None:
    """Raise if there are fewer cells or groups than parts."""
    parts = ["training", *(["validation"] if validation else []), *(["test"] if test else [])]
    if n < len(parts):
        raise DataError(f"There are {n} {what}, too few for {shorten(parts)}. Use fewer parts, or give more {what}.")
