"""Text tables of numbers: their columns, and their values in blocks of rows.

All values of a block are parsed as one long column, which is several times faster in pandas than thousands of columns.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.errors import DataError, shorten
from genevae.io.lowlevel.dense import as_float32
from genevae.io.tables.dtypes import MISSING, NUMBER
from genevae.io.tables.numeric_table import BLOCK, PEEK, Block, NumericTable
from genevae.io.tables.orientation import is_likely_gene, is_summary
from genevae.io.tables.text import read_header, records, separator_of, split, without_empty_end

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
    titles
        Titles of all columns.
    text
        Positions of the columns of text: the names, and what describes the rows. All others are numbers.
    """

    path: Path
    separator: str
    n_before: int
    titles: tuple[str, ...]
    text: tuple[int, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Positions of the columns of numbers."""
        return tuple(sorted(set(range(len(self.titles))) - set(self.text)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of the columns of numbers."""
        return tuple(self.titles[at] for at in self.numbers)


def read_text_table(path: Path) -> NumericTable:
    """Read the layout of a text table from its first rows."""
    separator = separator_of(path)
    header, rows = _head(path, separator)
    text = _text_columns(path, header, rows)
    titles = tuple(title or f"column {at + 1}" if at in text else title for at, title in enumerate(header))
    layout = Layout(path, separator, 1, titles, text)
    names_at = 1 if len(text) > 1 and text[1] == 1 and _are_row_numbers([row[0] for row in rows]) else 0
    names = [row[names_at] for row in rows]
    _require_header(path, header[0], layout.columns, names)
    _require_names(path, layout.columns, "first row")
    _require_names(path, names, "first column")
    return NumericTable(
        path,
        layout.columns,
        tuple(titles[at] for at in text),
        names_at,
        names,
        lambda: sum(1 for _ in records(path, separator)) - 1,
        lambda as_text: blocks_of(layout, as_text),
    )


def read_unnamed_table(path: Path) -> NumericTable:
    """Read the layout of a text table of numbers alone, whose rows and columns are numbered from one."""
    separator = separator_of(path)
    first = next(((number, record) for number, record in records(path, separator)), None)
    if first is None:
        raise DataError(f"{path} is empty: it has no rows.")
    columns = tuple(str(at + 1) for at in range(len(split(path, *first, separator))))
    layout = Layout(path, separator, 0, columns, ())

    def blocks(as_text: Sequence[int]) -> Iterator[Block]:
        n = 0
        for about, values in blocks_of(layout, as_text):
            yield [(str(n + at + 1),) for at in range(len(about))], values
            n += len(about)

    def n_rows() -> int:
        return sum(1 for _ in records(path, separator))

    return NumericTable(path, columns, ("name",), 0, ["1"], n_rows, blocks)


def _head(path: Path, separator: str) -> tuple[list[str], list[list[str]]]:
    """Read the header and the first rows, and check that they have the same number of fields."""
    header = read_header(path, separator)
    rows: list[list[str]] = []
    size = 0
    for number, record in islice(records(path, separator), 1, PEEK):
        rows.append(_fields(path, separator, len(header), number, record))
        size += len(record)
        if size > BLOCK // 4:
            break
    return header, rows


def _fields(path: Path, separator: str, n_columns: int, number: int, record: str) -> list[str]:
    """Split a record, and check that it has as many fields as the header."""
    fields = split(path, number, record, separator)
    if len(fields) > n_columns:
        fields = split(path, number, without_empty_end(record, separator, len(fields), n_columns), separator)
    if len(fields) != n_columns:
        raise DataError(
            f"{path}, line {number}, has {len(fields)} fields where the header has {n_columns}. The file is truncated "
            "or damaged."
        )
    return fields


def _text_columns(path: Path, header: list[str], rows: list[list[str]]) -> tuple[int, ...]:
    """Find the columns of text: the names, further columns of mostly text after them, and others of mostly letters."""
    first = next((at for at in range(1, len(header)) if not _is_text(header[at], [row[at] for row in rows])), None)
    if first is None:
        raise DataError(
            f"{path} has no column of numbers after the names: its {len(header)} columns are {shorten(header)}, and "
            f"the last starts with '{rows[0][-1]}'. Are the fields separated by commas (.csv) or tabs (.tsv), with "
            "decimal points?"
        )
    later = (at for at in range(first + 1, len(header)) if not any(_is_number(row[at]) for row in rows[:3]))
    of_letters = (at for at in later if _is_text("", [row[at] for row in rows], with_letters=True))
    return (*range(first), *of_letters)


def _is_text(title: str, values: list[str], with_letters: bool = False) -> bool:
    """Return whether most values of a column are no numbers; with ``with_letters``, whether they start with letters."""
    if title.lower() in _IDS:
        return True
    present = [value for value in values if value not in _ABSENT]
    n_text = sum(not _is_number(value) and (not with_letters or value[:1].isalpha()) for value in present)
    return n_text * 2 > len(present)


def _require_header(path: Path, first: str, titles: tuple[str, ...], names: list[str]) -> None:
    """Raise if the first row is no header but already a gene, as in the files of HTSeq and STAR."""
    is_gene = is_likely_gene(first) or is_summary(first) or any(map(is_summary, names))
    if is_gene and all(map(_is_number, titles)):
        samples = "".join(f"\\tsample{at + 1}" for at in range(min(len(titles), 3)))
        raise DataError(
            f"{path} has no header: its first line is '{first}' with numbers ({shorten(titles, 3)}). Add a line with "
            f"the names of the samples: (printf 'gene{samples}\\n'; cat {path.name}) > with_header.tsv"
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
            "samples and genes, or leave names out with --no-names (names=False in Python) if the table has none."
        )


def blocks_of(layout: Layout, as_text: Sequence[int] = (), n_rows: int | None = None) -> Iterator[Block]:
    """Read all rows in blocks.

    Parameters
    ----------
    layout
        The layout of the file.
    as_text
        Columns of numbers, by their position among those, that are read as text instead, after the other text.
    n_rows
        The number of rows, if the file states it.

    Raises
    ------
    DataError
        If the file is damaged, a row has more or fewer fields, a value is not a number, or there are not ``n_rows``.
    """
    if as_text:
        further = tuple(layout.numbers[at] for at in as_text)
        layout = replace(layout, text=(*layout.text, *further))
    about: list[tuple[str, ...]] = []
    texts: list[str] = []
    numbers: list[int] = []
    size = n_read = 0
    text_of, values_of = _pick(layout.text), _pick(layout.numbers)
    for number, record in islice(records(layout.path, layout.separator), layout.n_before, None):
        fields = _fields(layout.path, layout.separator, len(layout.titles), number, record)
        values = values_of(fields)
        if '"' in record:
            values = [re.sub(r"[\r\n]", " ", value) for value in values]
        about.append(tuple(text_of(fields)))
        texts.append("\n".join(values))
        numbers.append(number)
        size += len(texts[-1])
        n_read += 1
        if size > BLOCK:
            yield about, _parse(layout, numbers, texts)
            about, texts, numbers, size = [], [], [], 0
    if about:
        yield about, _parse(layout, numbers, texts)
    if n_rows not in (None, n_read):
        raise DataError(f"{layout.path} has {n_read} rows, but its second line states {n_rows}. Is it truncated?")


def _pick(positions: tuple[int, ...]) -> Callable[[list[str]], Sequence[str]]:
    """Return a function that picks the fields at these positions."""
    part = slice(positions[0], positions[-1] + 1) if positions else slice(0)
    if len(positions) == part.stop - (part.start or 0):
        return lambda fields: fields[part]
    return lambda fields: [fields[at] for at in positions]


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
        "number is expected. Correct it, or write NA if it is missing. If the line or the column describes samples, "
        "put it into a table of its own and give that with --metadata."
    )
