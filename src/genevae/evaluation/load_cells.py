"""The cells that runs are judged on, and those that baselines learn from, drawn where there are more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from genevae.data.genes import match_genes
from genevae.data.value_kind import probe
from genevae.errors import DataError
from genevae.evaluation.context import EvaluationContext, parts_of
from genevae.io.formats import to_anndata
from genevae.io.source import MemorySource, Source
from genevae.metrics.latent import categories_of
from genevae.runs.trained import Trained

__all__ = ["draw"]

MIN_CELLS = 20


def draw(
    runs: Mapping[str, Trained], source: Source, n: int, seed: int, gene_sets: str | Path | None = None
) -> tuple[EvaluationContext, list[str]]:
    """Read cells with the genes of every run.

    Parameters
    ----------
    runs
        The models, by name.
    source
        The data.
    n
        How many cells to judge by, and how many training cells, at most.
    seed
        Of the choice.
    gene_sets
        A GMT file, for the questions that compare genes.

    Returns
    -------
    EvaluationContext, list of str
        What questions are asked of; and in sentences how the cells were chosen.

    Raises
    ------
    DataError
        If the data lack genes of a model that cannot do without, or ``n`` is too small.
    """
    if n < MIN_CELLS:
        raise DataError(f"cells must be {MIN_CELLS} or more, not {n}.")
    kind = probe(source)
    part_n = exposure(runs, source.obs.index)
    rows = np.sort(np.concatenate([_some(part_n, parts, n, seed) for parts in _pools(part_n)]))
    adata = _read(_with_genes(runs, source), rows)
    fields = [str(name) for name in adata.obs if categories_of(adata.obs[name]) is not None]
    context = EvaluationContext(
        runs=runs, cells=adata, kind=kind, seed=seed, fields=fields, n_left_out=len(source) - len(rows),
        gene_sets=None if gene_sets is None else Path(gene_sets),
    )  # fmt: skip
    return context, _sampling(context, part_n, rows, seed)


def exposure(runs: Mapping[str, Trained], names: pd.Index[Any]) -> NDArray[Any]:
    """Return for each cell how much any run has seen of it: 2 trained on it, 1 chose its weights by it, 0 neither."""
    grade = {"training": 2, "validation": 1, "test": 0, "new": 0}
    seen_rn = [parts_of(run, names).map(grade).to_numpy(dtype=np.int64) for run in runs.values()]
    return np.asarray(np.max(seen_rn, axis=0))


def _pools(part_n: NDArray[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which cells to judge by, if need be those that chose the weights, and which to train baselines on."""
    return ((0,) if (part_n == 0).any() else (1,)), (2,)


def _some(part_n: NDArray[Any], parts: tuple[int, ...], n: int, seed: int) -> NDArray[np.int64]:
    rows = np.flatnonzero(np.isin(part_n, parts))
    return rows if len(rows) <= n else np.random.default_rng(seed).choice(rows, n, replace=False)


def _with_genes(runs: Mapping[str, Trained], source: Source) -> Source:
    """Keep the genes that any run models; those that a run can do without and the data lack are left out."""
    names: dict[str, None] = {}
    for run in runs.values():
        matched = match_genes(source, run.schema.genes, run.schema.missing)
        there = np.ones((1, len(matched.genes)), dtype=bool) if matched.panels is None else matched.panels.measured_pg
        names.update(dict.fromkeys(matched.genes[place] for place in np.flatnonzero(np.any(there, axis=0))))
    return match_genes(source, list(names))


def _read(source: Source, rows: NDArray[np.int64]) -> AnnData:
    drawn = MemorySource(source.name, source.read(rows), source.genes, source.obs.iloc[rows])
    return to_anndata(drawn)


def _sampling(context: EvaluationContext, part_n: NDArray[Any], rows: NDArray[np.int64], seed: int) -> list[str]:
    """Say in sentences how the cells were chosen."""
    n_evaluation, n_trained = int(context.evaluation_n.sum()), int((part_n[rows] == 2).sum())
    said = [context.evaluation_note]
    if n_trained:
        said.append(f"Baselines learn from {n_trained:,} of the training cells.")
    if context.n_left_out:
        of = f"{len(part_n):,} cells, of which {int((part_n < 2).sum()):,} were not trained on"
        said.append(f"They were drawn at random, with seed {seed}, from {of}.")
    if not n_evaluation and not n_trained:
        said.append("No cell could be used.")
    said.append("Cells are told apart by their names.")
    return said
