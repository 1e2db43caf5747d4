"""Which cells train, which validate, and which are kept for the test.

Every split depends on its seed alone, and every part comes as sorted row numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from genevae.errors import CategoryError, DataError, nearest, shorten

__all__ = ["Split", "group_split", "held_out_split", "random_split", "stratified_split"]

_Rows = NDArray[np.int64]
_TRAIN, _VALIDATION, _TEST = 0, 1, 2


@dataclass(frozen=True)
class Split:
    """Three sets of rows that do not overlap.

    Parameters
    ----------
    train, validation, test
        Row numbers, ascending (int64).
    """

    train: _Rows
    validation: _Rows
    test: _Rows

    @classmethod
    def from_parts(cls, part_n: NDArray[np.int64]) -> Split:
        """Make a split of a part per cell: 0 trains, 1 validates, 2 tests."""
        return cls(*(np.flatnonzero(part_n == part).astype(np.int64) for part in (_TRAIN, _VALIDATION, _TEST)))


def random_split(n: int, validation: float = 0.1, test: float = 0.0, seed: int = 0) -> Split:
    """Split cells at random.

    Parameters
    ----------
    n
        Number of cells.
    validation, test
        The share of each part. A part that is asked for gets at least one cell, and so does training.
    seed
        Which cells are drawn.

    Raises
    ------
    DataError
        If the shares leave nothing to train on, or there are fewer cells than parts.

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
    shuffled = np.random.default_rng(seed).permutation(n)
    part_n = np.full(n, _TRAIN, dtype=np.int64)
    part_n[shuffled[:n_validation]] = _VALIDATION
    part_n[shuffled[n_validation : n_validation + n_test]] = _TEST
    return Split.from_parts(part_n)


def stratified_split(labels: ArrayLike, validation: float = 0.1, test: float = 0.0, seed: int = 0) -> Split:
    """Split cells at random within each label, so that every part has the labels' proportions.

    Each label's cells in a part are its share, rounded up or down; rounding evens out over the labels. Every label
    keeps a training cell, and a label with one cell trains.

    Parameters
    ----------
    labels
        One per cell. A missing label is a label of its own.
    validation, test
        The share of each part.
    seed
        Which cells are drawn.

    Raises
    ------
    DataError
        If the shares leave nothing to train on, or there are fewer cells than parts.
    """
    _require_shares(validation, test)
    codes = _codes(labels)
    _require_enough(len(codes), "cells", validation, test)
    rng = np.random.default_rng(seed)
    ends = np.cumsum(np.bincount(codes)) if len(codes) else np.zeros(0, dtype=np.int64)
    part_n = np.full(len(codes), _TRAIN, dtype=np.int64)
    for label, end in enumerate(ends):
        cells = rng.permutation(np.flatnonzero(codes == label))
        n_validation, n_test = (_quota(end - len(cells), end, share) for share in (validation, test))
        n_test = min(n_test, len(cells) - 1)
        n_validation = min(n_validation, len(cells) - 1 - n_test)
        part_n[cells[:n_validation]] = _VALIDATION
        part_n[cells[n_validation : n_validation + n_test]] = _TEST
    return Split.from_parts(part_n)


def _quota(start: int, end: int, share: float) -> int:
    """Count the cells of ``start … end`` that a part gets when it takes every (1 / share)-th of all."""
    return int(np.floor(end * share + 0.5) - np.floor(start * share + 0.5))


def group_split(groups: ArrayLike, validation: float = 0.1, test: float = 0.0, seed: int = 0) -> Split:
    """Split whole groups (donors, batches), so that none is on two sides.

    Parameters
    ----------
    groups
        One per cell. Cells without a group are a group of their own.
    validation, test
        The share of the cells that each part should have, met as nearly as whole groups allow. A part that is asked
        for gets at least one group, and so does training.
    seed
        Which groups are drawn.

    Raises
    ------
    DataError
        If the shares leave nothing to train on, or there are fewer groups than parts.
    """
    _require_shares(validation, test)
    codes = _codes(groups)
    size_of = np.bincount(codes)
    _require_enough(len(size_of), "groups", validation, test)
    waiting = [int(group) for group in np.random.default_rng(seed).permutation(len(size_of))]
    part_of = np.full(len(size_of), _TRAIN, dtype=np.int64)
    for part, share, n_reserved in ((_TEST, test, 1 + (validation > 0)), (_VALIDATION, validation, 1)):
        if share:
            taken = _take(waiting[: len(waiting) - n_reserved], size_of, share * len(codes))
            part_of[taken] = part
            waiting = [group for group in waiting if group not in taken]
    return Split.from_parts(part_of[codes])


def _take(waiting: list[int], size_of: NDArray[np.int64], wanted: float) -> list[int]:
    """Take groups in order, each one that brings the cells nearer to the number wanted; at least one."""
    taken: list[int] = []
    n_cells = 0
    for group in waiting:
        if n_cells + size_of[group] / 2 <= wanted:
            taken.append(group)
            n_cells += int(size_of[group])
    return taken or [min(waiting, key=lambda group: int(size_of[group]))]


def held_out_split(obs: pd.DataFrame, held_out: Mapping[str, str], validation: float = 0.1, seed: int = 0) -> Split:
    """Keep one combination of covariates for the test, and split the other cells at random.

    Parameters
    ----------
    obs
        One row per cell.
    held_out
        The value of each field that the test's cells have, such as ``{"cell_type": "B", "condition": "stim"}``.
    validation
        The share of the other cells that validate.
    seed
        Which cells validate.

    Raises
    ------
    CategoryError
        If a field or value is unknown, or no cell has this combination.
    DataError
        If too few cells are left to train on.
    """
    is_test = np.ones(len(obs), dtype=bool)
    for name, value in held_out.items():
        is_test &= _has(obs, name, value)
    asked = ", ".join(f"{name}={value}" for name, value in held_out.items())
    if not held_out:
        raise CategoryError("No combination is held out: name at least one field and its value.")
    if not is_test.any():
        raise CategoryError(f"No cell has {asked}, though each of these values occurs: there is nothing to hold out.")
    rest = np.flatnonzero(~is_test)
    if not len(rest):
        raise DataError(f"All {len(obs)} cells have {asked}: none is left to train on. Hold out less.")
    inner = random_split(len(rest), validation, 0.0, seed)
    return Split(rest[inner.train], rest[inner.validation], np.flatnonzero(is_test).astype(np.int64))


def _has(obs: pd.DataFrame, name: str, value: str) -> NDArray[np.bool_]:
    """Say which cells have a value."""
    if name not in obs.columns:
        raise CategoryError(f"There is no obs column '{name}' to hold out. {nearest(name, obs.columns)}")
    column = obs[name].astype(str).to_numpy()
    found = np.asarray(column == str(value), dtype=bool)
    if not found.any():
        raise CategoryError(f"No cell has {name}={value}. {nearest(value, sorted(set(column)))}")
    return found


def _codes(labels: ArrayLike) -> NDArray[np.int64]:
    """Give each label a number from zero; missing ones share one."""
    values: Any = labels if hasattr(labels, "dtype") else pd.Series(labels, dtype=object)
    codes, _ = pd.factorize(values, use_na_sentinel=False)
    return np.asarray(codes, dtype=np.int64)


def _require_shares(validation: float, test: float) -> None:
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise DataError(
            f"validation={validation} and test={test} leave nothing to train on: give shares of at least 0 "
            "whose sum is below 1."
        )


def _require_enough(n: int, what: str, validation: float, test: float) -> None:
    """Raise where there are fewer cells or groups than parts."""
    parts = ["training", *(["validation"] if validation else []), *(["test"] if test else [])]
    if n < len(parts):
        raise DataError(
            f"There are {n} {what}, too few for {shorten(parts)}: ask for fewer parts, or give more {what}."
        )
