"""The schema of a model's data: genes, covariates, kind of values and transform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import pandas as pd
import torch

from genevae.cells import Condition
from genevae.data.covariates import (
    UNKNOWN,
    Categorical,
    Continuous,
    category_name,
    category_names,
    obs_column,
    require_complete,
)
from genevae.data.nesting import Nesting, nestings
from genevae.data.transforms.from_json import transform_from_json
from genevae.data.transforms.transform import AsIs, Transform
from genevae.data.value_kind import Kind
from genevae.errors import CategoryError, nearest, shorten

__all__ = ["UNKNOWN", "Categorical", "Continuous", "Schema", "fit_covariates", "obs_column"]


@dataclass(frozen=True)
class Schema:
    """Genes, covariates, kind of values and transform.

    Parameters
    ----------
    genes
        The model's genes, in order.
    kind
        Kind of the values in the data.
    transform
        Transform from the data to the input of the model.
    categorical, continuous
        The covariates that the model is conditioned on.
    missing
        Whether some training cells lacked some of the genes.
    group
        The covariate whose groups form pairs, for contrastive objectives. The model is not conditioned on it.
    view
        The covariate of two categories, of which each pair has one cell each. The model is not conditioned on it.
    nested
        The categorical covariates that are nested in others.
    total
        The typical total of a training cell over the genes, without the logarithm where the values have one; None where
        it means nothing.
    layer
        The layer of the data that the expression was read from, or "raw"; None for X.
    programs
        Gene sets that are dimensions of the latent: the name of each, and the places of its genes.
    """

    genes: tuple[str, ...]
    kind: Kind
    transform: Transform = field(default_factory=AsIs)
    categorical: tuple[Categorical, ...] = ()
    continuous: tuple[Continuous, ...] = ()
    missing: bool = False
    group: Categorical | None = None
    view: Categorical | None = None
    nested: tuple[Nesting, ...] = ()
    total: float | None = None
    layer: str | None = None
    programs: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @classmethod
    def fit(cls, genes: Sequence[str], obs: pd.DataFrame, kind: Kind, **covariates: Any) -> Self:
        """Fit the covariates of a table.

        Parameters
        ----------
        genes
            The model's genes.
        obs
            One row per cell.
        kind
            What the numbers in the file are.
        covariates
            As for :func:`fit_covariates`.
        """
        return cls(tuple(genes), kind, **fit_covariates(obs, **covariates))

    @property
    def n_categories(self) -> dict[str, int]:
        """Number of categories of each categorical field."""
        return {covariate.name: len(covariate.categories) for covariate in self.categorical}

    @property
    def n_codes(self) -> dict[str, int]:
        """Number of codes of each categorical field: its categories, and the unknown one if allowed."""
        return {covariate.name: covariate.n_codes for covariate in self.categorical}

    @property
    def unknown(self) -> dict[str, int]:
        """The code of the unknown category, for each field that allows it."""
        return {covariate.name: len(covariate.categories) for covariate in self.categorical if covariate.unknown}

    @property
    def parts(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        """For each field with combinations: the codes that each code is the sum of."""
        return {covariate.name: covariate.parts for covariate in self.categorical if covariate.combined}

    @property
    def vectors(self) -> dict[str, tuple[tuple[float, ...] | None, ...]]:
        """For each field with an embedding: the vector of each code; None for the control and the unknown category."""
        return {
            c.name: tuple(
                None if each is None or label == c.control else each
                for label, each in ((label, c.vector(label)) for label in c.labels)
            )
            for c in self.categorical
            if c.embedding is not None
        }

    @property
    def vectors_by_category(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """The same by the name of the category, without those that have none."""
        return {
            name: {label: each for label, each in zip(self[name].labels, rows, strict=True) if each is not None}  # type: ignore[union-attr]
            for name, rows in self.vectors.items()
        }

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
        """Kind of the values that the model is given."""
        return self.transform.kind(self.kind)

    @property
    def output_kind(self) -> Kind:
        """Kind of the values that tasks return."""
        return self.transform.output_kind(self.kind)

    @property
    def has_noise_model(self) -> bool:
        """Whether the likelihood models the noise of the values that tasks return, and is not just a squared error.

        It does not if the transform turns counts into other values for the model, and back into counts for tasks.
        """
        return self.input_kind.is_count or not self.output_kind.is_count

    @property
    def batch(self) -> str | None:
        """The name of the technical batch, or None."""
        return next((covariate.name for covariate in self.categorical if covariate.technical), None)

    def __getitem__(self, name: str) -> Categorical | Continuous:
        """Return a covariate by name."""
        for covariate in self.covariates:
            if covariate.name == name:
                return covariate
        raise CategoryError(f"This model has no covariate '{name}'. {nearest(name, self.fields)}")

    def categorical_field(self, name: str) -> Categorical:
        """Return a categorical covariate by name."""
        covariate = self[name]
        if not isinstance(covariate, Categorical):
            raise CategoryError(
                f"'{name}' is a continuous covariate, but a categorical one is needed. "
                f"{nearest(name, self.n_categories)}"
            )
        return covariate

    def with_transform(self, transform: Transform) -> Self:
        """Return the schema with another transform."""
        return replace(self, transform=transform)

    def with_genes(self, genes: Sequence[str], missing: bool = False) -> Self:
        """Return the schema with other genes, and whether some cells lack some of them."""
        return replace(self, genes=tuple(genes), missing=missing)

    def encode(self, obs: pd.DataFrame, fill: Sequence[str] = ()) -> Condition:
        """Encode the covariates of every cell. Sizes are one until expression is read.

        Parameters
        ----------
        obs
            One row per cell.
        fill
            Categorical fields that are not read from the table: every cell gets code 0, which a task replaces. Other
            fields that the table lacks are unknown, if they allow it.
        """
        codes = {}
        for c in (*self.categorical, *(c for c in (self.group, self.view) if c)):
            absent = c.name in fill or (c.unknown and c.name not in obs)
            code = 0 if c.name in fill else len(c.categories)
            codes[c.name] = torch.full((len(obs),), code) if absent else c.encode(obs_column(obs, c.name))
        values = {c.name: c.encode(obs_column(obs, c.name)) for c in self.continuous}
        return Condition(torch.ones(1, 1).expand(len(obs), 1), codes, values)

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        return {
            "genes": list(self.genes),
            "kind": self.kind.value,
            "transform": self.transform.to_json(),
            "categorical": [covariate.to_json() for covariate in self.categorical],
            "continuous": [vars(covariate) for covariate in self.continuous],
            "missing": self.missing,
            "group": None if self.group is None else self.group.to_json(),
            **({} if self.view is None else {"view": self.view.to_json()}),
            "nested": [vars(nesting) for nesting in self.nested],
            **({} if self.total is None else {"total": self.total}),
            **({} if self.layer is None else {"layer": self.layer}),
            **({"programs": dict(self.programs)} if self.programs else {}),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Restore from JSON values."""
        group, view = content.get("group"), content.get("view")
        return cls(
            tuple(content["genes"]),
            Kind(content["kind"]),
            transform_from_json(content["transform"]),
            tuple(map(Categorical.from_json, content["categorical"])),
            tuple(Continuous(**covariate) for covariate in content["continuous"]),
            content.get("missing", False),
            None if group is None else Categorical.from_json(group),
            None if view is None else Categorical.from_json(view),
            tuple(Nesting(**{**each, "outer_c": tuple(each["outer_c"])}) for each in content.get("nested", [])),
            content.get("total"),
            content.get("layer"),
            tuple((name, tuple(map(int, places))) for name, places in content.get("programs", {}).items()),
        )


def fit_covariates(
    obs: pd.DataFrame,
    *,
    condition: Sequence[str] = (),
    continuous: Sequence[str] = (),
    batch: str | None = None,
    control: Mapping[str, str] | None = None,
    combine: Sequence[str] = (),
    group: str | None = None,
    view: str | None = None,
    unknown: bool = False,
    unknown_batch: bool = False,
    unlabelled: str | None = None,
    embedding: Mapping[str, pd.DataFrame] | None = None,
) -> dict[str, Any]:
    """Return the covariates of a table, as fields of a :class:`Schema`.

    Parameters
    ----------
    obs
        One row per cell.
    condition, continuous, batch
        Names of its columns: categorical, numeric, and the technical batch.
    control
        The reference level of some categorical columns.
    combine
        Categorical columns whose categories may be combinations, such as A+B.
    group
        The column whose categories make pairs of cells.
    view
        The column of two categories, of which a pair has one each.
    unknown
        Whether categories may be unknown.
    unknown_batch
        Whether the technical batch may be unknown in other cells than these.
    unlabelled
        A category that stands for cells without one, where they may be unknown.
    embedding
        Vectors of the categories of some categorical columns: a row for each category, also of those that no cell has.

    Raises
    ------
    CategoryError
        If a control or a combination belongs to no condition.
    DataError
        If a column is missing, or has missing values that its role does not allow.
    """
    control, embedding = dict(control or {}), dict(embedding or {})
    fields = list(dict.fromkeys([*condition, *([batch] if batch else [])]))
    for what, names in (
        ("A control level was given for", control), ("Combinations were declared for", combine),
        ("An embedding was given for", embedding),
    ):  # fmt: skip
        for name in names:
            if name not in fields:
                raise CategoryError(f"{what} '{name}', which is not a condition. {nearest(name, fields)}")
    if unlabelled is not None and fields:
        values = {value for name in fields for value in category_names(obs_column(obs, name).dropna())}
        if category_name(unlabelled) not in values:
            raise CategoryError(
                f"No cell has the value '{unlabelled}', which is to mean no label, in {shorten(fields)}. "
                f"{nearest(unlabelled, sorted(values))}"
            )
    if batch and not unknown:
        require_complete(obs_column(obs, batch))
    categorical = tuple(
        Categorical.fit(
            obs_column(obs, name), control.get(name), name == batch, unknown or (unknown_batch and name == batch),
            name in combine, unlabelled, embedding.get(name),
        )
        for name in fields
    )  # fmt: skip
    return {
        "categorical": categorical,
        "nested": nestings(categorical, obs),
        "continuous": tuple(Continuous.fit(obs_column(obs, name)) for name in continuous),
        "group": None if group is None else Categorical.fit(obs_column(obs, group), unknown=True),
        "view": None if view is None else _view(obs, view),
    }


def _view(obs: pd.DataFrame, name: str) -> Categorical:
    """Return the column of views, which has two categories."""
    view = Categorical.fit(obs_column(obs, name), unknown=True)
    if len(view.categories) != 2:
        raise CategoryError(
            f"A view has two categories, and '{name}' has {len(view.categories)}: {shorten(view.categories)}. Give a "
            "column that says which of two kinds of profile a row is."
        )
    return view
