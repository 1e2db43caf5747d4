"""GCT, the Broad Institute's text table of genes × samples.

Version 1.2 has these lines: ``#1.2``; the numbers of rows and columns; a header ``Name Description sample…``; the rows.
In version 1.3, the second line also has the number of columns that describe rows, and the number of rows, right below
the header, that describe columns. Fields are separated by tabs.
Reference: https://software.broadinstitute.org/software/igv/GCT; https://clue.io/connectopedia/gct_format.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from genevae.errors import DataError, shorten
from genevae.io.tables.delimited import Layout, blocks_of
from genevae.io.tables.dtypes import typed
from genevae.io.tables.numeric_table import NumericTable
from genevae.io.tables.text import records, split

__all__ = ["read_gct_table"]

_VERSIONS = {"#1.2": 2, "#1.3": 4}
"""Number of fields in the second line."""
_ABSENT = frozenset(["na", "-666"])
"""Further texts that mean a missing value in version 1.3."""


def read_gct_table(path: Path) -> NumericTable:
    """Read the lines above the numbers of a GCT file.

    Raises
    ------
    DataError
        If it is not GCT, or inconsistent.
    """
    lines = [split(path, number, record, "\t") for number, record in islice(records(path, "\t"), 3)]
    if len(lines) < 3 or lines[0][0].strip() not in _VERSIONS:
        start = lines[0][0] if lines else ""
        raise DataError(
            f"{path} is not a GCT file: it starts with '{start[:40]}', but '#1.2' or '#1.3', two lines above the "
            "header, is expected. If it is a plain table, rename it to end in .tsv."
        )
    sizes = _sizes(path, lines[1], _VERSIONS[lines[0][0].strip()])
    header = lines[2]
    n_leading = 1 + sizes[2] if len(sizes) == 4 else len(header) - sizes[1]
    if len(header) != n_leading + sizes[1] or n_leading < 1 or not sizes[1]:
        raise DataError(
            f"{path} is inconsistent: its second line states {sizes[1]} samples, but its header has "
            f"{len(header)} columns ({shorten(header, 3)}). Correct the second line, or download it again."
        )
    return _table(path, header, n_leading, sizes)


def _sizes(path: Path, fields: list[str], n: int) -> list[int]:
    """Parse the second line: rows, columns and, in version 1.3, columns about rows and rows about columns."""
    given = [field.strip() for field in fields if field.strip()]
    if len(given) != n or not all(field.isdecimal() and len(field) < 10 for field in given):
        raise DataError(f"{path} has '{' '.join(given)[:40]}' in its second line, where {n} integers are expected.")
    return list(map(int, given))


def _table(path: Path, header: list[str], n_leading: int, sizes: list[int]) -> NumericTable:
    n_about = sizes[3] if len(sizes) == 4 else 0
    titles = tuple("symbol" if title == "Description" else title for title in header[:n_leading])
    layout = Layout(path, "\t", 3 + n_about, (*titles, *header[n_leading:]), tuple(range(n_leading)))
    names_at = titles.index("Name") if "Name" in titles else 0  # GTEx has tables with a column of row numbers before it
    return NumericTable(
        path,
        layout.columns,
        titles,
        names_at,
        (),
        lambda: sizes[0],
        lambda text: blocks_of(layout, text, sizes[0]),
        genes_in_rows=True,
        about_columns=_about_columns(layout, n_about),
    )


def _about_columns(layout: Layout, n_about: int) -> pd.DataFrame:
    """Read the rows that describe the columns."""
    about = {}
    for number, record in islice(records(layout.path, "\t"), 3, 3 + n_about):
        fields = split(layout.path, number, record, "\t")
        if len(fields) != len(layout.titles):
            raise DataError(f"{layout.path}, line {number}, has {len(fields)} fields, unlike the header.")
        values = ["" if value.lower() in _ABSENT else value for value in fields[len(layout.text) :]]
        about[fields[0]] = typed(np.array(values, dtype=object))
    return pd.DataFrame(about, index=range(len(layout.columns)))
