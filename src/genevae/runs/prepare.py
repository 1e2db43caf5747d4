"""Data → what a recipe is trained on: the parts, the genes, the schema, and the minibatches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.data.genes import match_genes
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder, balanced_weights
from genevae.data.schema import Schema, obs_column
from genevae.data.split import Split, group_split, held_out_split, random_split, stratified_split
from genevae.data.value_kind import Kind, probe
from genevae.errors import DataError
from genevae.io.formats import ReadOptions, in_memory_if_fits, open_source
from genevae.io.gene_lists import read_gene_list
from genevae.io.source import Source, fingerprint
from genevae.preprocessing.hvg import highly_variable
from genevae.preprocessing.inspect import check_likelihood
from genevae.recipes import Recipe, recipe_name

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Loaders", "Prepared", "prepare"]

MAX_REFERENCE = 20_000
"""Training cells whose posteriors are kept with the model."""
MAX_CALIBRATION = 20_000
"""Validation cells that temperatures are fitted on."""


@dataclass(frozen=True)
class Loaders:
    """Minibatches of the training cells, of those that validate, and of the samples that are looked at once."""

    training: Loader
    validation: Loader
    calibration: Loader
    reference: Loader


@dataclass(frozen=True)
class Prepared:
    """Data, and what a model is to know of them.

    Parameters
    ----------
    source, schema
        The cells with the genes to model, and what these and the covariates are.
    split
        Which cells train.
    """

    source: Source
    schema: Schema
    split: Split

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the expression, its names, and evenly spaced rows."""
        return fingerprint(self.source)

    @cached_property
    def fingerprint_of_covariates(self) -> str:
        """The sha256 of what the model is given beside expression, and of the parts."""
        digest = hashlib.sha256(json.dumps(self.schema.to_json(), sort_keys=True).encode())
        group = [self.schema.group.name] if self.schema.group else []
        for name in [*self.schema.fields, *group]:
            digest.update("\n".join(map(str, obs_column(self.source.obs, name))).encode())
        for rows in (self.split.train, self.split.validation, self.split.test):
            digest.update(rows.tobytes())
        return digest.hexdigest()

    def loaders(self, recipe: Recipe, balance: str | None, seed: int) -> Loaders:
        """Make minibatches."""
        split, rng = self.split, np.random.default_rng(seed)
        weights = None if balance is None else balanced_weights(obs_column(self.source.obs, balance).iloc[split.train])
        group_n = self._groups()
        training = Loader(self.source, self.schema, recipe.training_sampler(split.train, group_n, weights, seed))
        calibration = rng.permutation(_draw(split.validation, MAX_CALIBRATION, rng))
        return Loaders(
            training,
            validation=training.over(recipe.validation_sampler(split.validation, group_n, seed)),
            calibration=training.over(InOrder(calibration, 512)),
            reference=training.over(InOrder(_draw(split.train, MAX_REFERENCE, rng), 512)),
        )

    def _groups(self) -> NDArray[np.int64] | None:
        """Return the group of every cell, where a group was named; −1 where a cell has none."""
        group = self.schema.group
        if group is None:
            return None
        code_n = group.encode(obs_column(self.source.obs, group.name)).numpy()
        return np.where(code_n < len(group.categories), code_n, -1)

    def parts(self) -> pd.Series[str]:
        """Return the part that each cell is in, by its name."""
        part = pd.Series("training", index=self.source.obs.index, name="part", dtype=object)
        part.iloc[self.split.validation] = "validation"
        part.iloc[self.split.test] = "test"
        return part


def prepare(data: AnnData | Source | ReadOptions | str | Path, recipe: Recipe, given: Mapping[str, Any]) -> Prepared:
    """Open the data, split the cells, choose the genes, and learn what there is to know before training.

    Parameters
    ----------
    data, given
        The data, and the other arguments of :func:`~genevae.runs.fit.fit`, by name.
    recipe
        Says what such data become before the model sees them.
    """
    keep = data.keep if isinstance(data, ReadOptions) else "auto"
    source = in_memory_if_fits(open_source(data, given["layer"]), keep)
    kind = probe(source)
    check_likelihood(kind, recipe.needs_counts, recipe_name(recipe), source.name)
    split = _split(source, given)
    words = ("condition", "continuous", "batch", "control", "combine", "group")
    unknown = recipe.needs_unknown or recipe.category_dropout > 0
    schema = Schema.fit((), source.obs, kind, **{name: given[name] for name in words}, unknown=unknown)
    source = in_memory_if_fits(_with_genes(source, given["genes"], kind, split), keep)
    schema = schema.with_genes(source.genes, missing=source.panels is not None)
    schema = schema.with_transform(recipe.transform(kind).fit(Loader(source, schema, InOrder(split.train, 512))))
    return Prepared(source, schema, split)


def _with_genes(source: Source, genes: int | str | Path | Sequence[str] | None, kind: Kind, split: Split) -> Source:
    """Choose the genes to model."""
    if genes is None:
        return source
    if isinstance(genes, int) or (isinstance(genes, str) and genes.isdigit()):
        flavor: Literal["seurat_v3", "seurat"] = "seurat_v3" if kind.is_count else "seurat"
        return match_genes(source, highly_variable(source, int(genes), rows=split.train, flavor=flavor))
    listed = read_gene_list(genes) if isinstance(genes, str | Path) else list(genes)
    return match_genes(source, listed)


def _split(source: Source, given: Mapping[str, Any]) -> Split:
    """Decide which cells train, validate and test."""
    validation, test, seed = given["validation"], given["test"], given["seed"]
    chosen = [name for name in ("stratify", "split_by", "hold_out") if given[name]]
    if len(chosen) > 1:
        raise DataError(f"Cells can be split in one way only, and {' and '.join(chosen)} were given. Choose one.")
    if given["hold_out"]:
        return held_out_split(source.obs, given["hold_out"], validation, seed)
    if given["split_by"]:
        return group_split(obs_column(source.obs, given["split_by"]), validation, test, seed)
    if given["stratify"]:
        return stratified_split(obs_column(source.obs, given["stratify"]), validation, test, seed)
    return random_split(len(source), validation, test, seed)


def _draw(rows: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= n else np.sort(rng.choice(rows, n, replace=False))
