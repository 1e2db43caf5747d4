"""Covariates: obs columns as codes and standardised numbers."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genevae.errors import CategoryError, DataError, nearest, shorten

__all__ = ["UNKNOWN", "Categorical", "Continuous", "obs_column"]

UNKNOWN = "unknown"
"""The word for a category that is not known."""
JOIN = "+"
"""What stands between the parts of a combination."""
MAX_PAIRS = 20_000
"""Combinations of two that are foreseen at most, beside those that cells have."""


@dataclass(frozen=True)
class Categorical:
    """A covariate with categories.

    Parameters
    ----------
    name
        The obs column.
    categories
        Its values; a category's code is its place here.
    control
        The reference level of a perturbation.
    technical
        Whether it is the technical batch.
    unknown
        Whether a cell's category may be unknown: it then has a code of its own, after those of the categories.
    combined
        Whether categories such as A+B are the sums of A and B.
    """

    name: str
    categories: tuple[str, ...]
    control: str | None = None
    technical: bool = False
    unknown: bool = False
    combined: bool = False

    @classmethod
    def fit(
        cls,
        column: pd.Series[Any],
        control: str | None = None,
        technical: bool = False,
        unknown: bool = False,
        combined: bool = False,
    ) -> Self:
        """Learn the categories of a column, sorted by name; if combined, also those that no cell has, but may have."""
        if not unknown:
            _refuse_missing(column)
        categories = tuple(sorted(set(column.dropna().astype(str)) - ({UNKNOWN} if unknown else set())))
        if combined:
            categories = _with_pairs(categories, control)
        found = cls(str(column.name), categories, control, technical, unknown, combined)
        if control is not None:
            found.code(control)
        return found

    @property
    def n_codes(self) -> int:
        """Number of codes: the categories and, where it may come, the unknown."""
        return len(self.categories) + self.unknown

    @property
    def labels(self) -> tuple[str, ...]:
        """The word for each code."""
        return (*self.categories, *([UNKNOWN] if self.unknown else []))

    @property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """The codes that each code is the sum of: those of A and B, for A+B."""
        place = {category: (code,) for code, category in enumerate(self.labels)}
        return tuple(
            tuple(code for part in label.split(JOIN) for code in place[part]) if self.combined else (code,)
            for code, label in enumerate(self.labels)
        )

    def code(self, category: object) -> int:
        """Return the code of a category or, where it may come, of the unknown.

        Raises
        ------
        CategoryError
            If the model never saw it.
        """
        try:
            return self.labels.index(self._in_order(str(category)))
        except ValueError:
            raise CategoryError(
                f"'{category}' is not a category of '{self.name}' that this model knows. "
                f"{nearest(category, self.categories)}"
            ) from None

    def encode(self, column: pd.Series[Any]) -> Tensor:
        """Return the code of every cell, ``n``.

        Raises
        ------
        CategoryError
            If a value is missing, or one that the model never saw; unless it may be unknown.
        """
        if not self.unknown:
            _refuse_missing(column)
        words = column.astype(str).where(column.notna(), None)
        if self.combined:
            words = words.map({word: self._in_order(word) for word in words.dropna().unique()})
        codes = pd.Categorical(words, categories=list(self.categories)).codes
        if self.unknown:
            return torch.from_numpy(np.where(codes < 0, len(self.categories), codes).astype(np.int64))
        if (codes < 0).any():
            unseen = sorted(set(column[codes < 0].astype(str)))
            raise CategoryError(
                f"Column '{self.name}' has {len(unseen)} categories that this model never saw: {shorten(unseen)} "
                f"(in {int((codes < 0).sum()):,} cells). It knows: {shorten(self.categories)}. "
                "Leave those cells out, rename the categories, or train a model that includes them."
            )
        return torch.from_numpy(codes.astype(np.int64))

    def _in_order(self, word: str) -> str:
        """Return a combination's parts in the order in which they are known: A+B, for B+A."""
        if not self.combined or JOIN not in word or word in self.categories:
            return word
        parts = sorted(word.split(JOIN))
        return next((known for known in self.categories if sorted(known.split(JOIN)) == parts), word)


@dataclass(frozen=True)
class Continuous:
    """A covariate with numbers, standardised to mean zero and unit variance.

    Parameters
    ----------
    name
        The obs column.
    mean, scale
        What standardises it, in its own units.
    minimum, maximum
        The range seen in training, in its own units.
    units
        Their name, where it was given.
    """

    name: str
    mean: float
    scale: float
    minimum: float
    maximum: float
    units: str | None = None

    @classmethod
    def fit(cls, column: pd.Series[Any], units: str | None = None) -> Self:
        """Learn mean, standard deviation and range of a column."""
        numbers = _numbers(column)
        scale = float(numbers.std())
        if scale <= 1e-9 * np.abs(numbers).max(initial=0.0):  # constant, but for rounding
            scale = 1.0
        return cls(str(column.name), float(numbers.mean()), scale, float(numbers.min()), float(numbers.max()), units)

    def encode(self, column: pd.Series[Any]) -> Tensor:
        """Return the standardised value of every cell, ``n``."""
        return torch.from_numpy(((_numbers(column) - self.mean) / self.scale).astype(np.float32))

    def value(self, given: object) -> float:
        """Standardise one number.

        Raises
        ------
        DataError
            If it is none.
        """
        try:
            number = float(str(given))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DataError(f"'{self.name}' takes a number, and cannot be '{given}'.")
        return (number - self.mean) / self.scale


def obs_column(obs: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Return a column of an obs table.

    Raises
    ------
    CategoryError
        If there is none of that name, with the nearest.
    """
    if name not in obs:
        raise CategoryError(f"The data have no obs column '{name}'. {nearest(name, obs.columns)}")
    return obs[name]


def _with_pairs(categories: tuple[str, ...], control: str | None) -> tuple[str, ...]:
    """Add the parts of combinations, and every combination of two parts; keep one word where the order differs only."""
    categories = tuple({tuple(sorted(category.split(JOIN))): category for category in reversed(categories)}.values())
    single = sorted({part for category in categories for part in category.split(JOIN)})
    treated = [part for part in single if part != control]
    if len(treated) * (len(treated) - 1) // 2 > MAX_PAIRS:
        treated = []
    pairs = [JOIN.join(pair) for pair in itertools.combinations(treated, 2)]
    known = {tuple(sorted(category.split(JOIN))) for category in categories}
    return tuple(sorted({*categories, *single, *(pair for pair in pairs if tuple(pair.split(JOIN)) not in known)}))


def _refuse_missing(column: pd.Series[Any]) -> None:
    missing = int(column.isna().sum())
    if missing:
        raise CategoryError(
            f"Column '{column.name}' is empty in {missing:,} of {len(column):,} cells. "
            "Fill it, or leave those cells out."
        )


def _numbers(column: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    numbers = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        raise DataError(
            f"Column '{column.name}' should hold numbers, but {int(wrong.sum()):,} of {len(column):,} cells do not: "
            f"{shorten(sorted(set(column[wrong].astype(str))), 3)}. Mend them, or use it as a categorical condition."
        )
    return numbers
