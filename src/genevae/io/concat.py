"""Many sources as one: their cells one after the other, their genes joined."""

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

__all__ = ["Stacked", "panels_of", "place", "stack", "stack_tables"]

FILE = "file"
"""The obs column that tells which file a cell is from."""


@dataclass(frozen=True)
class Stacked:
    """The rows of some sources, one after the other, with their columns put in common places.

    Parameters
    ----------
    parts
        The sources.
    places
        Of each, the common place of each of its columns, or −1; None where they are in place already.
    n_genes
        Number of common columns.
    """

    parts: tuple[Source, ...]
    places: tuple[NDArray[np.int64] | None, ...]
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
            self._of_part(part, rows[part_n == part] - (ends[part] - len(self.parts[part])))
            for part in np.unique(part_n)
        ]
        x = _under(blocks) if blocks else sparse.csr_matrix((0, self.n_genes), dtype=np.float32)
        if (order[1:] > order[:-1]).all():
            return x
        return x[np.argsort(order, kind="stable")]

    def _are_ranges(self) -> bool:
        """Whether every part is CSR rows on disk, whose columns are in place."""
        matrices = [getattr(part, "matrix", None) for part in self.parts]
        return all(isinstance(matrix, StoredCSR) for matrix in matrices) and all(
            place_g is None for place_g in self.places
        )

    def _read_ranges(self, rows: NDArray[np.int64], ends: NDArray[np.int64]) -> sparse.csr_matrix:
        """Read ascending rows of all parts into one place."""
        wanted = []
        for part, end, (first, last) in zip(
            self.parts, ends, pairwise(np.searchsorted(rows, [0, *ends]).tolist()), strict=True
        ):
            if isinstance(part, FileSource) and isinstance(part.matrix, StoredCSR) and last > first:
                for stamp in part.stamps:
                    stamp.check()
                wanted.append((part.matrix, rows[first:last] - (end - len(part))))
        return read_ranges(wanted)

    def _of_part(self, part: int, rows: NDArray[np.int64]) -> Any:
        x, place_g = self.parts[part].read(rows), self.places[part]
        return x if place_g is None else place(x, place_g, self.n_genes)


def stack(parts: Sequence[Source], name: str, join: Literal["inner", "outer"], say_file: bool = True) -> Source:
    """Make one source of many.

    Parameters
    ----------
    parts
        The sources, in order.
    name
        What messages call them together.
    join
        Keep the genes that all have, or those that any has: what a part lacks is then missing there, and not zero.
    say_file
        Whether the cell table gets a column that tells which file a cell is from.

    Raises
    ------
    GeneError
        If they share no gene, or one of them names a gene twice while they do not agree.
    """
    genes = _join_genes(parts, name, join)
    place = {gene: at for at, gene in enumerate(genes)}
    places = tuple(
        None if part.genes == genes else np.array([place.get(gene, -1) for gene in part.genes]) for part in parts
    )
    obs = stack_tables([part.obs for part in parts], [part.name for part in parts] if say_file else None)
    aliases = parts[0].aliases if all(part.genes == genes for part in parts) else {}
    return FileSource(
        name, Stacked(tuple(parts), places, len(genes)), genes, obs, aliases, panels_of(parts, places, len(genes))
    )


def _join_genes(parts: Sequence[Source], name: str, join: Literal["inner", "outer"]) -> tuple[str, ...]:
    """Return the common genes, in the order in which they are met."""
    first = parts[0].genes
    if all(part.genes == first for part in parts):
        return first
    for part in parts:
        twice = pd.Index(part.genes)[pd.Index(part.genes).duplicated()].unique()
        if len(twice):
            raise GeneError(
                f"{part.name} names {len(twice)} genes more than once ({shorten(twice)}), so that its columns cannot "
                "be matched with those of the other files. Make the names unique, for example with "
                "adata.var_names_make_unique()."
            )
    if join == "outer":
        return tuple(dict.fromkeys(gene for part in parts for gene in part.genes))
    shared = reduce(set.intersection, (set(part.genes) for part in parts))
    if not shared:
        raise GeneError(
            f"The {len(parts)} files of {name} have no gene in common: {parts[0].name} has {shorten(first, 3)}, "
            f"{parts[-1].name} has {shorten(parts[-1].genes, 3)}. Use one namespace, or join='outer' (--join outer)."
        )
    return tuple(gene for gene in first if gene in shared)


def panels_of(parts: Sequence[Source], places: Sequence[NDArray[np.int64] | None], n_genes: int) -> Panels | None:
    """Say which of the common genes each cell of some sources has, unless all have all; places are as in Stacked."""
    codes, tables, n_panels = [], [], 0
    for part, place_g in zip(parts, places, strict=True):
        own = part.panels or Panels(np.zeros(len(part), dtype=np.int64), np.ones((1, len(part.genes)), dtype=bool))
        tables.append(own.measured_pg if place_g is None else place(own.measured_pg, place_g, n_genes))
        codes.append(own.panel_n + n_panels)
        n_panels += len(own.measured_pg)
    measured_pg, merged = np.unique(np.concatenate(tables), axis=0, return_inverse=True)
    if measured_pg.all():
        return None
    return Panels(merged.reshape(-1)[np.concatenate(codes)], measured_pg)


def stack_tables(tables: Sequence[pd.DataFrame], names: Sequence[str] | None) -> pd.DataFrame:
    """Put obs tables one under the other: all columns, categories united, and perhaps the file each row is from."""
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
    """Put the parts of a column one under the other; a row without one is missing."""
    if len(parts) > 1 and all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
        united = union_categoricals(parts, sort_categories=True, ignore_order=True)
        return pd.Series(united, index=np.concatenate([part.index for part in parts]))
    return pd.concat(parts) if len(parts) > 1 else parts[0]


def _under(blocks: list[Any]) -> Any:
    """Put blocks of rows one under the other."""
    if len(blocks) == 1:
        return blocks[0]
    if all(isinstance(block, np.ndarray) for block in blocks):
        return np.concatenate(blocks)
    return sparse.vstack([sparse.csr_matrix(block) for block in blocks], format="csr", dtype=np.float32)


def place(x: Any, place_g: NDArray[np.int64], n_genes: int) -> Any:
    """Put each column of some rows in its place among ``n_genes``, and leave out those whose place is −1."""
    if isinstance(x, np.ndarray):
        placed = np.zeros((x.shape[0], n_genes), dtype=x.dtype)
        placed[:, place_g[place_g >= 0]] = x[:, place_g >= 0]
        return placed
    gene_e = place_g[x.indices]
    kept = gene_e >= 0
    indptr = np.concatenate([[0], np.cumsum(kept)])[x.indptr]
    rows = sparse.csr_matrix((x.data[kept], gene_e[kept], indptr), shape=(x.shape[0], n_genes))
    rows.sort_indices()
    return rows
