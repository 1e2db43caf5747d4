"""Text tables of numbers: their columns, and their values in blocks of rows.

All values of a block are parsed as one long column, which is several times faster in pandas than thousands of columns.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.errors import DataError, shorten
from genevae.io.lowlevel.dense import as_float32
from genevae.io.tables.dtypes import MISSING, NUMBER
from genevae.io.tables.numeric_table import BLOCK, PEEK, Block, NumericTable
from genevae.io.tables.text import records, separator_of, split

__all__ = ["Layout", "blocks_of", "read_text_table", "read_unnamed_table"]

_IDS = frozenset(
    ["entrez", "entrezid", "entrez_id", "entrez_gene_id", "entrezgene", "gene_id", "geneid", "start", "end", "length"]
)
"""Titles of leading columns that describe genes, although they contain numbers."""
_ABSENT = MISSING | {"null", "NULL", "None", "n/a", "<NA>"}
"""Texts that mean a missing number."""
_UNUSED = "\x1f"
"""A separator that does not occur."""


@dataclass(frozen=True)
class Layout:
    """The layout of a text table.

    Parameters
    ----------
    path
        The file.
    separator
        Separator of fields.
    n_before
        Number of records before the first row of numbers.
    leading
        Titles of the leading text columns.
    columns
        Titles of the numeric columns.
    """

    path: Path
    separator: str
    n_before: int
    leading: tuple[str, ...]
    columns: tuple[str, ...]


def read_text_table(path: Path) -> NumericTable:
    """Read the layout of a text table from its first rows."""
    separator = separator_of(path)
    header, rows = _head(path, separator)
    n_leading = _count_leading(path, header, rows)
    titles = tuple(title or f"column {at + 1}" for at, title in enumerate(header[:n_leading]))
    layout = Layout(path, separator, 1, titles, tuple(header[n_leading:]))
    names_at = 1 if n_leading > 1 and _are_row_numbers([row[0] for row in rows]) else 0
    names = [row[names_at] for row in rows]
    _require_names(path, layout.columns, "first row")
    _require_names(path, names, "first column")
    return NumericTable(
        path,
        layout.columns,
        titles,
        names_at,
        names,
        lambda: sum(1 for _ in records(path, separator)) - 1,
        lambda: blocks_of(layout),
    )


def read_unnamed_table(path: Path) -> NumericTable:
    """Read the layout of a text table of numbers alone, whose rows and columns are numbered from one."""
    separator = separator_of(path)
    first = next(((number, record) for number, record in records(path, separator)), None)
    if first is None:
        raise DataError(f"{path} is empty: it has no rows.")
    columns = tuple(str(at + 1) for at in range(len(split(path, *first, separator))))
    layout = Layout(path, separator, 0, (), columns)

    def blocks() -> Iterator[Block]:
        n = 0
        for about, values in blocks_of(layout):
            yield [(str(n + at + 1),) for at in range(len(about))], values
            n += len(about)

    def n_rows() -> int:
        return sum(1 for _ in records(path, separator))

    return NumericTable(path, columns, ("name",), 0, ["1"], n_rows, blocks)


def _head(path: Path, separator: str) -> tuple[list[str], list[list[str]]]:
    """Read the header and the first rows, and check that they have the same number of fields."""
    header: list[str] | None = None
    rows: list[list[str]] = []
    size = 0
    for number, record in islice(records(path, separator), PEEK):
        fields = split(path, number, record, separator)
        if header is None:
            header = fields
            continue
        if not rows and len(fields) == len(header) + 1:
            header.insert(0, "")  # R omits the title of the row names
        if len(fields) != len(header):
            raise _wrong_width(path, number, len(fields), len(header))
        rows.append(fields)
        size += len(record)
        if size > BLOCK // 4:
            break
    if header is None or not rows:
        raise DataError(f"{path} is empty: it has no rows below the header ({shorten(header or [])}).")
    return header, rows


def _wrong_width(path: Path, number: int, given: int, expected: int) -> DataError:
    return DataError(
        f"{path}, line {number}, has {given} fields where the header has {expected}. The file is truncated or damaged."
    )


def _count_leading(path: Path, header: list[str], rows: list[list[str]]) -> int:
    """Count the columns before the numbers: the names, and further columns of mostly text."""
    for at in range(1, len(header)):
        values = [row[at] for row in rows if row[at] not in _ABSENT]
        n_text = sum(not _is_number(value) for value in values)
        if n_text * 2 <= len(values) and header[at].lower() not in _IDS:
            return at
    shown = rows[0][-1]
    raise DataError(
        f"{path} has no column of numbers after the names: its {len(header)} columns are {shorten(header)}, and the "
        f"last starts with '{shown}'. Are the fields separated by commas (.csv) or tabs (.tsv), with decimal points?"
    )


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text.strip()) is not None or text.strip().lower().lstrip("+-") in ("inf", "infinity")


def _are_row_numbers(names: list[str]) -> bool:
    """Return whether names are 0, 1, 2… or 1, 2, 3…, as in a table without row names."""
    numbers = list(map(str, range(len(names) + 1)))
    return names in (numbers[:-1], numbers[1:])


def _require_names(path: Path, names: tuple[str, ...] | list[str], where: str) -> None:
    """Raise if names look like values: numbers that are repeated or not integers."""
    if not all(name in MISSING or _is_number(name) for name in names):
        return
    if len(set(names)) < len(names) or not all(name.strip().lstrip("-").isdigit() for name in names):
        raise DataError(
            f"{path} has numbers ({shorten(names, 3)}) in its {where}, where names are expected. Add the names of "
            "samples and genes."
        )


def blocks_of(layout: Layout, n_rows: int | None = None) -> Iterator[Block]:
    """Read all rows in blocks.

    Raises
    ------
    DataError
        If the file is damaged, a row has more or fewer fields, a value is not a number, or there are not ``n_rows``.
    """
    about: list[tuple[str, ...]] = []
    texts: list[str] = []
    numbers: list[int] = []
    size = n_read = 0
    for number, record in islice(records(layout.path, layout.separator), layout.n_before, None):
        leading, values = _split_row(layout, number, record)
        about.append(leading)
        texts.append(values)
        numbers.append(number)
        size += len(values)
        n_read += 1
        if size > BLOCK:
            yield about, _parse(layout, numbers, texts)
            about, texts, numbers, size = [], [], [], 0
    if about:
        yield about, _parse(layout, numbers, texts)
    if n_rows not in (None, n_read):
        raise DataError(f"{layout.path} has {n_read} rows, but its second line states {n_rows}. Is it truncated?")


def _split_row(layout: Layout, number: int, record: str) -> tuple[tuple[str, ...], str]:
    """Split off the leading fields, and put each of the others on its own line."""
    separator, n_leading, n_columns = layout.separator, len(layout.leading), len(layout.columns)
    if '"' not in record:
        *leading, rest = record.split(separator, n_leading)
    else:
        leading, rest = _split_quoted(layout, number, record)
    n = len(leading) + rest.count(separator) + 1
    if n != n_leading + n_columns:
        raise _wrong_width(layout.path, number, n, n_leading + n_columns)
    return tuple(leading), rest.replace(separator, "\n")


def _split_quoted(layout: Layout, number: int, record: str) -> tuple[list[str], str]:
    """Split off leading fields that may be quoted; return the rest without quotes."""
    separator, n_leading = layout.separator, len(layout.leading)
    field = re.compile(rf'(?:"([^"]*)"|([^{separator}"]*)){separator}')
    leading: list[str] = []
    at = 0
    while len(leading) < n_leading and (found := field.match(record, at)):
        leading.append(found[1] if found[1] is not None else found[2])
        at = found.end()
    if len(leading) == n_leading and '"' not in record[at:]:
        return leading, record[at:]
    fields = split(layout.path, number, record, separator)
    values = [re.sub(rf"[{separator}\r\n]", " ", value) for value in fields[n_leading:]]
    return fields[:n_leading], separator.join(values)


def _parse(layout: Layout, numbers: list[int], texts: list[str]) -> NDArray[np.float32]:
    """Convert the values of a block of rows."""
    text = "\n".join([*texts, ""])
    try:
        values = pd.read_csv(
            io.StringIO(text),
            sep=_UNUSED,
            header=None,
            names=["value"],
            index_col=False,
            dtype=np.float64,
            na_values=sorted(_ABSENT),
            keep_default_na=False,
            skip_blank_lines=False,
            quoting=3,
        )["value"].to_numpy()
    except (ValueError, OverflowError) as error:
        raise _not_a_number(layout, numbers, text, error) from error
    if len(values) != len(texts) * len(layout.columns):
        raise _not_a_number(layout, numbers, text, None)
    block = values.reshape(len(texts), len(layout.columns))
    return as_float32(block, f"{layout.path} (lines {numbers[0]} to {numbers[-1]})")


def _not_a_number(layout: Layout, numbers: list[int], text: str, error: Exception | None) -> DataError:
    """Return the error for the first value that is not a number."""
    values = pd.Series(text.split("\n")[:-1], dtype=object)
    bad = pd.to_numeric(values, errors="coerce").isna() & ~values.str.strip().isin(_ABSENT)
    if not bad.any():
        return DataError(f"{layout.path}, lines {numbers[0]} to {numbers[-1]}, cannot be read as numbers ({error}).")
    at = int(np.argmax(bad))
    row, column = divmod(at, len(layout.columns))
    return DataError(
        f"{layout.path}, line {numbers[row]}, has '{values[at][:40]}' in column '{layout.columns[column]}', where a "
        "number is expected. Correct it, or leave it empty or write NA if it is missing."
    )
