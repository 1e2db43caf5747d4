"""Tables of numbers with row and column names, in any format, as a source."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.errors import DataError, shorten
from genevae.io.cache import cached
from genevae.io.read_options import ReadOptions
from genevae.io.source import FileSource
from genevae.io.tables.dtypes import typed
from genevae.io.tables.orientation import describes_samples, genes_in_rows
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
    text
        Titles of the text columns: the names, and what describes the rows.
    names_at
        Which of these has the row names.
    first_names
        Names of the first rows.
    n_rows
        Function that counts the rows, perhaps in a pass over the file.
    blocks
        Function that reads all rows, with these of the numeric columns as further text.
    genes_in_rows
        Whether rows are genes, if the format defines it.
    about_columns
        Further annotation of the columns.
    """

    path: Path
    columns: tuple[str, ...]
    text: tuple[str, ...]
    names_at: int
    first_names: Sequence[str]
    n_rows: Callable[[], int]
    blocks: Callable[[Sequence[int]], Iterator[Block]]
    genes_in_rows: bool | None = None
    about_columns: pd.DataFrame | None = None


def as_source(table: NumericTable, files: ReadOptions) -> FileSource:
    """Read a table in one pass, and keep its numbers as samples × genes.

    Names among the genes that describe samples, such as ``age`` or ``__no_feature``, become columns of obs.

    Raises
    ------
    DataError
        If the file is damaged, a value is not a number, or ``files.transpose`` contradicts the format.
    """
    if _has_gene_rows(table, files.transpose):
        return _of_gene_rows(table, files)
    return _of_gene_columns(table, files)


def _of_gene_rows(table: NumericTable, files: ReadOptions) -> FileSource:
    about_rows: list[tuple[str, ...]] = []
    of_samples: dict[str, NDArray[np.float32]] = {}

    def genes() -> Iterator[NDArray[np.float32]]:
        for about, values in table.blocks(()):
            kept = np.ones(len(about), dtype=bool)
            for row, text in enumerate(about):
                name = text[table.names_at]
                if table.genes_in_rows is None and describes_samples(name) and name not in of_samples:
                    of_samples[name], kept[row] = values[row], False
            about_rows.extend(text for text, is_gene in zip(about, kept, strict=True) if is_gene)
            if kept.any():
                yield values if kept.all() else values[kept]
        _require_genes(table, about_rows, of_samples)

    rows = transposed(genes(), len(table.columns))
    first = next(rows)
    matrix = cached(itertools.chain([first], rows), first.shape[1], files.keep)
    names, others = _names_of_rows(table, table.text, about_rows)
    obs = pd.DataFrame(index=pd.Index(table.columns, dtype=object))
    if table.about_columns is not None:
        obs = table.about_columns.set_axis(obs.index, axis=0)
    obs = obs.assign(**{name: _as_integers(values) for name, values in of_samples.items()})
    return FileSource(str(table.path), matrix, names, obs, others)


def _of_gene_columns(table: NumericTable, files: ReadOptions) -> FileSource:
    about_rows: list[tuple[str, ...]] = []
    of_samples = [at for at, title in enumerate(table.columns) if describes_samples(title)]
    genes = tuple(title for at, title in enumerate(table.columns) if at not in set(of_samples))
    _require_genes(table, genes, [table.columns[at] for at in of_samples])

    def samples() -> Iterator[NDArray[np.float32]]:
        for about, values in table.blocks(of_samples):
            about_rows.extend(about)
            yield values
        if not about_rows:
            raise DataError(f"{table.path} is empty: it has a header but no rows.")

    matrix = cached(samples(), len(genes), files.keep)
    titles = (*table.text, *(table.columns[at] for at in of_samples))
    names, others = _names_of_rows(table, titles, about_rows)
    columns = {title: typed(np.array(column, dtype=object)) for title, column in others.items()}
    obs = pd.DataFrame(columns, index=pd.Index(names, dtype=object))
    return FileSource(str(table.path), matrix, genes, obs)


def _names_of_rows(
    table: NumericTable, titles: Sequence[str], about_rows: list[tuple[str, ...]]
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return the names of the rows, and what else describes them."""
    about = dict(enumerate(zip(*about_rows, strict=True)))
    names = about.pop(table.names_at)
    return names, {titles[at]: column for at, column in about.items() if titles[at].lower() not in _POSITIONS}


def _require_genes(table: NumericTable, genes: Sequence[object], others: Iterable[str]) -> None:
    """Raise if nothing is a gene."""
    if not genes and (names := list(others)):
        raise DataError(
            f"{table.path} has no genes: {shorten(names)} describe samples or sums of reads. If it is metadata, give "
            "it with --metadata."
        )
    if not genes:
        raise DataError(f"{table.path} is empty: it has a header but no rows.")


def _as_integers(values: NDArray[np.float32]) -> NDArray[Any]:
    """Return whole numbers as integers."""
    return values.astype(np.int64) if (values == np.floor(values)).all() and np.isfinite(values).all() else values


def _has_gene_rows(table: NumericTable, transpose: bool | None) -> bool:
    """Return whether the rows of the file are genes: by the option, the format, or the names."""
    if table.genes_in_rows is not None:
        if transpose is not None and transpose != table.genes_in_rows:
            raise DataError(f"{table.path} is a GCT file, whose rows are genes by definition. Leave out transpose.")
        return table.genes_in_rows
    return genes_in_rows(table.first_names, table.columns, table.n_rows) if transpose is None else transpose
