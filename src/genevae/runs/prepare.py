"""From data to what a recipe is trained on: the split, the genes, the schema, and the minibatches."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from genevae.data.contents import contents_of, sampled_rows
from genevae.data.covariates import category_names
from genevae.data.embedding import read_embedding
from genevae.data.genes import match_genes
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder, balanced_weights
from genevae.data.schema import Categorical, Schema, fit_covariates, obs_column
from genevae.data.split import Split, group_split, held_out_split, random_split, stratified_split
from genevae.data.value_kind import Kind, probe, sample_rows, typical_total
from genevae.errors import DataError, GeneError, RecipeError, shorten, warn
from genevae.io.formats import ReadOptions, in_memory_if_fits, open_source
from genevae.io.gene_lists import read_gene_filter, read_gene_list
from genevae.io.gmt import numbered, read_gene_sets
from genevae.io.source import Source, fingerprint, update_lines
from genevae.preprocessing.hvg import highly_variable
from genevae.preprocessing.inspect import check_likelihood
from genevae.preprocessing.reading_time import reading_time
from genevae.recipes.recipe import Recipe
from genevae.runs.config import Covariates, FitConfig, SplitOptions
from genevae.training.launch_env import launched

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Loaders", "Prepared", "prepare"]

MAX_REFERENCE = 20_000
"""Training cells whose posteriors are kept with the model."""
LEAST_OF_SET = 5
"""Genes of a gene set that are modelled, at least."""
MAX_CALIBRATION = 20_000
"""Validation cells that temperatures are fitted on."""


@dataclass(frozen=True)
class Loaders:
    """Minibatches of the training cells, of the validation cells, and of the samples for calibration and reference."""

    training: Loader
    validation: Loader
    calibration: Loader
    reference: Loader


@dataclass(frozen=True)
class Prepared:
    """Data that are ready for training.

    Parameters
    ----------
    source, schema
        The cells with the genes to model, and their schema.
    split
        Which cells train.
    """

    source: Source
    schema: Schema
    split: Split

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the names of cells and genes, and of evenly spaced rows."""
        return fingerprint(self.source)

    @cached_property
    def fingerprint_of_covariates(self) -> str:
        """The sha256 of the covariates, the genes and the split."""
        schema = replace(self.schema, total=None, layer=None)  # older checkpoints have none
        digest = hashlib.sha256(json.dumps(schema.to_json(), sort_keys=True).encode())
        group = [c.name for c in (self.schema.group, self.schema.view) if c]
        for name in [*self.schema.fields, *group]:
            update_lines(digest, obs_column(self.source.obs, name))
        for rows in (self.split.train, self.split.validation, self.split.test):
            digest.update(rows.tobytes())
        return digest.hexdigest()

    def loaders(self, config: FitConfig, device: torch.device | str = "cpu") -> Loaders:
        """Make minibatches for a device."""
        split, seed = self.split, config.run.seed
        objective, training = config.recipe.objective, config.recipe.training
        rng = np.random.default_rng(seed)
        weights = self._weights(config.split.balance)
        group_n, view_n = self._codes(self.schema.group), self._codes(self.schema.view)
        sampler = objective.training_sampler(split.train, group_n, weights, training, seed, view_n)
        loader = Loader(self.source, self.schema, sampler).on(device, config.run.read_threads)
        calibration = rng.permutation(_sample(split.validation, MAX_CALIBRATION, rng))
        return Loaders(
            loader,
            validation=loader.over(objective.validation_sampler(split.validation, group_n, training, seed, view_n)),
            calibration=loader.over(InOrder(calibration, 512)),
            reference=loader.over(InOrder(_sample(split.train, MAX_REFERENCE, rng), 512)),
        )

    def _weights(self, balance: str | None) -> NDArray[np.float64] | None:
        """Return the weight of every training cell, where categories are balanced."""
        if balance is None:
            return None
        return balanced_weights(obs_column(self.source.obs, balance).iloc[self.split.train])

    def _codes(self, field: Categorical | None) -> NDArray[np.int64] | None:
        """Return the code of every cell in a field that makes pairs, where there is one; −1 where a cell has none."""
        if field is None:
            return None
        code_n = field.encode(obs_column(self.source.obs, field.name)).numpy()
        return np.where(code_n < len(field.categories), code_n, -1)

    def contents(self) -> pd.Series[str]:
        """Return a hash of the expression of each cell, by the name of the cell; of large data, of some cells."""
        hash_n = np.full(len(self.source), "", dtype=object)
        rows = sampled_rows(len(self.source))
        hash_n[rows] = contents_of(self.source, rows)
        return pd.Series(hash_n, index=self.source.obs.index, name="content", dtype=object)

    def parts(self) -> pd.Series[str]:
        """Return the part of the split that each cell is in, by the name of the cell."""
        part = pd.Series("training", index=self.source.obs.index, name="part", dtype=object)
        part.iloc[self.split.validation] = "validation"
        part.iloc[self.split.test] = "test"
        return part


def prepare(data: AnnData | Source | ReadOptions | str | Path, config: FitConfig) -> Prepared:
    """Open the data, split the cells, choose the genes, and fit the schema.

    Parameters
    ----------
    data
        As for :func:`~genevae.runs.fit.fit`.
    config
        All other options.
    """
    recipe = config.recipe
    keep = data.keep if isinstance(data, ReadOptions) else "auto"
    layer = config.expression.layer or (data.layer if isinstance(data, ReadOptions) else None)
    source = in_memory_if_fits(open_source(data, config.expression.layer), keep)
    _require_cells(source)
    if launched(os.environ).is_first:
        _note_reading(source)
    kind = probe(source)
    check_likelihood(kind, recipe.model.needs_counts, recipe.name, source.name)
    split = _split(source, config.split, config.run.seed)
    fields = _covariates(source.obs, config.covariates, recipe)
    source = _filtered(source, config.expression.gene_filter)
    genes = _flagged(data, config.expression.genes)
    source = in_memory_if_fits(_with_genes(source, genes, kind, split), keep)
    _require_cells(source)
    total = None if kind.is_count else typical_total(sample_rows(source, 2000, 0), kind)
    programs = _programs(source, config.expression.gene_sets, recipe)
    raw = Schema(
        tuple(source.genes), kind, missing=source.panels is not None, total=total, layer=layer, programs=programs,
        **fields,
    )  # fmt: skip
    transform = recipe.model.transform(kind).fit(Loader(source, raw, InOrder(split.train, 512)))
    prepared = Prepared(source, raw.with_transform(transform), split)
    _require_text(prepared)
    return prepared


def _note_reading(source: Source) -> None:
    """Say where training from disk would read much less long from a converted store."""
    found = reading_time(source)
    if found is not None and found.is_worth_it:
        warn(
            f"{source.name}: {found}. Cells are read while the model trains; whether it waits for them is in its "
            "history, as waiting_share."
        )


def _covariates(obs: pd.DataFrame, given: Covariates, recipe: Recipe) -> dict[str, Any]:
    """Fit the covariates, and check the columns of contexts, which are none."""
    for name in given.context:
        category_names(obs_column(obs, name))
    unknown, embedding = recipe.has_unknown, given.embedding or {}
    if embedding and not getattr(recipe.model, "takes_vectors", False):
        raise RecipeError(
            f"The recipe {recipe.name} takes no embedding of '{next(iter(embedding))}': each of its categories has "
            "weights of its own. Use nb or another recipe with embeddings, or leave the file out."
        )
    if given.batch in embedding:
        raise RecipeError(
            f"'{given.batch}' is the technical batch, which has no effect to predict for a batch that no cell has. "
            "Give the embedding of a condition."
        )
    if given.unlabelled is not None and not unknown:
        raise RecipeError(
            f"This recipe takes no cells without a label ('{given.unlabelled}'). Use the recipe semi, or train with "
            "--setting category_dropout=0.1."
        )
    roles = {name: value for name, value in vars(given).items() if name not in ("context", "embedding")}
    vectors = {name: read_embedding(value, name) for name, value in embedding.items()}
    return fit_covariates(
        obs, **roles, unknown=recipe.has_unknown, unknown_batch=recipe.has_unknown_batch, embedding=vectors
    )


def _programs(
    source: Source, given: str | Path | Mapping[str, Sequence[str]] | None, recipe: Recipe
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return the gene sets that have enough of the genes, with the places of these."""
    if given is None:
        return ()
    if not getattr(recipe.model, "has_programs", False):
        raise RecipeError(f"The recipe {recipe.name} has no gene sets: use the recipe programs, or leave them out.")
    sets = read_gene_sets(given) if isinstance(given, str | Path) else dict(given)
    every = {gene for genes in sets.values() for gene in genes}
    kinds = (source.genes, *source.aliases.values())
    kept = numbered(sets, max(kinds, key=lambda names: len(every & set(map(str, names)))), LEAST_OF_SET)
    if not kept:
        raise GeneError(
            f"None of the {len(sets):,} gene sets has {LEAST_OF_SET} of the genes to model, which are such as "
            f"{shorten(source.genes, 3)}; the sets have {shorten(next(iter(sets.values()), ()), 3)}. Give sets with "
            "the same kind of gene names, or model more genes (--genes)."
        )
    if len(kept) < len(sets):
        warn(
            f"{len(sets) - len(kept):,} of {len(sets):,} gene sets have fewer than {LEAST_OF_SET} of the genes to "
            "model, and are left out."
        )
    return tuple(kept.items())


def _require_text(prepared: Prepared) -> None:
    """Raise if a name cannot be written to a file; the fingerprints read all names."""
    try:
        prepared.fingerprint, prepared.fingerprint_of_covariates  # noqa: B018 - kept for later
    except UnicodeEncodeError as error:
        raise DataError(
            f"{prepared.source.name} has a name that is not text: {error.object[max(error.start - 20, 0) :][:40]!r} "
            "cannot be written as UTF-8. Rename that cell, gene or category."
        ) from error


def _require_cells(source: Source) -> None:
    """Raise if there is nothing to model."""
    if not len(source) or not source.genes:
        raise DataError(
            f"{source.name} has {len(source):,} cells and {len(source.genes):,} genes to model, and at least one of "
            "each is needed. Look at it with genevae inspect, and give other genes."
        )


def _filtered(source: Source, path: str | Path | None) -> Source:
    """Keep the genes of a list or GTF file, under any of their names."""
    if path is None:
        return source
    wanted = read_gene_filter(path)
    names = [source.genes, *source.aliases.values()]
    kept = [
        genes[0]
        for genes in zip(*names, strict=True)
        if any({g, g.partition(".")[0]} & wanted for g in map(str, genes))
    ]
    if not kept:
        raise GeneError(
            f"{source.name} has none of the genes of {path}: it has {shorten(source.genes, 3)}. Give a file with the "
            "same kind of gene names, or rename genes with gene_names."
        )
    return match_genes(source, list(dict.fromkeys(kept)))


def _flagged(data: object, genes: Any) -> Any:
    """Return the genes that a column of var marks, such as highly_variable, where ``genes`` names one."""
    var = getattr(data, "var", None)
    if not isinstance(genes, str) or var is None or genes not in var:
        return genes
    if var[genes].dtype != bool:
        raise GeneError(
            f"The column '{genes}' of var does not mark genes: it has {var[genes].dtype}, not true and false."
        )
    return list(var.index[var[genes]])


def _with_genes(source: Source, genes: int | str | Path | Sequence[str] | None, kind: Kind, split: Split) -> Source:
    """Choose the genes to model."""
    if genes is None or (isinstance(genes, str) and genes == "all"):
        return source
    if isinstance(genes, int) or (isinstance(genes, str) and genes.isdigit()):
        flavor: Literal["seurat_v3", "seurat"] = "seurat_v3" if kind.is_count else "seurat"
        return match_genes(source, highly_variable(source, int(genes), rows=split.train, flavor=flavor))
    listed = read_gene_list(genes) if isinstance(genes, str | Path) else list(genes)
    return match_genes(source, listed)


def _split(source: Source, options: SplitOptions, seed: int) -> Split:
    """Decide which cells train, validate and test."""
    validation, test = options.validation, options.test
    if options.hold_out:
        return held_out_split(source.obs, options.hold_out, validation, seed)
    if options.split_by:
        return group_split(obs_column(source.obs, options.split_by), validation, test, seed)
    if options.stratify:
        return stratified_split(obs_column(source.obs, options.stratify), validation, test, seed)
    return random_split(len(source), validation, test, seed)


def _sample(rows: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= n else np.sort(rng.choice(rows, n, replace=False))
