"""The main array of a result as a table, row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from genevae.errors import RunError
from genevae.io.atomic import replace_with, staging_folder, sync
from genevae.io.storable import storable, unique
from genevae.io.write.anndata import Block

__all__ = ["PARQUET", "TABLES", "require_pyarrow", "write_table"]

TABLES = {".csv": ",", ".tsv": "\t"}
"""Suffixes of text tables, and their separators."""
PARQUET = ".parquet"
"""The suffix of a table by columns."""


def require_pyarrow(path: Path) -> None:
    """Check that a table can be written as parquet, where that is its suffix.

    Raises
    ------
    RunError
        If pyarrow is not installed.
    """
    if path.suffix == PARQUET and find_spec("pyarrow") is None:
        raise RunError(f"To write {path}, pyarrow is needed: pip install 'genevae[formats]'. Or choose .csv.")


def write_table(path: Path, blocks: Iterable[Block], obs: pd.DataFrame, var: pd.DataFrame) -> None:
    """Write the first element of each block as a table, atomically.

    The first column has the names of the rows. The others have the names of genes, or else ``latent_1``, ``latent_2``….

    Parameters
    ----------
    path
        A name ending in ``.csv``, ``.tsv`` or ``.parquet``.
    blocks
        Blocks of rows, all with the same elements.
    obs, var
        The names of rows and columns.

    Raises
    ------
    RunError
        If it cannot be written. No partial result is left.
    """
    names = storable(obs[[]]).index
    with staging_folder(path) as folder:
        draft = folder / path.name
        (_write_parquet if path.suffix == PARQUET else _write_text)(draft, _parts(blocks, names, var))
        sync(draft)
        replace_with(draft, path)


def _parts(blocks: Iterable[Block], names: pd.Index, var: pd.DataFrame) -> Iterator[tuple[list[str], Any, Any]]:
    """Yield the names of the columns, and the names and values of the rows, for each block."""
    start = 0
    for block in blocks:
        rows = block[next(name for name in block if not name.startswith("obs/"))]
        x = rows.toarray() if sparse.issparse(rows) else np.asarray(rows)
        columns = storable(var[[]]).index if len(var) else [f"latent_{k + 1}" for k in range(x.shape[1])]
        yield unique(["name", *map(str, columns)]), names[start : start + len(x)], x
        start += len(x)


def _write_text(path: Path, parts: Iterable[tuple[list[str], Any, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, delimiter=TABLES[path.suffix], lineterminator="\n")
        for number, (header, names, x) in enumerate(parts):
            if not number:
                out.writerow(header)
            out.writerows([name, *row] for name, row in zip(names, x.tolist(), strict=True))


def _write_parquet(path: Path, parts: Iterable[tuple[list[str], Any, Any]]) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    with ExitStack() as stack:
        out = None
        for header, names, x in parts:
            table = pyarrow.table([pyarrow.array(names, pyarrow.string()), *x.T], names=header)
            out = out or stack.enter_context(ParquetWriter(path, table.schema))
            out.write_table(table)
