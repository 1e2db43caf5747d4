"""Tables of bulk RNA-seq: CSV, TSV, GCT and parquet, samples × genes or genes × samples.

A table has names in its first column and its first row. The names show which of them are the genes
(:mod:`genevae.io.tables.orientation`), unless ``ReadOptions.transpose`` says it. The file is read once, in blocks of
rows; a table of genes × samples is transposed in bounded memory (:func:`genevae.io.tables.transpose.transposed`).
Further text columns are other names of the genes (``aliases``) or, where rows are samples, their metadata.
"""

from __future__ import annotations

from pathlib import Path

from genevae.errors import DataError, nearest
from genevae.io.read_options import ReadOptions, require_no_layer
from genevae.io.source import Source
from genevae.io.tables.delimited import read_text_table
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


def is_table(path: Path) -> bool:
    """Whether a path looks like a table: .csv, .tsv, .txt, .gct or .parquet, text also packed (.gz, .zst)."""
    return kind_of(path) in _READERS and not path.is_dir()


def open_table(path: Path, files: ReadOptions) -> Source:
    """Read a table of expression; missing values are NaN, and names that come twice are kept.

    Parameters
    ----------
    path
        The file.
    files
        Whether genes are in rows (``transpose``), and where the numbers are kept.

    Raises
    ------
    DataError
        If there is no such file; if it is empty, damaged or not a table of numbers, with the line, column and value; if
        float32 cannot hold its counts; if a package is missing that its format needs.
    """
    require_no_layer(path, files)
    require_file(path)
    kind = kind_of(path)
    if kind not in _READERS:
        raise DataError(f"{path} is no table of a known kind. {nearest(kind, _READERS)}")
    if kind == "parquet" and packing_of(path):
        raise DataError(f"{path} is a packed parquet file, which is packed inside already: unpack it.")
    return as_source(_READERS[kind](path), files)
