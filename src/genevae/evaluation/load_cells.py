"""The cells that models are evaluated on, and those that baselines are fitted to, sampled where there are more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.data.contents import hashes_of
from genevae.data.covariates import category_names
from genevae.data.genes import match_genes
from genevae.data.value_kind import probe
from genevae.errors import DataError, GeneError
from genevae.evaluation.adapters import as_evaluated
from genevae.evaluation.cell_selection import MIN_CELLS
from genevae.evaluation.context import PARTS, EvaluationContext, named_parts, part_codes, part_codes_by_content
from genevae.evaluation.model import EvaluatedModel
from genevae.io.formats import to_anndata
from genevae.io.source import MemorySource, Source, evenly_spaced_rows
from genevae.metrics.latent import categories_of
from genevae.metrics.sampling import subsample

__all__ = ["load_cells"]

EXPOSURE = {"training": 2, "validation": 1, "test": 0, "new": 0}
"""How much a model has seen of a cell of each part."""
N_COMPARED = 2_000
"""Cells whose expression is compared with that of training cells, before all are."""


def load_cells(
    given: Mapping[str, Any], source: Source, n: int, seed: int, gene_sets: str | Path | None = None
) -> tuple[EvaluationContext, list[str]]:
    """Read cells with the genes of every model.

    Parameters
    ----------
    given
        The models, by name.
    source
        The data.
    n
        How many evaluation cells, and how many training cells, at most.
    seed
        Of the choice.
    gene_sets
        A GMT file, for the section that compares genes.

    Returns
    -------
    EvaluationContext, list of str
        What sections are computed from; and in sentences how the cells were chosen.

    Raises
    ------
    DataError
        If the data lack genes of a model that cannot do without, or ``n`` is too small.
    """
    if n < MIN_CELLS:
        raise DataError(f"cells must be {MIN_CELLS} or more, not {n}.")
    models = {name: as_evaluated(model) for name, model in given.items()}
    kind = probe(source)
    parts, identified = _parts(models, source)
    exposure_of = np.array([EXPOSURE[part] for part in PARTS], dtype=np.int8)
    exposure_n = np.max([exposure_of[part_n] for part_n in parts.values()], axis=0)
    fair = 0 if (exposure_n == 0).any() else 1
    rows = np.sort(np.concatenate([subsample(exposure_n == grade, n, seed) for grade in (fair, 2)]))
    matched = _with_genes(models, source)
    adata = to_anndata(MemorySource(matched.name, matched.read(rows), matched.genes, matched.obs.iloc[rows]))
    for name in {field.name for model in models.values() for field in model.schema.categorical} & set(adata.obs):
        adata.obs[name] = pd.Categorical(category_names(adata.obs[name]))
    fields = [str(name) for name in adata.obs if categories_of(adata.obs[name]) is not None]
    context = EvaluationContext(
        models, adata, kind, seed, fields, len(source) - len(rows), None if gene_sets is None else Path(gene_sets),
        {name: named_parts(part_n[rows], source.obs.index[rows]) for name, part_n in parts.items()},
    )  # fmt: skip
    return context, [*_sampling(context, exposure_n), identified]


def _parts(models: Mapping[str, EvaluatedModel], source: Source) -> tuple[dict[str, NDArray[np.int8]], str]:
    """Return the part that each cell had in the training of each model, and a sentence that says how it was found."""
    names, sample = source.obs.index, evenly_spaced_rows(len(source), N_COMPARED)
    found, by_content, coincide = {}, False, False
    for name, model in models.items():
        found[name] = part_codes(model, names)
        cells = _with_all_genes(source, model)
        if cells is None or not len(model.contents):
            continue
        by_content = True
        part, same_names = part_codes_by_content(model, names[sample], hashes_of(cells, sample))
        if same_names or (part != found[name][sample]).any():
            hash_n = hashes_of(cells, np.arange(len(source), dtype=np.int64))
            found[name], same_names = part_codes_by_content(model, names, hash_n)
        coincide |= same_names
    if coincide:
        return found, "Cells have the names of training cells, but another expression: they count as new."
    return found, f"Cells are identified by their {'expression' if by_content else 'names'}."


def _with_all_genes(source: Source, model: EvaluatedModel) -> Source | None:
    """Return the cells with the genes of a model, or None where they lack some."""
    try:
        return match_genes(source, model.schema.genes)
    except GeneError:
        return None


def _with_genes(models: Mapping[str, EvaluatedModel], source: Source) -> Source:
    """Keep the genes of any model; those that a model can do without and the data lack are left out."""
    names: dict[str, None] = {}
    for model in models.values():
        matched = match_genes(source, model.schema.genes, model.schema.missing)
        there = np.ones((1, len(matched.genes)), dtype=bool) if matched.panels is None else matched.panels.measured_pg
        names.update(dict.fromkeys(matched.genes[place] for place in np.flatnonzero(np.any(there, axis=0))))
    return match_genes(source, list(names))


def _sampling(context: EvaluationContext, exposure_n: NDArray[Any]) -> list[str]:
    """Say in sentences how the cells were chosen."""
    n_trained = int(context.trained_n.sum())
    notes = [context.evaluation_note]
    if n_trained:
        notes.append(f"Baselines are fitted to {n_trained:,} of the training cells.")
    if context.n_left_out:
        of = f"{len(exposure_n):,} cells, of which {int((exposure_n < 2).sum()):,} were not trained on"
        notes.append(f"They were sampled at random, with seed {context.seed}, from {of}.")
    unknown = [name for name, model in context.models.items() if model.split.empty]
    if unknown:
        notes.append(f"{', '.join(unknown)} does not say which cells it was trained on: all count as new.")
    return notes
