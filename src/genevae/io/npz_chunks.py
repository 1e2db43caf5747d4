"""Chunks: a folder of matrices (``.npz``), each with its table of cells (``.pkl`` or ``.parquet``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from anndata.utils import make_index_unique
from scipy import sparse

from genevae.errors import DataError, shorten
from genevae.io.cache import cached
from genevae.io.concat import concat_tables
from genevae.io.h5ad import ignore_warnings
from genevae.io.lowlevel.npz import read_npz, shape_of_npz
from genevae.io.read_options import ReadOptions, require_no_layer
from genevae.io.safe_pickle.table import read_pickled_table
from genevae.io.source import FileSource, Source, Stamp
from genevae.io.tables.metadata import reading_parquet
from genevae.io.tables.text import records, separator_of, split

__all__ = ["is_chunks", "open_chunks"]

_COUNTS = re.compile(r"(.*)counts(.*)\.npz")
_METADATA = re.compile(r"(.*)metadata(.*?)\.(pkl|pkl\.gz|parquet)")
_GENES = re.compile(r"(var|.*genes.*)\.(txt|tsv|csv|parquet|pkl)")


@dataclass(frozen=True)
class _Chunk:
    """A matrix, and the table of its cells, as they were when they were found."""

    counts: Stamp
    metadata: Stamp


def is_chunks(path: Path) -> bool:
    """Whether a path is a folder with a ``*counts*.npz`` and a ``*metadata*`` table (.pkl, .pkl.gz or .parquet)."""
    return path.is_dir() and bool(_named(path, _COUNTS)) and bool(_named(path, _METADATA))


def open_chunks(path: Path, files: ReadOptions) -> Source:
    """Open a folder of chunks, such as ``human_counts_1.npz`` beside ``human_metadata_1.pkl``.

    A matrix and a table belong together where their names agree but for ``counts`` and ``metadata``; where no names
    do, they are matched in order, in which 10 comes after 9. The cells of all chunks are one source, and the obs column
    ``file`` says which chunk each is from. Matrices are read one at a time.

    Genes are named by a file of the folder called ``var`` or with ``genes`` in its name: the lines of a ``.txt``, the
    first column of a ``.tsv`` or ``.csv``, or the index (without names, the first column) of a ``.parquet`` or
    ``.pkl`` table; a line too many is taken for a header. Without such a file they are ``gene_0``, ``gene_1``, ...

    Cells are named by the tables' indexes, or ``cell_0``, ``cell_1``, ... where one only counts its rows.

    Parameters
    ----------
    path
        The folder.
    files
        How it is to be read.

    Raises
    ------
    DataError
        If matrices and tables do not fit together, differ in genes, or one of them is damaged, or refused as
        :func:`~genevae.io.safe_pickle.read_pickled_table` says.
    """
    require_no_layer(path, files)
    chunks = _pairs(path)
    shapes = [shape_of_npz(chunk.counts.path) for chunk in chunks]
    n_genes = _common_width(chunks, shapes)
    tables = [_table_of(chunk, n_cells) for chunk, (n_cells, _) in zip(chunks, shapes, strict=True)]
    obs = _stacked(path, chunks, tables)
    genes = _gene_names(path, n_genes)
    matrix = cached(_matrices(chunks, shapes), n_genes, files.keep)
    return FileSource(str(path), matrix, genes, obs)


def _natural(key: tuple[str, ...]) -> list[list[str | int]]:
    """Sort key in which 10 comes after 9."""
    return [
        [
            int(piece) if at % 2 else piece for at, piece in enumerate(re.split(r"([0-9]+)", part))
        ]  # every other is digits
        for part in key
    ]


def _named(path: Path, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], Path]]:
    """Return the files whose names fit; hidden ones are not meant."""
    entries = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    return [(match, entry) for entry in entries if (match := pattern.fullmatch(entry.name))]


def _keyed(path: Path, pattern: re.Pattern[str]) -> dict[tuple[str, ...], Path]:
    """Return the files whose names fit, by what stands before and after the word, in natural order."""
    keyed: dict[tuple[str, ...], Path] = {}
    for match, entry in _named(path, pattern):
        other = keyed.setdefault(match.groups()[:2], entry)
        if other != entry:
            raise DataError(f"{path} holds one table twice, {other.name} and {entry.name}: remove one.")
    return dict(sorted(keyed.items(), key=lambda item: _natural(item[0])))


def _pairs(path: Path) -> list[_Chunk]:
    """Match matrices and tables."""
    counts, metadata = _keyed(path, _COUNTS), _keyed(path, _METADATA)
    shared = [key for key in counts if key in metadata]
    if shared:
        alone = [counts[key].name for key in counts if key not in metadata]
        alone += [metadata[key].name for key in metadata if key not in counts]
        if alone:
            raise DataError(
                f"{path} holds {len(counts)} matrices and {len(metadata)} tables, and these have no other half: "
                f"{shorten(alone)}. Add it, or move them elsewhere."
            )
        pairs = [(counts[key], metadata[key]) for key in shared]
    elif len(counts) != len(metadata):
        raise DataError(
            f"{path} holds {len(counts)} matrices ({shorten(file.name for file in counts.values())}) and "
            f"{len(metadata)} tables ({shorten(file.name for file in metadata.values())}), and one of each belongs "
            "together: add what is missing, or move the rest elsewhere."
        )
    else:
        pairs = list(zip(counts.values(), metadata.values(), strict=True))
    return [_Chunk(Stamp.of(matrix), Stamp.of(table)) for matrix, table in pairs]


def _common_width(chunks: Sequence[_Chunk], shapes: Sequence[tuple[int, int]]) -> int:
    """Return the number of genes, which all matrices share."""
    for chunk, (_, n_genes) in zip(chunks, shapes, strict=True):
        if n_genes != shapes[0][1]:
            raise DataError(
                f"{chunks[0].counts.path} has {shapes[0][1]:,} genes and {chunk.counts.path} has {n_genes:,}: the "
                "columns of all chunks must be the same genes. Open those that differ apart from each other."
            )
    return shapes[0][1]


def _table_of(chunk: _Chunk, n_cells: int) -> pd.DataFrame:
    """Read the table of a chunk, and make sure that it has a row for each cell."""
    path = chunk.metadata.path
    table = _read(path)
    chunk.metadata.check()
    if len(table) != n_cells:
        raise DataError(
            f"{path} has {len(table):,} rows and {chunk.counts.path} has {n_cells:,}: each cell needs its row. "
            "Are they of one chunk?"
        )
    table = table.set_axis([str(title) for title in table.columns], axis=1)
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()].unique()
        raise DataError(f"{path} has several columns of one name: {shorten(twice)}. Rename or remove them.")
    return table


def _read(path: Path) -> pd.DataFrame:
    """Read a table with its index."""
    if path.suffix != ".parquet":
        return read_pickled_table(path)
    with reading_parquet(path):
        table: pd.DataFrame = pd.read_parquet(path, engine="pyarrow")
        return table


def _stacked(path: Path, chunks: Sequence[_Chunk], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put the tables one under the other, and name the cells."""
    counted = any(_only_counts(table.index) for table in tables)
    try:
        obs = concat_tables(tables, [str(chunk.counts.path) for chunk in chunks])
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The tables in {path} cannot be put one under the other ({error}): a column is of one kind in one, and of "
            "another in the next. Give it one kind."
        ) from error
    return obs.set_axis(pd.Index([f"cell_{n}" for n in range(len(obs))])) if counted else obs


def _only_counts(index: pd.Index) -> bool:
    """Whether an index names nothing: it is 0, 1, 2, ..."""
    return isinstance(index, pd.RangeIndex) or (
        pd.api.types.is_integer_dtype(index) and index.equals(pd.RangeIndex(len(index)))
    )


def _matrices(chunks: Sequence[_Chunk], shapes: Sequence[tuple[int, int]]) -> Iterator[sparse.csr_matrix]:
    """Yield the matrices, and make sure that no file was changed meanwhile."""
    for chunk, shape in zip(chunks, shapes, strict=True):
        x = read_npz(chunk.counts.path)
        chunk.counts.check()
        if x.shape != shape:
            raise DataError(
                f"{chunk.counts.path} changed while it was being read. Do not write to it, and start again."
            )
        yield x


# --- genes ------------------------------------------------------------------------------------------------------------


def _gene_names(path: Path, n_genes: int) -> tuple[str, ...]:
    """Return the names of the columns, made unique."""
    found = [entry for _, entry in _named(path, _GENES) if not _METADATA.fullmatch(entry.name)]
    if not found:
        return tuple(f"gene_{n}" for n in range(n_genes))
    if len(found) > 1:
        raise DataError(f"{path} names the genes in {shorten(file.name for file in found)}: keep one of these files.")
    names = _names_in(found[0])
    if len(names) == n_genes + 1 and found[0].suffix in (".txt", ".tsv", ".csv"):
        names = names[1:]
    if len(names) != n_genes:
        raise DataError(
            f"{found[0]} names {len(names):,} genes and the matrices in {path} have {n_genes:,} columns: "
            "give one name per column, in their order."
        )
    with ignore_warnings():
        return tuple(make_index_unique(pd.Index(names, dtype=object)))


def _names_in(path: Path) -> list[str]:
    """Return the names in a file, with its header if it has one."""
    if path.suffix in (".txt", ".tsv", ".csv"):
        separator = "\n" if path.suffix == ".txt" else separator_of(path)
        return [
            record.strip() if separator == "\n" else split(path, number, record, separator)[0]
            for number, record in records(path, "\t" if separator == "\n" else separator)
        ]
    table = _read(path)
    if _only_counts(table.index) and not table.shape[1]:
        raise DataError(f"{path} names no genes: it has neither an index of names nor a column.")
    return [str(name) for name in (table.iloc[:, 0] if _only_counts(table.index) else table.index)]
