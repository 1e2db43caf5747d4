"""A table of numbers with names on both sides, however it is stored, made into a source."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.errors import DataError
from genevae.io.cache import cached
from genevae.io.read_options import ReadOptions
from genevae.io.source import FileSource
from genevae.io.tables.dtypes import typed
from genevae.io.tables.orientation import genes_in_rows
from genevae.io.tables.transpose import transposed

__all__ = ["BLOCK", "PEEK", "Block", "NumericTable", "as_source"]

BLOCK = 1 << 24
"""Bytes of a file that are parsed at once, more or less."""
PEEK = 2000
"""Rows that are looked at to tell what a table holds."""
_PLACES = frozenset(["chr", "chrom", "chromosome", "start", "end", "strand", "length"])
"""Titles of leading columns that are no names of genes, such as those of featureCounts."""

Block = tuple[list[tuple[str, ...]], NDArray[np.float32]]
"""Some rows: of each the text in the leading columns, and the numbers in the others."""


@dataclass(frozen=True)
class NumericTable:
    """A table of numbers, as it stands in its file.

    Parameters
    ----------
    path
        The file.
    columns
        The title of each column of numbers.
    leading
        The titles of the columns of text before them.
    names_at
        Which of these names the rows.
    first_names
        Names of the first rows.
    n_rows
        Counts the rows, which may take a pass over the file.
    blocks
        Reads all rows.
    genes_in_rows
        Whether rows are genes, where the format says so.
    about_columns
        More about each column.
    """

    path: Path
    columns: tuple[str, ...]
    leading: tuple[str, ...]
    names_at: int
    first_names: Sequence[str]
    n_rows: Callable[[], int]
    blocks: Callable[[], Iterator[Block]]
    genes_in_rows: bool | None = None
    about_columns: pd.DataFrame | None = None


def as_source(grid: NumericTable, files: ReadOptions) -> FileSource:
    """Read a table once from front to end, and keep its numbers as samples × genes.

    Raises
    ------
    DataError
        If the file is damaged or holds what is not a number, or the wish about its orientation cannot be met.
    """
    about_rows: list[tuple[str, ...]] = []
    values = _values(grid, about_rows)
    turned = _is_turned(grid, files.transpose)
    if turned:
        rows = transposed(values, len(grid.columns))
        first = next(rows)
        matrix = cached(itertools.chain([first], rows), first.shape[1], files.keep)
    else:
        matrix = cached(values, len(grid.columns), files.keep)
    about = dict(enumerate(zip(*about_rows, strict=True)))
    names = about.pop(grid.names_at)
    others = {grid.leading[at]: column for at, column in about.items() if grid.leading[at].lower() not in _PLACES}
    if turned:
        obs = pd.DataFrame(index=pd.Index(grid.columns, dtype=object))
        obs = obs if grid.about_columns is None else grid.about_columns.set_axis(obs.index, axis=0)
        return FileSource(str(grid.path), matrix, names, obs, others)
    columns = {title: typed(np.array(column, dtype=object)) for title, column in others.items()}
    return FileSource(str(grid.path), matrix, grid.columns, pd.DataFrame(columns, index=pd.Index(names, dtype=object)))


def _is_turned(grid: NumericTable, wish: bool | None) -> bool:
    """Whether the rows of the file are genes: as asked for, as the format says, or as the names show."""
    if grid.genes_in_rows is not None:
        if wish is not None and wish != grid.genes_in_rows:
            raise DataError(f"{grid.path} is a GCT file, whose rows are genes by definition: leave transpose out.")
        return grid.genes_in_rows
    return genes_in_rows(grid.first_names, grid.columns, grid.n_rows) if wish is None else wish


def _values(grid: NumericTable, about_rows: list[tuple[str, ...]]) -> Iterator[NDArray[np.float32]]:
    """Yield the numbers, and gather the text beside them."""
    for about, values in grid.blocks():
        about_rows.extend(about)
        yield values
    if not about_rows:
        raise DataError(f"{grid.path} is empty: it has a header but no rows.")
