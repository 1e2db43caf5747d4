"""Concatenation of sources: their cells one after the other, their genes joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import union_categoricals
from scipy import sparse

from genevae.errors import GeneError, shorten
from genevae.io.lowlevel.csr_ranges import StoredCSR, read_ranges
from genevae.io.source import FileSource, Panels, Source

__all__ = ["ConcatenatedMatrix", "concat_sources", "concat_tables", "move_columns", "panels_of"]

FILE = "file"
"""The obs column with the file of each cell."""


@dataclass(frozen=True)
class ConcatenatedMatrix:
    """The rows of several sources, one after the other, with joined columns.

    Parameters
    ----------
    parts
        The sources.
    columns
        For each source, the joined column of each of its columns, or −1 for columns to leave out; None if they are the
        same.
    n_genes
        Number of joined columns.
    """

    parts: tuple[Source, ...]
    columns: tuple[NDArray[np.int64] | None, ...]
    n_genes: int

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return sum(map(len, self.parts)), self.n_genes

    def read(self, rows: NDArray[np.int64]) -> sparse.csr_matrix | NDArray[np.float32]:
        """Read these rows, in this order."""
        ends = np.cumsum([len(part) for part in self.parts])
        if self._are_ranges() and len(rows) and (rows[1:] >= rows[:-1]).all():
            return self._read_ranges(rows, ends)
        part_n = np.searchsorted(ends, rows, side="right")
        order = np.argsort(part_n, kind="stable")
        blocks = [
            self._read_part(part, rows[part_n == part] - (ends[part] - len(self.parts[part])))
            for part in np.unique(part_n)
        ]
        x = _concat_blocks(blocks) if blocks else sparse.csr_matrix((0, self.n_genes), dtype=np.float32)
        if (order[1:] > order[:-1]).all():
            return x
        return x[np.argsort(order, kind="stable")]

    def _are_ranges(self) -> bool:
        """Return whether every part is CSR on disk with the joined columns."""
        matrices = [getattr(part, "matrix", None) for part in self.parts]
        return all(isinstance(matrix, StoredCSR) for matrix in matrices) and all(c is None for c in self.columns)

    def _read_ranges(self, rows: NDArray[np.int64], ends: NDArray[np.int64]) -> sparse.csr_matrix:
        """Read ascending rows of all parts into one matrix."""
        ranges = []
        for part, end, (first, last) in zip(
            self.parts, ends, pairwise(np.searchsorted(rows, [0, *ends]).tolist()), strict=True
        ):
            if isinstance(part, FileSource) and isinstance(part.matrix, StoredCSR) and last > first:
                for stamp in part.stamps:
                    stamp.check()
                ranges.append((part.matrix, rows[first:last] - (end - len(part))))
        return read_ranges(ranges)

    def _read_part(self, part: int, rows: NDArray[np.int64]) -> Any:
        x, column_g = self.parts[part].read(rows), self.columns[part]
        return x if column_g is None else move_columns(x, column_g, self.n_genes)


def concat_sources(
    parts: Sequence[Source], name: str, join: Literal["inner", "outer"], add_file_column: bool = True
) -> Source:
    """Concatenate sources.

    Parameters
    ----------
    parts
        The sources, in order.
    name
        Name of the result in messages.
    join
        "inner" keeps the genes that all sources have, "outer" those that any has. A gene that a source lacks is missing
        in its cells, not zero.
    add_file_column
        Whether to add an obs column with the file of each cell.

    Raises
    ------
    GeneError
        If the sources have no gene in common, or their genes differ and one of them has a gene twice.
    """
    genes = _join_genes(parts, name, join)
    column_of = {gene: column for column, gene in enumerate(genes)}
    columns = tuple(
        None if part.genes == genes else np.array([column_of.get(gene, -1) for gene in part.genes]) for part in parts
    )
    obs = concat_tables([part.obs for part in parts], [part.name for part in parts] if add_file_column else None)
    aliases = parts[0].aliases if all(part.genes == genes for part in parts) else {}
    return FileSource(
        name,
        ConcatenatedMatrix(tuple(parts), columns, len(genes)),
        genes,
        obs,
        aliases,
        panels_of(parts, columns, len(genes)),
    )


def _join_genes(parts: Sequence[Source], name: str, join: Literal["inner", "outer"]) -> tuple[str, ...]:
    """Return the joined genes, in order of first occurrence."""
    first = parts[0].genes
    if all(part.genes == first for part in parts):
        return first
    for part in parts:
        twice = pd.Index(part.genes)[pd.Index(part.genes).duplicated()].unique()
        if len(twice):
            raise GeneError(
                f"{part.name} has {len(twice)} genes more than once ({shorten(map(repr, twice))}), so its columns "
                "cannot be matched with those of the other files. Make the names unique, for example with "
                "adata.var_names_make_unique()."
            )
    if join == "outer":
        return tuple(dict.fromkeys(gene for part in parts for gene in part.genes))
    shared = reduce(set.intersection, (set(part.genes) for part in parts))
    if not shared:
        raise GeneError(
            f"The {len(parts)} files of {name} have no gene in common: {parts[0].name} has {shorten(first, 3)}, "
            f"{parts[-1].name} has {shorten(parts[-1].genes, 3)}. Use the same kind of gene names, or join='outer' "
            "(--join outer)."
        )
    return tuple(gene for gene in first if gene in shared)


def panels_of(parts: Sequence[Source], columns: Sequence[NDArray[np.int64] | None], n_genes: int) -> Panels | None:
    """Return which of the joined genes each cell has, or None if all cells have all of them."""
    codes, tables, n_panels = [], [], 0
    for part, column_g in zip(parts, columns, strict=True):
        panels = part.panels or Panels(np.zeros(len(part), dtype=np.int64), np.ones((1, len(part.genes)), dtype=bool))
        tables.append(panels.measured_pg if column_g is None else move_columns(panels.measured_pg, column_g, n_genes))
        codes.append(panels.panel_n + n_panels)
        n_panels += len(panels.measured_pg)
    measured_pg, merged = np.unique(np.concatenate(tables), axis=0, return_inverse=True)
    if measured_pg.all():
        return None
    return Panels(merged.reshape(-1)[np.concatenate(codes)], measured_pg)


def concat_tables(tables: Sequence[pd.DataFrame], names: Sequence[str] | None) -> pd.DataFrame:
    """Concatenate obs tables: all columns, with united categories, and a column of files if names are given."""
    ends = np.cumsum([0, *map(len, tables)])
    rows = [pd.RangeIndex(start, stop) for start, stop in pairwise(ends)]
    titles = dict.fromkeys(title for table in tables for title in table.columns)
    columns = {
        title: _stack_column([t[title].set_axis(at) for t, at in zip(tables, rows, strict=True) if title in t])
        for title in titles
    }
    if names is not None and FILE not in columns:
        labels = [Path(name).stem for name in names]
        codes = np.repeat(pd.factorize(np.array(labels, dtype=object))[0], list(map(len, tables)))
        columns[FILE] = pd.Series(pd.Categorical.from_codes(codes, list(dict.fromkeys(labels))))
    stacked = pd.DataFrame(columns, index=pd.RangeIndex(ends[-1]))
    return stacked.set_axis(pd.Index([str(cell) for table in tables for cell in table.index]))


def _stack_column(parts: list[pd.Series[Any]]) -> pd.Series[Any]:
    """Concatenate the parts of a column. Rows of tables without the column are missing."""
    if len(parts) > 1 and all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
        first = parts[0].dtype
        if all(part.dtype.ordered == first.ordered and part.cat.categories.equals(first.categories) for part in parts):
            united = union_categoricals(parts)
        else:
            united = union_categoricals(parts, sort_categories=True, ignore_order=True)
        return pd.Series(united, index=np.concatenate([part.index for part in parts]))
    return pd.concat(parts) if len(parts) > 1 else parts[0]


def _concat_blocks(blocks: list[Any]) -> Any:
    """Concatenate blocks of rows."""
    if len(blocks) == 1:
        return blocks[0]
    if all(isinstance(block, np.ndarray) for block in blocks):
        return np.concatenate(blocks)
    return sparse.vstack([sparse.csr_matrix(block) for block in blocks], format="csr", dtype=np.float32)


def move_columns(x: Any, column_g: NDArray[np.int64], n_genes: int) -> Any:
    """Move each column of rows to its new column among ``n_genes``; leave out columns with −1."""
    if isinstance(x, np.ndarray):
        result_ng = np.zeros((x.shape[0], n_genes), dtype=x.dtype)
        result_ng[:, column_g[column_g >= 0]] = x[:, column_g >= 0]
        return result_ng
    gene_e = column_g[x.indices]
    kept = gene_e >= 0
    indptr = np.concatenate([[0], np.cumsum(kept)])[x.indptr]
    rows = sparse.csr_matrix((x.data[kept], gene_e[kept], indptr), shape=(x.shape[0], n_genes))
    rows.sort_indices()
    return rows
