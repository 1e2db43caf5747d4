"""Tables of numbers with row and column names, in any format, as a source."""

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
"""Approximate number of bytes to parse at once."""
PEEK = 2000
"""Rows that are read to detect the content of a table."""
_POSITIONS = frozenset(["chr", "chrom", "chromosome", "start", "end", "strand", "length"])
"""Titles of leading columns that are not gene names, such as those of featureCounts."""

Block = tuple[list[tuple[str, ...]], NDArray[np.float32]]
"""A block of rows: the text of the leading columns of each row, and the numbers of the others."""


@dataclass(frozen=True)
class NumericTable:
    """A table of numbers, in the orientation of its file.

    Parameters
    ----------
    path
        The file.
    columns
        Titles of the numeric columns.
    leading
        Titles of the text columns before them.
    names_at
        Which of these has the row names.
    first_names
        Names of the first rows.
    n_rows
        Function that counts the rows, perhaps in a pass over the file.
    blocks
        Function that reads all rows.
    genes_in_rows
        Whether rows are genes, if the format defines it.
    about_columns
        Further annotation of the columns.
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


def as_source(table: NumericTable, files: ReadOptions) -> FileSource:
    """Read a table in one pass, and keep its numbers as samples × genes.

    Raises
    ------
    DataError
        If the file is damaged, a value is not a number, or ``files.transpose`` contradicts the format.
    """
    about_rows: list[tuple[str, ...]] = []
    values = _values(table, about_rows)
    has_gene_rows = _has_gene_rows(table, files.transpose)
    if has_gene_rows:
        rows = transposed(values, len(table.columns))
        first = next(rows)
        matrix = cached(itertools.chain([first], rows), first.shape[1], files.keep)
    else:
        matrix = cached(values, len(table.columns), files.keep)
    about = dict(enumerate(zip(*about_rows, strict=True)))
    names = about.pop(table.names_at)
    others = {table.leading[at]: column for at, column in about.items() if table.leading[at].lower() not in _POSITIONS}
    if has_gene_rows:
        obs = pd.DataFrame(index=pd.Index(table.columns, dtype=object))
        obs = obs if table.about_columns is None else table.about_columns.set_axis(obs.index, axis=0)
        return FileSource(str(table.path), matrix, names, obs, others)
    columns = {title: typed(np.array(column, dtype=object)) for title, column in others.items()}
    obs = pd.DataFrame(columns, index=pd.Index(names, dtype=object))
    return FileSource(str(table.path), matrix, table.columns, obs)


def _has_gene_rows(table: NumericTable, transpose: bool | None) -> bool:
    """Return whether the rows of the file are genes: by the option, the format, or the names."""
    if table.genes_in_rows is not None:
        if transpose is not None and transpose != table.genes_in_rows:
            raise DataError(f"{table.path} is a GCT file, whose rows are genes by definition. Leave out transpose.")
        return table.genes_in_rows
    return genes_in_rows(table.first_names, table.columns, table.n_rows) if transpose is None else transpose


def _values(table: NumericTable, about_rows: list[tuple[str, ...]]) -> Iterator[NDArray[np.float32]]:
    """Yield the numbers, and collect the text of the leading columns."""
    for about, values in table.blocks():
        about_rows.extend(about)
        yield values
    if not about_rows:
        raise DataError(f"{table.path} is empty: it has a header but no rows.")
