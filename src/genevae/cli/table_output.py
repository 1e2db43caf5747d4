"""Tables as files, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from genevae.errors import RunError, nearest
from genevae.io.atomic import replace_with, require_free, staging_folder

__all__ = ["require_table", "write_table"]

WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    ".json": lambda table, path: table.to_json(path, orient="records", double_precision=15, force_ascii=False),
}
"""How a table is written, by the suffix of its name; as JSON, a list of records."""


def require_table(path: Path, overwrite: bool) -> None:
    """Make sure that a table can be written to a place, before the work that makes it.

    Raises
    ------
    RunError
        If the suffix is unknown, a file is there already, or its folder cannot be written to.
    """
    if path.suffix not in WRITERS:
        raise RunError(f"{path} cannot be written as '{path.suffix}'. {nearest(path.suffix, WRITERS)}")
    require_free(path, overwrite, [])


def write_table(table: pd.DataFrame, path: Path, index: str) -> None:
    """Write beside the place, then move there; row names become a column of this title, and row numbers do not."""
    if not isinstance(table.index, pd.RangeIndex):
        table = table.reset_index(names=index)
    with staging_folder(path) as folder:
        WRITERS[path.suffix](table, folder / path.name)
        replace_with(folder / path.name, path)
