"""What a model knows of its data: genes, covariates and their codes, and what the numbers are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genevae.cells import Condition
from genevae.data.kind import Kind
from genevae.data.transform import AsIs, Transform, transform_from_json
from genevae.errors import CategoryError, DataError, nearest, shorten

__all__ = ["UNKNOWN", "Categorical", "Continuous", "Schema", "obs_column"]


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
        categories = tuple(sorted(column.dropna().astype(str).unique()))
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
        """Return a category's code.

        Raises
        ------
        CategoryError
            If the model never saw it.
        """
        try:
            return self.categories.index(str(category))
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


@dataclass(frozen=True)
class Schema:
    """Genes, covariates, and what the numbers are.

    Parameters
    ----------
    genes
        The genes that are modelled, in order.
    kind
        What the numbers in the file are.
    transform
        What is done to them before the model sees them.
    categorical, continuous
        The covariates that the model is given.
    missing
        Whether some training cells lacked some of the genes.
    group
        What makes two rows a pair, for objectives that compare pairs; the model is not given it.
    """

    genes: tuple[str, ...]
    kind: Kind
    transform: Transform = field(default_factory=AsIs)
    categorical: tuple[Categorical, ...] = ()
    continuous: tuple[Continuous, ...] = ()
    missing: bool = False
    group: Categorical | None = None

    @classmethod
    def fit(
        cls,
        genes: Sequence[str],
        obs: pd.DataFrame,
        kind: Kind,
        *,
        condition: Sequence[str] = (),
        continuous: Sequence[str] = (),
        batch: str | None = None,
        control: Mapping[str, str] | None = None,
        combine: Sequence[str] = (),
        group: str | None = None,
        unknown: bool = False,
    ) -> Self:
        """Learn the covariates of a table.

        Parameters
        ----------
        genes
            The genes that are modelled.
        obs
            One row per cell.
        kind
            What the numbers in the file are.
        condition, continuous, batch
            Names of its columns: categorical, numeric, and the technical batch.
        control
            The reference level of some categorical columns.
        combine
            Those categorical columns whose categories may be combinations, such as A+B.
        group
            The column that makes two rows a pair.
        unknown
            Whether categories may be unknown.
        """
        control = dict(control or {})
        fields = list(dict.fromkeys([*condition, *([batch] if batch else [])]))
        for what, names in (("A control level was given for", control), ("Combinations were announced for", combine)):
            for name in names:
                if name not in fields:
                    raise CategoryError(f"{what} '{name}', which is not a condition. {nearest(name, fields)}")
        return cls(
            tuple(genes),
            kind,
            categorical=tuple(
                Categorical.fit(obs_column(obs, name), control.get(name), name == batch, unknown, name in combine)
                for name in fields
            ),
            continuous=tuple(Continuous.fit(obs_column(obs, name)) for name in continuous),
            group=None if group is None else Categorical.fit(obs_column(obs, group), unknown=True),
        )

    @property
    def n_categories(self) -> dict[str, int]:
        """Number of categories of each categorical field."""
        return {covariate.name: len(covariate.categories) for covariate in self.categorical}

    @property
    def n_codes(self) -> dict[str, int]:
        """Number of codes of each categorical field: its categories, and the unknown where it may come."""
        return {covariate.name: covariate.n_codes for covariate in self.categorical}

    @property
    def unknown(self) -> dict[str, int]:
        """The code of the unknown category of each field that may have one."""
        return {covariate.name: len(covariate.categories) for covariate in self.categorical if covariate.unknown}

    @property
    def parts(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        """The codes that each code is the sum of, of the fields with combinations."""
        return {covariate.name: covariate.parts for covariate in self.categorical if covariate.combined}

    @property
    def covariates(self) -> tuple[Categorical | Continuous, ...]:
        """All covariates, categorical first."""
        return (*self.categorical, *self.continuous)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of all covariates, categorical first."""
        return tuple(covariate.name for covariate in self.covariates)

    @property
    def seen_as(self) -> Kind:
        """What the numbers are that the model sees."""
        return self.transform.kind(self.kind)

    @property
    def answers_in(self) -> Kind:
        """What the numbers are that tasks return."""
        return self.transform.answers_in(self.kind)

    @property
    def batch(self) -> str | None:
        """The technical batch, where one was named."""
        return next((covariate.name for covariate in self.categorical if covariate.technical), None)

    def __getitem__(self, name: str) -> Categorical | Continuous:
        """Return a covariate by name."""
        for covariate in self.covariates:
            if covariate.name == name:
                return covariate
        raise CategoryError(f"This model knows no covariate '{name}'. {nearest(name, self.fields)}")

    def categorical_field(self, name: str) -> Categorical:
        """Return a categorical covariate by name."""
        covariate = self[name]
        if not isinstance(covariate, Categorical):
            raise CategoryError(
                f"'{name}' is a continuous covariate, and a categorical one is needed. "
                f"{nearest(name, self.n_categories)}"
            )
        return covariate

    def with_transform(self, transform: Transform) -> Self:
        """Put another transform in place of this one."""
        return replace(self, transform=transform)

    def with_genes(self, genes: Sequence[str], missing: bool = False) -> Self:
        """Put other genes in place of these, and say whether some cells lack some."""
        return replace(self, genes=tuple(genes), missing=missing)

    def encode(self, obs: pd.DataFrame, fill: Sequence[str] = ()) -> Condition:
        """Return the covariates of every cell; sizes are ones until expression is read.

        Parameters
        ----------
        obs
            One row per cell.
        fill
            Categorical fields that the table may lack or that are to be ignored: every cell gets code 0, for a
            task that puts its own codes there. A field that may be unknown is unknown where the table lacks it.
        """
        codes = {}
        for c in (*self.categorical, *([self.group] if self.group else [])):
            absent = c.name in fill or (c.unknown and c.name not in obs)
            code = 0 if c.name in fill else len(c.categories)
            codes[c.name] = torch.full((len(obs),), code) if absent else c.encode(obs_column(obs, c.name))
        values = {c.name: c.encode(obs_column(obs, c.name)) for c in self.continuous}
        return Condition(torch.ones(len(obs), 1), codes, values)

    def to_json(self) -> dict[str, Any]:
        """Write it down."""
        return {
            "genes": list(self.genes),
            "kind": self.kind.value,
            "transform": self.transform.to_json(),
            "categorical": [vars(covariate) for covariate in self.categorical],
            "continuous": [vars(covariate) for covariate in self.continuous],
            "missing": self.missing,
            "group": None if self.group is None else vars(self.group),
        }

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Self:
        """Read it back."""
        group = written.get("group")
        return cls(
            tuple(written["genes"]),
            Kind(written["kind"]),
            transform_from_json(written["transform"]),
            tuple(map(_categorical, written["categorical"])),
            tuple(Continuous(**covariate) for covariate in written["continuous"]),
            written.get("missing", False),
            None if group is None else _categorical(group),
        )


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


def _categorical(written: dict[str, Any]) -> Categorical:
    return Categorical(**{**written, "categories": tuple(written["categories"])})


def _with_pairs(categories: tuple[str, ...], control: str | None) -> tuple[str, ...]:
    """Add the parts of combinations, and every combination of two parts."""
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
