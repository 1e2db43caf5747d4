"""Chunks: a folder of matrices (``.npz``), each with a table of its cells (``.pkl`` or ``.parquet``)."""

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
    """The files of a matrix and of its table of cells, with their state when they were found."""

    counts: Stamp
    metadata: Stamp


def is_chunks(path: Path) -> bool:
    """Return whether a path is a folder with ``*counts*.npz`` and ``*metadata*`` tables (.pkl, .pkl.gz or .parquet)."""
    return path.is_dir() and bool(_named(path, _COUNTS)) and bool(_named(path, _METADATA))


def open_chunks(path: Path, files: ReadOptions) -> Source:
    """Open a folder of chunks, such as ``human_counts_1.npz`` with ``human_metadata_1.pkl``.

    A matrix and a table form a chunk if their names differ in ``counts`` and ``metadata`` only. If there are no such
    pairs, they are matched in natural order (10 after 9). The cells of all chunks are one source, with the chunk of
    each in the obs column ``file``. Matrices are read one at a time.

    Gene names are in a file called ``var`` or with ``genes`` in its name: the lines of a ``.txt``, the first column of
    a ``.tsv`` or ``.csv``, or the index (or first column) of a ``.parquet`` or ``.pkl`` table. One additional line is
    taken as a header. Without such a file, genes are ``gene_0``, ``gene_1``, ...

    Cell names are the indexes of the tables, or ``cell_0``, ``cell_1``, ... if an index just numbers its rows.

    Parameters
    ----------
    path
        The folder.
    files
        Options for reading.

    Raises
    ------
    DataError
        If matrices and tables do not match or differ in genes, or if a file is damaged or not a safe pickle; see
        :func:`~genevae.io.safe_pickle.table.read_pickled_table`.
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
    """Sort key of the natural order, where 10 comes after 9."""
    split = (re.split(r"([0-9]+)", part) for part in key)  # every second element is a number
    return [[int(text) if at % 2 else text for at, text in enumerate(texts)] for texts in split]


def _named(path: Path, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], Path]]:
    """Return the files whose names match, without hidden ones."""
    entries = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    return [(match, entry) for entry in entries if (match := pattern.fullmatch(entry.name))]


def _keyed(path: Path, pattern: re.Pattern[str]) -> dict[tuple[str, ...], Path]:
    """Return the files whose names match by the rest of their names, in natural order."""
    keyed: dict[tuple[str, ...], Path] = {}
    for match, entry in _named(path, pattern):
        other = keyed.setdefault(match.groups()[:2], entry)
        if other != entry:
            raise DataError(f"{path} contains one table twice, {other.name} and {entry.name}. Remove one.")
    return dict(sorted(keyed.items(), key=lambda item: _natural(item[0])))


def _pairs(path: Path) -> list[_Chunk]:
    """Return the pairs of matrices and tables."""
    counts, metadata = _keyed(path, _COUNTS), _keyed(path, _METADATA)
    shared = [key for key in counts if key in metadata]
    if shared:
        alone = [counts[key].name for key in counts if key not in metadata]
        alone += [metadata[key].name for key in metadata if key not in counts]
        if alone:
            raise DataError(
                f"{path} contains {len(counts)} matrices and {len(metadata)} tables, and these have no counterpart: "
                f"{shorten(alone)}. Add it, or move them elsewhere."
            )
        pairs = [(counts[key], metadata[key]) for key in shared]
    elif len(counts) != len(metadata):
        raise DataError(
            f"{path} contains {len(counts)} matrices ({shorten(file.name for file in counts.values())}) and "
            f"{len(metadata)} tables ({shorten(file.name for file in metadata.values())}), but each matrix needs one "
            "table. Add the missing files, or move the rest elsewhere."
        )
    else:
        pairs = list(zip(counts.values(), metadata.values(), strict=True))
    return [_Chunk(Stamp.of(matrix), Stamp.of(table)) for matrix, table in pairs]


def _common_width(chunks: Sequence[_Chunk], shapes: Sequence[tuple[int, int]]) -> int:
    """Return the number of genes, which all matrices share."""
    for chunk, (_, n_genes) in zip(chunks, shapes, strict=True):
        if n_genes != shapes[0][1]:
            raise DataError(
                f"{chunks[0].counts.path} has {shapes[0][1]:,} genes and {chunk.counts.path} has {n_genes:,}, but all "
                "chunks must have the same genes as columns. Put different ones into different folders."
            )
    return shapes[0][1]


def _table_of(chunk: _Chunk, n_cells: int) -> pd.DataFrame:
    """Read the table of a chunk, and check that it has one row per cell."""
    path = chunk.metadata.path
    table = _read(path)
    chunk.metadata.check()
    if len(table) != n_cells:
        raise DataError(
            f"{path} has {len(table):,} rows, but {chunk.counts.path} has {n_cells:,}. Each cell needs one row: do the "
            "files belong to one chunk?"
        )
    table = table.set_axis([str(title) for title in table.columns], axis=1)
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()].unique()
        raise DataError(f"{path} has several columns with the same name: {shorten(twice)}. Rename or remove them.")
    return table


def _read(path: Path) -> pd.DataFrame:
    """Read a table with its index."""
    if path.suffix != ".parquet":
        return read_pickled_table(path)
    with reading_parquet(path):
        table: pd.DataFrame = pd.read_parquet(path, engine="pyarrow")
        return table


def _stacked(path: Path, chunks: Sequence[_Chunk], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the tables, and name the cells."""
    is_numbered = any(_only_numbers_rows(table.index) for table in tables)
    try:
        obs = concat_tables(tables, [str(chunk.counts.path) for chunk in chunks])
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The tables in {path} cannot be concatenated ({error}), because a column has different types. Convert it "
            "to one type."
        ) from error
    return obs.set_axis(pd.Index([f"cell_{n}" for n in range(len(obs))])) if is_numbered else obs


def _only_numbers_rows(index: pd.Index) -> bool:
    """Return whether an index is 0, 1, 2, ..."""
    return isinstance(index, pd.RangeIndex) or (
        pd.api.types.is_integer_dtype(index) and index.equals(pd.RangeIndex(len(index)))
    )


def _matrices(chunks: Sequence[_Chunk], shapes: Sequence[tuple[int, int]]) -> Iterator[sparse.csr_matrix]:
    """Yield the matrices, and check that no file has changed."""
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
        raise DataError(f"{path} has several gene files: {shorten(file.name for file in found)}. Keep one of them.")
    names = _names_in(found[0])
    if len(names) == n_genes + 1 and found[0].suffix in (".txt", ".tsv", ".csv"):
        names = names[1:]
    if len(names) != n_genes:
        raise DataError(
            f"{found[0]} names {len(names):,} genes, but the matrices in {path} have {n_genes:,} columns. "
            "Give one name per column, in the same order."
        )
    with ignore_warnings():
        return tuple(make_index_unique(pd.Index(names, dtype=object)))


def _names_in(path: Path) -> list[str]:
    """Return the names in a file, including the header, if there is one."""
    if path.suffix in (".txt", ".tsv", ".csv"):
        separator = "\n" if path.suffix == ".txt" else separator_of(path)
        return [
            record.strip() if separator == "\n" else split(path, number, record, separator)[0]
            for number, record in records(path, "\t" if separator == "\n" else separator)
        ]
    table = _read(path)
    if _only_numbers_rows(table.index) and not table.shape[1]:
        raise DataError(f"{path} has no gene names: neither an index of names nor a column.")
    return [str(name) for name in (table.iloc[:, 0] if _only_numbers_rows(table.index) else table.index)]
