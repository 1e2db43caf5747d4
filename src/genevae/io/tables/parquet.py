"""Tables of numbers in parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.errors import DataError, shorten
from genevae.io.lowlevel.dense import as_float32
from genevae.io.tables.metadata import reading_parquet
from genevae.io.tables.numeric_table import BLOCK, PEEK, Block, NumericTable

__all__ = ["read_parquet_table"]


def read_parquet_table(path: Path) -> NumericTable:
    """Read the columns of a parquet file. Row names are its pandas index, or its first column if that is text.

    Raises
    ------
    DataError
        If it is damaged, or has no row names.
    """
    with reading_parquet(path, by_blocks=True):
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path) as file:
            schema = file.schema_arrow
            at_text = _text_columns(path, schema)
            at_values = [at for at in range(len(schema)) if at not in at_text]
            _require_numbers(path, [schema.field(at) for at in at_values])
            first = next(file.iter_batches(PEEK, columns=[schema.names[at_text[0]]]), None)
            n_rows = file.metadata.num_rows
            names = _texts(first.column(0)) if first is not None else []
    columns = tuple(schema.names[at] for at in at_values)
    titles = tuple(schema.names[at] for at in at_text)

    def blocks(text: Sequence[int]) -> Iterator[Block]:
        as_text = [at_values[at] for at in text]
        return _blocks(path, [*at_text, *as_text], [at for at in at_values if at not in as_text])

    return NumericTable(path, columns, titles, 0, names, lambda: n_rows, blocks)


def _text_columns(path: Path, schema: Any) -> list[int]:
    """Return the column of names, and all other columns of text."""
    stored = (schema.pandas_metadata or {}).get("index_columns", [])
    index = [schema.names.index(name) for name in stored if isinstance(name, str) and name in schema.names]
    rest = [at for at in range(len(schema)) if at not in index]
    text = [at for at in rest if _is_text(schema.field(at).type)]
    if not index and rest[:1] != text[:1]:
        raise DataError(
            f"{path} has no row names: its first column ({shorten(schema.names, 1)}) is not text. Write it with its "
            "index, or with the names as first column."
        )
    return index + text


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return any(is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_string_view))


def _require_numbers(path: Path, fields: list[Any]) -> None:
    from pyarrow import types

    if not fields:
        raise DataError(f"{path} has no numbers: all its columns are text.")
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    for field in fields:
        if not any(test(field.type) for test in tests):
            raise DataError(
                f"{path} has {field.type} in column '{field.name}', where numbers or text are expected. Convert it."
            )


def _texts(column: Any) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _blocks(path: Path, at_text: list[int], at_values: list[int]) -> Iterator[Block]:
    """Read all rows in blocks."""
    from pyarrow.parquet import ParquetFile

    with reading_parquet(path, by_blocks=True), ParquetFile(path) as file:
        for batch in file.iter_batches(max(1, BLOCK // (4 * len(at_values)))):
            about = list(zip(*(_texts(batch.column(at)) for at in at_text), strict=True))
            values = np.empty((batch.num_rows, len(at_values)), dtype=np.float32)
            for column, at in enumerate(at_values):
                values[:, column] = _numbers(batch.column(at), f"{path} (column '{batch.schema.names[at]}')")
            yield about, values


def _numbers(column: Any, name: str) -> NDArray[np.float32]:
    """Convert a column. Missing values become NaN."""
    import pyarrow

    if pyarrow.types.is_decimal(column.type) or pyarrow.types.is_boolean(column.type):
        column = column.cast(pyarrow.float64())
    return as_float32(column.to_numpy(zero_copy_only=False), name)
