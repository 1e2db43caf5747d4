"""Tables as files, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from genevae.disk import drafted, put_in_place, require_free
from genevae.errors import RunError, nearest

__all__ = ["require_table", "write_table"]

WRITERS: dict[str, Callable[[pd.DataFrame, Path, str], None]] = {
    ".csv": lambda table, path, index: table.to_csv(path, index_label=index),
    ".tsv": lambda table, path, index: table.to_csv(path, index_label=index, sep="\t"),
}
"""How a table is written, by the suffix of its name."""


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
    """Write beside the place, then move there."""
    with drafted(path) as folder:
        WRITERS[path.suffix](table, folder / path.name, index)
        put_in_place(folder / path.name, path)
