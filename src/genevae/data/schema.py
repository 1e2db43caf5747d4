"""What a model knows of its data: genes, covariates and their codes, and what the numbers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import pandas as pd
import torch

from genevae.cells import Condition
from genevae.data.covariates import UNKNOWN, Categorical, Continuous, obs_column
from genevae.data.transforms.from_json import transform_from_json
from genevae.data.transforms.transform import AsIs, Transform
from genevae.data.value_kind import Kind
from genevae.errors import CategoryError, nearest

__all__ = ["UNKNOWN", "Categorical", "Continuous", "Schema", "obs_column"]


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
    def input_kind(self) -> Kind:
        """What the numbers are that the model sees."""
        return self.transform.kind(self.kind)

    @property
    def output_kind(self) -> Kind:
        """What the numbers are that tasks return."""
        return self.transform.output_kind(self.kind)

    @property
    def has_noise_model(self) -> bool:
        """Whether a likelihood of what the model sees tells how values scatter, and is not merely a squared error.

        Where counts are made something else for the model, and something else is made counts again, it does not.
        """
        return self.input_kind.is_count or not self.output_kind.is_count

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


def _categorical(written: dict[str, Any]) -> Categorical:
    return Categorical(**{**written, "categories": tuple(written["categories"])})
