"""Filter cells and genes by the usual quality numbers, in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from genevae.data.genes import match_genes
from genevae.engine import Workers, engine
from genevae.errors import DataError
from genevae.io.formats import ReadOptions, open_source
from genevae.io.source import Block, Source, select_rows
from genevae.preprocessing.map_chunks import map_chunks

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Filtered", "filter_cells", "quality"]

CHUNK = 4096
"""Cells that are read at a time."""
MITOCHONDRIAL = ("MT-", "mt-", "Mt-")
"""How names of mitochondrial genes begin."""


@dataclass(frozen=True)
class Filtered:
    """Cells and genes that passed, and why the others did not.

    Parameters
    ----------
    source
        The cells and genes that passed.
    cells
        One row per cell of the data: ``n_counts``, ``n_genes``, ``mito`` and ``passed``.
    genes
        One row per gene: ``n_cells``, the cells with a count, and ``passed``.
    removed
        For each rule, how many cells or genes it removes by itself.
    """

    source: Source
    cells: pd.DataFrame
    genes: pd.DataFrame
    removed: Mapping[str, int]

    def __str__(self) -> str:
        """Return the numbers before and after, and what each rule removes."""
        passed = self.cells[self.cells["passed"]]
        lines = [
            f"cells  {len(self.cells):,} → {len(passed):,}",
            f"genes  {len(self.genes):,} → {int(self.genes['passed'].sum()):,}",
            *(f"  {rule} removes {n:,}" for rule, n in self.removed.items()),
        ]
        quantiles = self.cells[["n_counts", "n_genes", "mito"]].quantile([0.01, 0.25, 0.5, 0.75, 0.99])
        return "\n".join(
            [*lines, "before filtering, by quantile:", quantiles.T.to_string(float_format="{:,.4g}".format)]
        )


def quality(source: Source, executor: Workers | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute the quality numbers of cells and genes in one pass.

    Parameters
    ----------
    source
        The data.
    executor
        Where the cells are read, as for :func:`~genevae.preprocessing.hvg.highly_variable`; by default the current
        thread.

    Returns
    -------
    DataFrame, DataFrame
        For each cell ``n_counts``, the sum of its values; ``n_genes``, the genes with a value; ``mito``, the share of
        mitochondrial genes (MT-…) in its sum. For each gene ``n_cells``, the cells with a value.
    """
    is_mito_g = np.array([gene.startswith(MITOCHONDRIAL) for gene in source.genes])
    work = _Quality(is_mito_g)
    rows = np.arange(len(source))
    parts = list(map_chunks(work, source, rows, lambda _: None, CHUNK, executor))
    cells = pd.DataFrame(
        np.concatenate([part[0] for part in parts]) if parts else np.empty((0, 3)),
        index=source.obs.index, columns=["n_counts", "n_genes", "mito"],
    )  # fmt: skip
    n_cells_g = np.sum([part[1] for part in parts], axis=0) if parts else np.zeros(len(source.genes))
    return cells.astype({"n_genes": np.int64}), pd.DataFrame(
        {"n_cells": n_cells_g.astype(np.int64)}, index=source.genes
    )


@dataclass(frozen=True)
class _Quality:
    is_mito_g: NDArray[np.bool_]

    def __call__(self, block: Block, _: None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        x = sparse.csr_matrix(block)
        x.eliminate_zeros()
        sum_n = np.asarray(x.sum(1), dtype=np.float64).ravel()
        mito_n = np.asarray(x[:, self.is_mito_g].sum(1), dtype=np.float64).ravel()
        share_n = np.divide(mito_n, sum_n, out=np.zeros_like(sum_n), where=sum_n > 0)
        return np.stack([sum_n, np.diff(x.indptr), share_n], 1), np.bincount(x.indices, minlength=x.shape[1])


def filter_cells(
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    min_counts: float | None = None,
    max_counts: float | None = None,
    min_genes: int | None = None,
    max_genes: int | None = None,
    max_mito: float | None = None,
    min_cells: int | None = None,
    layer: str | None = None,
    executor: Workers | None = None,
) -> Filtered:
    """Choose cells and genes by the usual quality numbers.

    Parameters
    ----------
    data
        As for :func:`~genevae.io.formats.open_source`.
    min_counts, max_counts
        Sum of the values of a cell.
    min_genes, max_genes
        Genes with a value in a cell.
    max_mito
        Share of mitochondrial genes (MT-…) in the sum of a cell, from 0 to 1.
    min_cells
        Cells with a value of a gene, among the cells that pass.
    layer
        The layer that holds the expression, or "raw"; X by default.
    executor
        Where the cells are read, as for :func:`~genevae.preprocessing.hvg.highly_variable`; by default the current
        thread.

    Raises
    ------
    DataError
        If no cell or no gene passes, or a share is none.
    """
    if max_mito is not None and not 0 <= max_mito <= 1:
        raise DataError(f"max_mito is a share from 0 to 1, not {max_mito}.")
    source = open_source(data, layer)
    if source.panels is not None:
        raise DataError(f"{source.name} lacks some genes in some cells (join='outer'): filter it with --join inner.")
    with engine(executor) as workers:
        cells, genes = quality(source, workers)
        rules: dict[str, Any] = {
            "min_counts": min_counts is not None and cells["n_counts"] < min_counts,
            "max_counts": max_counts is not None and cells["n_counts"] > max_counts,
            "min_genes": min_genes is not None and cells["n_genes"] < min_genes,
            "max_genes": max_genes is not None and cells["n_genes"] > max_genes,
            "max_mito": max_mito is not None and cells["mito"] > max_mito,
        }
        failing = {rule: np.asarray(fails) for rule, fails in rules.items() if fails is not False}
        cells["passed"] = ~np.any([np.zeros(len(cells), bool), *failing.values()], axis=0)
        kept = select_rows(source, np.flatnonzero(cells["passed"]))
        if min_cells is not None:
            if len(kept) < len(source):
                genes["n_cells"] = quality(kept, workers)[1]["n_cells"]
            failing["min_cells"] = (genes["n_cells"] < min_cells).to_numpy()
    genes["passed"] = ~failing.get("min_cells", np.zeros(len(genes), bool))
    removed = {rule: int(fails.sum()) for rule, fails in failing.items()}
    if not cells["passed"].any() or not genes["passed"].any():
        raise DataError(f"No {'gene' if cells['passed'].any() else 'cell'} of {source.name} passes: {removed}.")
    names = [gene for gene, passed in zip(source.genes, genes["passed"], strict=True) if passed]
    return Filtered(match_genes(kept, names) if len(names) < len(genes) else kept, cells, genes, removed)
