"""Transposition of tables that are larger than memory.

Rows are collected into panels that fit in memory. A panel is written to a scratch file column by column. Then the
columns of all panels are read side by side, each panel sequentially.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from genevae.errors import DataError, RunError
from genevae.io.atomic import replace_with, staging_folder, sync
from genevae.io.overwrite import require_free
from genevae.io.tables.text import kind_of, packing_of, records, require_file, separator_of, split

__all__ = ["transpose", "transposed"]

BUDGET = 256 * 1024**2
"""Bytes of memory."""
_OBJECT = 64
"""Memory of a short Python string and the reference to it, in bytes, besides its characters."""
_DELIMITERS = {"csv": ",", "tsv": "\t", "txt": "\t"}

_END = "\r\n"
"""A line end that makes the csv module quote either of its characters; it is removed afterwards."""
_ALONE = b'""'
"""A row with one empty field, which would otherwise be a blank line."""
_SIZE = 4
"""Bytes of a float32."""

_Block = NDArray[np.float32]


# --- numbers ----------------------------------------------------------------------------------------------------------


def transposed(blocks: Iterable[_Block], n_columns: int, n_bytes: int = BUDGET) -> Iterator[_Block]:
    """Transpose a matrix that is given in blocks of rows.

    Memory is limited to ``n_bytes`` (if some rows and columns and one block fit). The matrix is written to a nameless
    scratch file in ``TMPDIR``.

    Parameters
    ----------
    blocks
        Dense blocks of rows: genes × samples.
    n_columns
        Columns of every block.
    n_bytes
        Bytes of memory.

    Yields
    ------
    NDArray
        Blocks of rows of the transposed matrix, as float32: samples × genes.

    Raises
    ------
    DataError
        If a block has another number of columns, or the disk is full.
    """
    with _scratch() as file:
        heights = _write_panels(file, blocks, n_columns, n_bytes)
        if heights:
            yield from _read_columns(file, heights, n_columns, max(1, n_bytes // 4 // (_SIZE * sum(heights))))


def _write_panels(file: BinaryIO, blocks: Iterable[_Block], n_columns: int, n_bytes: int) -> list[int]:
    """Write a matrix as panels, each column by column, and return the number of rows of each."""
    heights = []
    for panel in _panels(blocks, n_columns, max(1, n_bytes // 2 // (_SIZE * n_columns))):
        n_at_once = max(1, n_bytes // 8 // (_SIZE * len(panel)))
        for start in range(0, n_columns, n_at_once):
            np.ascontiguousarray(panel[:, start : start + n_at_once].T).tofile(file)
        heights.append(len(panel))
    return heights


def _panels(blocks: Iterable[_Block], n_columns: int, height: int) -> Iterator[_Block]:
    """Collect rows into panels of equal height, except the last. Each panel overwrites the previous one."""
    panel, filled = np.empty((height, n_columns), dtype=np.float32), 0
    for block in blocks:
        if block.shape[1] != n_columns:
            raise DataError(f"A block of rows has {block.shape[1]} columns, but {n_columns} are expected.")
        start = 0
        while start < len(block):
            part = block[start : start + height - filled]
            panel[filled : filled + len(part)] = part
            start, filled = start + len(part), filled + len(part)
            if filled == height:
                yield panel
                filled = 0
    if filled:
        yield panel[:filled]


def _read_columns(file: BinaryIO, heights: list[int], n_columns: int, n_at_once: int) -> Iterator[_Block]:
    """Yield blocks of columns of all panels as rows."""
    tops = np.concatenate([[0], np.cumsum(heights)]).tolist()
    for start in range(0, n_columns, n_at_once):
        width = min(n_at_once, n_columns - start)
        rows = np.empty((width, tops[-1]), dtype=np.float32)
        for top, height in zip(tops, heights, strict=False):
            file.seek(_SIZE * (top * n_columns + start * height))
            content = file.read(_SIZE * width * height)
            rows[:, top : top + height] = np.frombuffer(content, dtype=np.float32).reshape(width, height)
        yield rows


@contextmanager
def _scratch() -> Iterator[BinaryIO]:
    """Yield a file without a name, which disappears with the process."""
    try:
        with tempfile.TemporaryFile(prefix="genevae-") as file:
            yield file
    except OSError as error:
        raise DataError(
            f"A scratch file in {tempfile.gettempdir()} could not be written: {error.strerror or error}. "
            "Free some space, or set TMPDIR to another folder."
        ) from error


# --- text -------------------------------------------------------------------------------------------------------------


def transpose(data: str | Path, out: Path, *, overwrite: bool = False) -> None:
    """Transpose a text table. All values are copied literally.

    Memory is bounded for tables of any size. Transposing twice restores the file byte by byte, if it has no unnecessary
    quotes, no blank lines, and a line feed at the end of every line.

    Parameters
    ----------
    data
        A text table: ``.csv``, ``.tsv`` or ``.txt``, plain or compressed (``.gz``, ``.zst``).
    out
        The result: ``.csv``, ``.tsv`` or ``.txt``, plain or ``.gz``.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    DataError
        If the table is missing, damaged or not text, its rows have different lengths, or scratch files do not fit.
    RunError
        If the result cannot be written, or already exists.
    """
    path, out = Path(data), Path(out)
    require_file(path)
    if kind_of(path) not in _DELIMITERS:
        raise DataError(f"{path} is not a text table. Give .csv, .tsv or .txt, plain, .gz or .zst.")
    if kind_of(out) not in _DELIMITERS or packing_of(out) == "zst" or out.is_dir():
        raise RunError(f"{out} is not a name for a text table. Choose .csv, .tsv or .txt, plain or with .gz.")
    require_free(out, overwrite, [path])
    with staging_folder(out) as folder:
        draft = folder / "table"
        with _packed(draft, packing_of(out)) as file:
            file.writelines(_text_columns(_rows(path), _DELIMITERS[kind_of(out)], BUDGET))
        sync(draft)
        replace_with(draft, out)


@contextmanager
def _packed(path: Path, packing: str | None) -> Iterator[BinaryIO]:
    """Open a file for writing, whose bytes depend on its content alone."""
    with path.open("wb") as file:
        if packing == "gz":
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as inner:
                yield inner  # type: ignore[misc]
        else:
            yield file


def _rows(path: Path) -> Iterator[list[str]]:
    """Yield the fields of each row, and check that all rows have the same length."""
    separator = separator_of(path)
    lines = records(path, separator)
    header = split(path, *next(lines), separator)
    width = len(header)
    for number, record in lines:
        row = split(path, number, record, separator)
        if header and len(row) == width + 1:
            header, width = ["", *header], width + 1  # R omits the title of the row names
        if len(row) != width:
            raise DataError(f"{path}, line {number}, has {len(row)} fields, but the lines before have {width}.")
        if header:
            yield header
            header = []
        yield row
    if header:
        yield header


def _text_columns(rows: Iterable[list[str]], delimiter: str, n_bytes: int) -> Iterator[bytes]:
    """Yield each column as a line."""
    with _scratch() as texts, _scratch() as lengths:
        tops, heights = [], []
        for panel in _text_panels(rows, n_bytes // 2):
            tops.append(texts.tell())
            heights.append(len(panel))
            sizes = [texts.write(_line(column, delimiter)) for column in zip(*panel, strict=True)]
            lengths.write(np.array(sizes, dtype=np.int64).data)
            n_columns = len(sizes)
        per_column = texts.tell() // n_columns + _OBJECT * len(tops)
        n_at_once = max(1, n_bytes // 4 // per_column)
        for start in range(0, n_columns, n_at_once):
            width = min(n_at_once, n_columns - start)
            parts = []
            for number, top in enumerate(tops):
                lengths.seek(8 * (number * n_columns + start))
                ends = np.cumsum(np.frombuffer(lengths.read(8 * width), dtype=np.int64)).tolist()
                texts.seek(top)
                content = texts.read(ends[-1])
                parts.append([content[a:b] for a, b in itertools.pairwise([0, *ends])])
                tops[number] += ends[-1]
            separator = delimiter.encode()
            yield from ((separator.join(line) or _ALONE) + b"\n" for line in zip(*parts, strict=True))


def _text_panels(rows: Iterable[list[str]], n_bytes: int) -> Iterator[list[list[str]]]:
    """Collect rows into panels that fit in memory."""
    panel: list[list[str]] = []
    size = 0
    for row in rows:
        panel.append(row)
        size += sum(map(len, row)) + _OBJECT * len(row)
        if size > n_bytes:
            yield panel
            panel, size = [], 0
    if panel:
        yield panel


def _line(fields: Sequence[str], delimiter: str) -> bytes:
    """Format fields as the csv module does, with quotes only if needed."""
    if fields == ("",):
        return b""  # the csv module would quote it as the only field, but the row has more
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator=_END).writerow(fields)
    return line.getvalue()[: -len(_END)].encode()
