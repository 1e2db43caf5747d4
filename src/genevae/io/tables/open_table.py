"""Tables of bulk RNA-seq: CSV, TSV, GCT and parquet, samples × genes or genes × samples.

A table has names in its first column and its first row. Which of them are genes is detected from the names
(:mod:`genevae.io.tables.orientation`) or set by ``ReadOptions.transpose``. The file is read once, in blocks of rows; a
table of genes × samples is transposed in bounded memory (:func:`genevae.io.tables.transpose.transposed`). Further text
columns are other names of the genes (``aliases``) or, if rows are samples, their metadata.
"""

from __future__ import annotations

from pathlib import Path

from genevae.errors import DataError, nearest
from genevae.io.read_options import ReadOptions, require_no_layer
from genevae.io.source import Source
from genevae.io.tables.delimited import read_text_table, read_unnamed_table
from genevae.io.tables.gct import read_gct_table
from genevae.io.tables.numeric_table import as_source
from genevae.io.tables.parquet import read_parquet_table
from genevae.io.tables.text import kind_of, packing_of, require_file

__all__ = ["is_table", "open_table"]

_READERS = {
    "csv": read_text_table,
    "tsv": read_text_table,
    "txt": read_text_table,
    "gct": read_gct_table,
    "parquet": read_parquet_table,
}


UNNAMED = ("csv", "tsv", "txt")
"""Tables that may have no names."""


def is_table(path: Path) -> bool:
    """Return whether a path looks like a table: .csv, .tsv, .txt, .gct (also .gz, .zst) or .parquet."""
    return kind_of(path) in _READERS and not path.is_dir()


def open_table(path: Path, files: ReadOptions) -> Source:
    """Read a table of expression. Missing values are NaN, and repeated names are kept.

    Parameters
    ----------
    path
        The file.
    files
        Options for reading.

    Raises
    ------
    DataError
        If the file does not exist, is empty, damaged or not a table of numbers (with line, column and value), its
        counts are too large for float32, or a package for its format is not installed.
    """
    require_no_layer(path, files)
    require_file(path)
    kind = kind_of(path)
    if kind not in _READERS:
        raise DataError(f"{path} is not a table of a known format. {nearest(kind, _READERS)}")
    if kind == "parquet" and packing_of(path):
        raise DataError(f"{path} is a compressed parquet file. Decompress it: parquet is compressed internally.")
    if not files.names:
        if kind not in UNNAMED:
            raise DataError(f"{path} has names by definition. Leave out names=False (--no-names).")
        return as_source(read_unnamed_table(path), files)
    return as_source(_READERS[kind](path), files)
