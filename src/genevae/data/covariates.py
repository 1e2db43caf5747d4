"""Covariates: obs columns as codes and standardised values."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.data.embedding import Embedding
from genevae.data.levels import by_level, levels_of
from genevae.errors import CategoryError, DataError, nearest, shorten, warn

__all__ = ["UNKNOWN", "Categorical", "Continuous", "category_name", "category_names", "obs_column"]

UNKNOWN = "unknown"
"""The name of the unknown category."""
JOIN = "+"
"""The separator of the parts of a combination."""
MAX_PAIRS = 20_000
"""Combinations of two that are added at most, besides those in the data."""
_WHOLE = re.compile(r"(-?\d+)\.0+")


@dataclass(frozen=True)
class Categorical:
    """A covariate with categories.

    Parameters
    ----------
    name
        The obs column.
    categories
        Its values. The code of a category is its index here.
    control
        The reference level of a perturbation.
    technical
        Whether it is the technical batch.
    unknown
        Whether a cell's category may be unknown. The unknown category then has the last code.
    combined
        Whether categories such as A+B are sums of A and B.
    embedding
        Vectors of the categories, where a file has them; a model then knows a category by its vector alone.
    """

    name: str
    categories: tuple[str, ...]
    control: str | None = None
    technical: bool = False
    unknown: bool = False
    combined: bool = False
    embedding: Embedding | None = None

    @classmethod
    def fit(
        cls,
        column: pd.Series[Any],
        control: str | None = None,
        technical: bool = False,
        unknown: bool = False,
        combined: bool = False,
        unlabelled: str | None = None,
        vectors: pd.DataFrame | None = None,
    ) -> Self:
        """Take the categories of a column, sorted by name. If combined, add combinations that are not in the data.

        Where categories may be unknown, cells with the value ``unlabelled`` have none. Where there are vectors of
        categories, one row each, these are categories too.
        """
        if not unknown:
            require_complete(column)
        column = _with_missing(levels_of(column))
        _note_numbers(column)
        control = None if control is None else category_name(control)
        without = {UNKNOWN, category_name(unlabelled)} if unknown else set()
        found = set(category_names(column.dropna())) - without
        vectors = None if vectors is None else vectors.set_axis(vectors.index.map(category_name), axis=0)
        categories = tuple(sorted(found.union(() if vectors is None else vectors.index)))
        if combined:
            categories = _with_pairs(categories, control)
        embedding = None
        if vectors is not None:
            needed = {part for each in found for part in (each.split(JOIN) if combined else [each])} - {control}
            _require_vectors(str(column.name), needed, vectors, control is not None)
            embedding = Embedding.fit(vectors.drop(index=control, errors="ignore"), categories)
        covariate = cls(str(column.name), categories, control, technical, unknown, combined, embedding)
        if control is not None:
            covariate.code(control)  # raises if it is not a category
        return covariate

    @property
    def n_codes(self) -> int:
        """Number of codes: the categories, and the unknown one if allowed."""
        return len(self.categories) + self.unknown

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each code."""
        return (*self.categories, *([UNKNOWN] if self.unknown else []))

    @property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """The codes that each code is the sum of: those of A and B, for A+B."""
        codes = {category: (code,) for code, category in enumerate(self.labels)}
        return tuple(
            tuple(code for part in label.split(JOIN) for code in codes[part]) if self.combined else (code,)
            for code, label in enumerate(self.labels)
        )

    def vector(self, category: str) -> tuple[float, ...] | None:
        """Return the vector of a category, where there are vectors: the sum of those of its parts; zero for control."""
        if self.embedding is None or category not in self.categories:
            return None
        parts = category.split(JOIN) if self.combined else [category]
        rows = [self.embedding.rows[self.categories.index(part)] for part in parts]
        return tuple(map(sum, zip(*rows, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        content = {name: value for name, value in vars(self).items() if name != "embedding"}
        return {**content, **({} if self.embedding is None else {"embedding": vars(self.embedding)})}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Restore from JSON values."""
        categories, embedding = tuple(map(category_name, content["categories"])), content.get("embedding")
        if embedding is not None:
            embedding = Embedding(str(embedding["sha256"]), tuple(tuple(map(float, row)) for row in embedding["rows"]))
            if len(embedding.rows) != len(categories) or len({len(row) for row in embedding.rows}) != 1:
                raise ValueError(f"The embedding of '{content['name']}' has no vector for each of its categories.")
        return cls(**{**content, "categories": categories, "embedding": embedding})

    def code(self, category: object) -> int:
        """Return the code of a category (or of the unknown one, if allowed).

        Raises
        ------
        CategoryError
            If it is not one of the model's categories.
        """
        try:
            return self.labels.index(self.canonical(category_name(category)))
        except ValueError:
            numbers = all(_is_number(each) for each in (category, *self.categories))
            between = " For values between, train with it as a number (--continuous)." if numbers else ""
            raise CategoryError(
                f"'{category}' is not a category of '{self.name}' in this model. "
                f"{nearest(category, self.categories)}{between}"
            ) from None

    def encode(self, column: pd.Series[Any]) -> Tensor:
        """Return the code of every cell, ``n``.

        Raises
        ------
        CategoryError
            If a value is missing or not one of the model's categories, and the category may not be unknown.
        """
        try:
            return torch.from_numpy(by_level(self._codes, column))
        except CategoryError:
            self._codes(column)  # says in how many cells
            raise

    def _codes(self, column: pd.Series[Any]) -> NDArray[np.int64]:
        if not self.unknown:
            require_complete(column)
        names = category_names(_with_missing(column))
        if self.combined:
            names = names.map({name: self.canonical(name) for name in names.dropna().unique()})
        codes = pd.Index(list(self.categories), dtype=object).get_indexer(pd.Index(names, dtype=object))
        if self.unknown:
            return np.where(codes < 0, len(self.categories), codes).astype(np.int64)
        if (codes < 0).any():
            unseen = sorted(set(column[codes < 0].astype(str)))
            raise CategoryError(
                f"Column '{self.name}' has {len(unseen)} categories that are not in this model: {shorten(unseen)} "
                f"(in {int((codes < 0).sum()):,} cells). The model has: {shorten(self.categories)}. "
                "Rename the categories, or leave those cells out: "
                f"adata[~adata.obs['{self.name}'].isin({unseen[:3]!r})]. To train on them too, from this model: "
                f"genevae fit DATA --condition {quote(self.name)} --from RUN --out NEW. A model that was trained with "
                "--setting category_dropout=0.1 takes such cells as of an unknown category."
            )
        return np.asarray(codes, dtype=np.int64)

    def canonical(self, name: str) -> str:
        """Return the category with the same parts: A+B, for B+A; any other name as it is."""
        if not self.combined or JOIN not in name or name in self.categories:
            return name
        parts = sorted(name.split(JOIN))
        return next((category for category in self.categories if sorted(category.split(JOIN)) == parts), name)


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Continuous:
    """A numeric covariate, standardised to zero mean and unit variance.

    Parameters
    ----------
    name
        The obs column.
    mean, scale
        Mean and standard deviation in training, in the units of the data.
    minimum, maximum
        The range in training, in the units of the data.
    units
        Name of the units, if given.
    """

    name: str
    mean: float
    scale: float
    minimum: float
    maximum: float
    units: str | None = None

    @classmethod
    def fit(cls, column: pd.Series[Any], units: str | None = None) -> Self:
        """Take mean, standard deviation and range of a column."""
        numbers = _numbers(column)
        scale = float(numbers.std())
        if scale <= 1e-9 * np.abs(numbers).max(initial=0.0):  # constant up to rounding
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
            If it is not a finite number.
        """
        try:
            number = float(str(given))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DataError(f"'{self.name}' must be a number, not '{given}'.")
        return (number - self.mean) / self.scale


def category_name(value: object) -> str:
    """Return a category as text. Whole numbers have one name, however a file stores them: 1, 1.0 and "1.0" are 1."""
    text = str(value)
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def category_names(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return the category of every cell as text, None where it is missing.

    Raises
    ------
    CategoryError
        If two values of the column have the same name, such as "1" and "1.0".
    """
    return pd.Series(by_level(_category_names, column), column.index, dtype=object, name=column.name)


def _category_names(column: pd.Series[Any]) -> pd.Series[Any]:
    names = column.astype(str).where(column.notna(), None)
    given = names.dropna().unique()
    name = {each: category_name(each) for each in given}
    if len(set(name.values())) < len(given):
        twice = [each for each in given if name[each] != each and name[each] in name]
        raise CategoryError(
            f"Column '{column.name}' has both '{name[twice[0]]}' and '{twice[0]}', which are the same number. Rename "
            "one of them, or give both the same name."
            if twice
            else f"Column '{column.name}' writes the same number in several ways: {shorten(sorted(given))}."
        )
    return names if all(name[each] == each for each in given) else names.map(name, na_action="ignore")


def obs_column(obs: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Return a column of an obs table.

    Raises
    ------
    CategoryError
        If there is no such column. The message names the nearest one.
    DataError
        If there are several.
    """
    if name not in obs:
        raise CategoryError(f"The data have no obs column '{name}'. {nearest(name, obs.columns)}")
    column = obs[name]
    if isinstance(column, pd.DataFrame):
        raise DataError(f"The data have {column.shape[1]} obs columns called '{name}'. Rename or remove all but one.")
    return column


def _require_vectors(name: str, needed: set[str], vectors: pd.DataFrame, has_control: bool) -> None:
    """Raise where categories of the data have no vector, or several."""
    if twice := sorted(set(vectors.index[vectors.index.duplicated()])):
        raise CategoryError(f"The embedding of '{name}' has {shorten(twice)} more than once, as the same number.")
    if lacking := sorted(needed - set(vectors.index)):
        control = "" if has_control else f" If one of them is the control, say so (--control {name}=VALUE)."
        raise CategoryError(
            f"The embedding of '{name}' has no vector for {len(lacking):,} of {len(needed):,} categories of the data: "
            f"{shorten(lacking)}. It has {shorten(list(vectors.index), 3)}.{control} Add rows for them, or leave those "
            f"cells out: adata[~adata.obs['{name}'].isin({lacking[:3]!r})]. The control level needs none."
        )


def _with_pairs(categories: tuple[str, ...], control: str | None) -> tuple[str, ...]:
    """Add the parts of combinations and every combination of two parts. A+B and B+A are the same category."""
    categories = tuple({tuple(sorted(category.split(JOIN))): category for category in reversed(categories)}.values())
    single = sorted({part for category in categories for part in category.split(JOIN)})
    treated = [part for part in single if part != control]
    if len(treated) * (len(treated) - 1) // 2 > MAX_PAIRS:
        treated = []
    pairs = [JOIN.join(pair) for pair in itertools.combinations(treated, 2)]
    known = {tuple(sorted(category.split(JOIN))) for category in categories}
    return tuple(sorted({*categories, *single, *(pair for pair in pairs if tuple(pair.split(JOIN)) not in known)}))


def _note_numbers(column: pd.Series[Any]) -> None:
    """Warn where categories are measured numbers, which a continuous condition would keep in order."""
    if not pd.api.types.is_float_dtype(column):
        return
    levels = column.dropna().unique()
    if len(levels) > 1 and (levels != np.round(levels)).any():
        warn(
            f"'{column.name}' holds numbers, and each of its {len(levels):,} values becomes a category of its own. "
            f"If they are an amount, such as a dose or an age, use --continuous {column.name}."
        )


def _with_missing(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column in which empty text is missing."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    return column.mask(column.astype(str).str.strip().eq("").astype(bool))


def require_complete(column: pd.Series[Any]) -> None:
    missing = int(by_level(lambda values: _with_missing(values).isna(), column).sum())
    if missing:
        kept = ".notna()" if missing == column.isna().sum() else ".astype('string').fillna('').str.strip() != ''"
        raise CategoryError(
            f"Column '{column.name}' is empty in {missing:,} of {len(column):,} cells. Leave those cells out: "
            f"adata[adata.obs['{column.name}']{kept}]. Or fill in the values: a table of cell names and values "
            "replaces a column, with --metadata."
        )


def _numbers(column: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    numbers = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        raise DataError(
            f"Column '{column.name}' should contain numbers, but {int(wrong.sum()):,} of {len(column):,} values are "
            f"not: {shorten(sorted(set(column[wrong].astype(str))), 3)}. Correct them, or use the column as a "
            "categorical condition."
        )
    return numbers
