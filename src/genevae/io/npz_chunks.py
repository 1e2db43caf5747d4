"""Chunks: a folder of matrices (``.npz``), each with a table of its cells (``.pkl`` or ``.parquet``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from os.path import commonprefix
from pathlib import Path

import numpy as np
import pandas as pd
from anndata.utils import make_index_unique
from scipy import sparse

from genevae.errors import DataError, shorten
from genevae.io.cache import cached
from genevae.io.concat import concat_sources, concat_tables
from genevae.io.h5ad import ignore_warnings
from genevae.io.lowlevel.npz import read_npz, shape_of_npz
from genevae.io.read_options import ReadOptions, require_no_layer
from genevae.io.safe_pickle.table import name_left_out, read_pickled_table
from genevae.io.source import FileSource, Source, Stamp
from genevae.io.tables.metadata import reading_parquet
from genevae.io.tables.text import records, separator_of, split

__all__ = ["has_other_chunks", "is_chunks", "open_chunks"]

_COUNTS = re.compile(r"(.*)counts(.*)\.npz")
_METADATA = re.compile(r"(.*)metadata(.*?)\.(?:pkl|pkl\.gz|parquet)")
_WORDS = re.compile(
    r"(^|[\W_]+)(?:counts?|matrix|expression|expr|x|metadata|meta|obs|annotations?)(?=[\W_]|$)", re.IGNORECASE
)
"""What names of matrices and of tables say of their kind, with the separators before."""
_TABLES = (".pkl", ".pkl.gz", ".parquet")
_EXAMPLE = '--counts-glob "human_counts_*.npz" --metadata-glob "human_metadata_*.pkl"'
_GENES = re.compile(r"(var|.*genes.*)\.(txt|tsv|csv|parquet|pkl)")
_WORDS = re.compile(
    r"(?:[\W_]+|(?<![a-z])(?:counts?|matrix|mat|expression|metadata|meta|obs|cells|annotations?|npz|pkl|gz|parquet)(?![a-z]))+",
    re.IGNORECASE,
)
"""What separates the words of a name, with the words that a matrix and its table do not share."""
SPECIES = "species"
"""The obs column with the beginnings of the names of files, where each beginning has genes of its own."""


@dataclass(frozen=True)
class _Chunk:
    """The files of a matrix and of its table of cells, with their state when they were found, and the species."""

    counts: Stamp
    metadata: Stamp
    species: str


def is_chunks(path: Path) -> bool:
    """Return whether a path is a folder with ``*counts*.npz`` and ``*metadata*`` tables (.pkl, .pkl.gz or .parquet)."""
    return path.is_dir() and bool(_named(path, _COUNTS)) and bool(_named(path, _METADATA))


def has_other_chunks(path: Path) -> bool:
    """Return whether a folder has matrices and tables, so that it may be chunks under other names."""
    names = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
    return any(name.endswith(".npz") for name in names) and any(name.endswith(_TABLES) for name in names)


def open_chunks(path: Path, files: ReadOptions) -> Source:
    """Open a folder of chunks, such as ``human_counts_1.npz`` with ``human_metadata_1.pkl``.

    A matrix and a table form a chunk if their names differ only in words such as ``counts`` and ``metadata``. Other
    names are found by the globs ``counts_glob`` and ``metadata_glob``, which also choose one of several species; the
    texts in place of each ``*`` are then compared, without such words. A single matrix and a single table are a chunk
    whatever their names. Files are never matched by their order. The cells of all chunks are one source, in natural
    order (10 after 9), with the chunk of each in the obs column ``file``. Matrices are read one at a time.

    Chunks of several species, such as ``human_counts_1.npz`` and ``mouse_counts_1.npz``, may have different genes, if
    each species has a file of them, such as ``human_genes.txt``. The genes are then joined like those of several files,
    and the obs column ``species`` has the beginnings of the names, unless the tables have such a column.

    Gene names are in a file called ``var`` or with ``genes`` in its name: the lines of a ``.txt``, the first column of
    a ``.tsv`` or ``.csv``, or the index (or first column) of a ``.parquet`` or ``.pkl`` table. Of several such files,
    that one is read whose name begins as those of the matrices do. One additional line is taken as a header. Without
    such a file, genes are ``gene_0``, ``gene_1``, ...

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
        If matrices and tables do not match, matrices differ in genes without names, or a file is damaged or no pickled
        table; see :func:`~genevae.io.safe_pickle.table.read_pickled_table`.
    GeneError
        If several species have no gene in common.
    """
    require_no_layer(path, files)
    if not path.is_dir():
        raise DataError(f"{path} is not a folder, but chunks are files of a folder. Give the folder.")
    chunks = _pairs(path, _pattern(files.counts_glob, _COUNTS), _pattern(files.metadata_glob, _METADATA))
    shapes = [shape_of_npz(chunk.counts.path) for chunk in chunks]
    left_out: dict[str, list[Path]] = {}
    tables = [_table_of(chunk, n_cells, left_out) for chunk, (n_cells, _) in zip(chunks, shapes, strict=True)]
    name_left_out(left_out)
    obs = _stacked(path, chunks, tables)
    groups = _by_genes(path, chunks)
    if len(groups) > 1 and SPECIES not in obs:
        obs[SPECIES] = pd.Categorical(np.repeat([c.species for c in chunks], [n_cells for n_cells, _ in shapes]))
    parts, start = [], 0
    for group in groups:
        members, sizes = chunks[group], shapes[group]
        n_genes = _common_width(members, sizes)
        matrix = cached(_matrices(members, sizes), n_genes, files.keep)
        genes = _gene_names(path, n_genes, _gene_file(path, chunks, members))
        stop = start + matrix.shape[0]
        parts.append(FileSource(f"{path} ({members[0].species})", matrix, genes, obs.iloc[start:stop]))
        start = stop
    if len(parts) == 1:
        return replace(parts[0], name=str(path))
    return concat_sources(parts, str(path), files.join, add_file_column=False)


def _by_genes(path: Path, chunks: Sequence[_Chunk]) -> list[slice]:
    """Return the ranges of chunks with genes of their own: those of each species, if they have several gene files."""
    starts = [n for n, chunk in enumerate(chunks) if not n or chunk.species != chunks[n - 1].species]
    groups = [slice(*pair) for pair in pairwise([*starts, len(chunks)])]
    differ = len({_gene_file(path, chunks, chunks[group]) for group in groups}) > 1
    return groups if differ else [slice(0, len(chunks))]


def _pattern(glob: str | None, default: re.Pattern[str]) -> re.Pattern[str]:
    """Return the pattern of names that a glob stands for, with a group for each of its ``*``."""
    if glob is None:
        return default
    parts = (re.escape(part).replace(r"\?", ".") for part in glob.split("*"))
    return re.compile("(.*)".join(parts))


def _natural(key: tuple[str, ...]) -> list[list[str | int]]:
    """Sort key of the natural order, where 10 comes after 9."""
    split = (re.split(r"([0-9]+)", part) for part in key)  # every second element is a number
    return [[int(text) if at % 2 else text for at, text in enumerate(texts)] for texts in split]


def _named(path: Path, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], Path]]:
    """Return the files whose names match, without hidden ones."""
    entries = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    return [(match, entry) for entry in entries if (match := pattern.fullmatch(entry.name))]


def _without_kind(text: str) -> str:
    """Return a name without words such as counts and metadata, and without the separators around them."""
    return _WORDS.sub("", text).strip("_-. ")


def _stem(path: Path) -> str:
    return next((path.name.removesuffix(end) for end in (".npz", *_TABLES) if path.name.endswith(end)), path.stem)


def _species(path: Path, pattern: re.Pattern[str]) -> str:
    """Return the beginning of a file's name, without a number at its end: "human" for human_counts_1.npz."""
    match = pattern.fullmatch(path.name)
    beginning = match[1] if match and match.re.groups and not match.start(1) else ""
    return re.sub(r"[\W\d_]+$", "", _without_kind(beginning))


_Key = tuple[str, ...]
_Named = Sequence[tuple[re.Match[str], Path]]


def _keys(match: re.Match[str], path: Path) -> tuple[_Key, _Key, _Key]:
    """Return what a matrix and its table share: the texts of the stars, the same without words, or the whole name."""
    texts = match.groups()
    return texts, tuple(map(_without_kind, texts)), (_without_kind(_stem(path)),)


def _by_name(counts: _Named, metadata: _Named) -> list[tuple[Path, Path]]:
    """Return the pairs of matrices and tables with the same key, of the kind of key by which most are paired."""
    best: list[tuple[Path, Path]] = []
    for kind in range(3):
        sides: list[dict[_Key, list[Path]]] = [{}, {}]
        for side, found in zip(sides, (counts, metadata), strict=True):
            for match, path in found:
                side.setdefault(_keys(match, path)[kind], []).append(path)
        both = [(side, sides[1][key]) for key, side in sides[0].items() if key in sides[1]]
        pairs = [(first[0], second[0]) for first, second in both if len(first) == len(second) == 1]
        best = max(best, pairs, key=len)
    return best


def _longer_globs(pairs: Sequence[tuple[Path, Path]], alone: Sequence[Path]) -> str:
    """Return options that choose the pairs and no other file, or else an example of them."""
    globs = []
    for files in zip(*pairs, strict=True):
        shared = commonprefix([_stem(file) for file in files])  # noqa: RUF071 - names, not paths
        beginning = re.sub(r"\d+$", "", shared)
        globs.append(f"{beginning}*{files[0].name.removeprefix(_stem(files[0]))}")
    if not globs or any(_pattern(glob, _COUNTS).fullmatch(file.name) for glob in globs for file in alone):
        return f"such as {_EXAMPLE}"
    return f'--counts-glob "{globs[0]}" --metadata-glob "{globs[1]}"'


def _pairs(path: Path, counts_pattern: re.Pattern[str], metadata_pattern: re.Pattern[str]) -> list[_Chunk]:
    """Return the pairs of matrices and tables."""
    counts, metadata = _named(path, counts_pattern), _named(path, metadata_pattern)
    for what, found, option in (("matrix", counts, "--counts-glob"), ("table", metadata, "--metadata-glob")):
        if not found:
            raise DataError(
                f"{path} contains no {what} of a chunk by the names *counts*.npz and *metadata*.pkl, or by the given "
                f'patterns. It contains: {shorten(sorted(e.name for e in path.iterdir()))}. Give {option} "PATTERN".'
            )
    one_each = len(counts) == len(metadata) == 1
    pairs = [(counts[0][1], metadata[0][1])] if one_each else _by_name(counts, metadata)
    paired = {file for pair in pairs for file in pair}
    if alone := [file for _, file in [*counts, *metadata] if file not in paired]:
        raise DataError(
            f"{path} contains {len(counts)} matrices and {len(metadata)} tables, and these have no counterpart of the "
            f"same name, or more than one: {shorten(file.name for file in alone)}. Add or rename files, or choose the "
            f"others by longer patterns: {_longer_globs(pairs, alone)}."
        )
    texts = {file: match.groups() for match, file in counts}
    pairs.sort(key=lambda pair: _natural(texts[pair[0]]))
    result = [_Chunk(Stamp.of(matrix), Stamp.of(table), _species(matrix, counts_pattern)) for matrix, table in pairs]
    order = list(dict.fromkeys(chunk.species for chunk in result))
    return sorted(result, key=lambda chunk: order.index(chunk.species))


def _common_width(chunks: Sequence[_Chunk], shapes: Sequence[tuple[int, int]]) -> int:
    """Return the number of genes, which all matrices share."""
    for chunk, (_, n_genes) in zip(chunks, shapes, strict=True):
        if n_genes != shapes[0][1]:
            raise DataError(
                f"{chunks[0].counts.path} has {shapes[0][1]:,} genes and {chunk.counts.path} has {n_genes:,}, but all "
                "chunks must have the same genes as columns. If they are of several species, name the genes of each in "
                "a file, such as human_genes.txt and mouse_genes.txt, or choose one, such as "
                f"{_EXAMPLE}."
            )
    return shapes[0][1]


def _table_of(chunk: _Chunk, n_cells: int, left_out: dict[str, list[Path]]) -> pd.DataFrame:
    """Read the table of a chunk, and check that it has one row per cell."""
    path = chunk.metadata.path
    table = _read(path, left_out)
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


def _read(path: Path, left_out: dict[str, list[Path]] | None = None) -> pd.DataFrame:
    """Read a table with its index."""
    if path.suffix != ".parquet":
        return read_pickled_table(path, left_out)
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


def _gene_file(path: Path, chunks: Sequence[_Chunk], members: Sequence[_Chunk]) -> Path | None:
    """Return the file with the names of the genes of some of the chunks, if there is one."""
    files = {file.path.name for chunk in chunks for file in (chunk.counts, chunk.metadata)}
    found = [entry for _, entry in _named(path, _GENES) if not _METADATA.fullmatch(entry.name)]
    found = _best_match([entry for entry in found if entry.name not in files], members)
    if len(found) > 1:
        raise DataError(f"{path} has several gene files: {shorten(file.name for file in found)}. Keep one of them.")
    return found[0] if found else None


def _gene_names(path: Path, n_genes: int, file: Path | None) -> tuple[str, ...]:
    """Return the names of the columns, made unique."""
    if file is None:
        return tuple(f"gene_{n}" for n in range(n_genes))
    names = _names_in(file)
    if len(names) == n_genes + 1 and file.suffix in (".txt", ".tsv", ".csv"):
        names = names[1:]
    if len(names) != n_genes:
        raise DataError(
            f"{file} names {len(names):,} genes, but the matrices in {path} have {n_genes:,} columns. "
            "Give one name per column, in the same order."
        )
    with ignore_warnings():
        return tuple(make_index_unique(pd.Index(names, dtype=object)))


def _best_match(found: list[Path], chunks: Sequence[_Chunk]) -> list[Path]:
    """Return the gene files whose names share most of their beginnings with that of the first matrix."""
    name = chunks[0].counts.path.name
    shared = [sum(1 for n in range(1, len(name)) if entry.name.startswith(name[:n])) for entry in found]
    return [entry for entry, n in zip(found, shared, strict=True) if n == max(shared)]


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
