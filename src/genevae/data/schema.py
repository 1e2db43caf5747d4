"""What a model knows of its data: genes, covariates and their codes, and what the numbers are."""

from __future__ import annotations

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

__all__ = ["Categorical", "Continuous", "Schema", "obs_column"]


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
    """

    name: str
    categories: tuple[str, ...]
    control: str | None = None
    technical: bool = False

    @classmethod
    def fit(cls, column: pd.Series[Any], control: str | None = None, technical: bool = False) -> Self:
        """Learn the categories of a column, sorted by name."""
        _refuse_missing(column)
        found = cls(str(column.name), tuple(sorted(column.astype(str).unique())), control, technical)
        if control is not None:
            found.code(control)
        return found

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
            If a value is missing, or one that the model never saw.
        """
        _refuse_missing(column)
        codes = pd.Categorical(column.astype(str), categories=list(self.categories)).codes
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
    """

    genes: tuple[str, ...]
    kind: Kind
    transform: Transform = field(default_factory=AsIs)
    categorical: tuple[Categorical, ...] = ()
    continuous: tuple[Continuous, ...] = ()
    missing: bool = False

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
        """
        control = dict(control or {})
        fields = list(dict.fromkeys([*condition, *([batch] if batch else [])]))
        for name in control:
            if name not in fields:
                raise CategoryError(
                    f"A control level was given for '{name}', which is not a condition. {nearest(name, fields)}"
                )
        return cls(
            tuple(genes),
            kind,
            categorical=tuple(
                Categorical.fit(obs_column(obs, name), control.get(name), technical=name == batch) for name in fields
            ),
            continuous=tuple(Continuous.fit(obs_column(obs, name)) for name in continuous),
        )

    @property
    def n_categories(self) -> dict[str, int]:
        """Number of categories of each categorical field."""
        return {covariate.name: len(covariate.categories) for covariate in self.categorical}

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
            task that puts its own codes there.
        """
        codes = {
            c.name: torch.zeros(len(obs), dtype=torch.int64) if c.name in fill else c.encode(obs_column(obs, c.name))
            for c in self.categorical
        }
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
        }

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Self:
        """Read it back."""
        categorical = ({**c, "categories": tuple(c["categories"])} for c in written["categorical"])
        return cls(
            tuple(written["genes"]),
            Kind(written["kind"]),
            transform_from_json(written["transform"]),
            tuple(Categorical(**covariate) for covariate in categorical),
            tuple(Continuous(**covariate) for covariate in written["continuous"]),
            written.get("missing", False),
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
