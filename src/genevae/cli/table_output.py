"""Tables as files, written completely or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from genevae.cli.options import say
from genevae.errors import RunError, nearest
from genevae.io.atomic import replace_with, staging_folder
from genevae.io.overwrite import require_free

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["require_picture", "require_table", "save_picture", "save_table", "write_table"]

WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    ".parquet": lambda table, path: table.to_parquet(path, index=False, engine="pyarrow"),
    ".json": lambda table, path: table.to_json(path, orient="records", double_precision=15, force_ascii=False),
}
"""How a table is written, by the suffix of its name; as JSON, a list of records."""


def require_table(path: Path, overwrite: bool, *reads: object, picture: Path | None = None) -> None:
    """Check that a table, and a picture of it if there is to be one, can be written, before the work that makes them.

    Raises
    ------
    RunError
        If a suffix is unknown, a file exists, or its folder cannot be written.
    """
    if picture is not None:
        require_picture(picture, overwrite, *reads)
    if path.suffix not in WRITERS:
        raise RunError(f"{path} cannot be written as '{path.suffix}'. {nearest(path.suffix, WRITERS)}")
    from genevae.io.write.table import require_pyarrow  # which loads anndata

    require_pyarrow(path)
    require_free(path, overwrite, reads)


def write_table(table: pd.DataFrame, path: Path, index: str) -> None:
    """Write a table atomically; row names become a column of this title, and row numbers do not."""
    import pandas as pd

    from genevae.io.storable import storable, unique

    plain = storable(table)
    if isinstance(table.index, pd.RangeIndex):
        table = plain.reset_index(drop=True)
    else:
        table = plain.reset_index(names=unique([*plain.columns, index])[-1])
    with staging_folder(path) as folder:
        WRITERS[path.suffix](table, folder / path.name)
        replace_with(folder / path.name, path)


def save_table(table: pd.DataFrame, path: Path, found: Iterable[str] = ()) -> None:
    """Write the table of a task, and print what was found and where it is."""
    write_table(table, path, str(table.index.name or "cell"))
    say(*found, f"Wrote {path}")


def require_picture(path: Path, overwrite: bool, *reads: object) -> None:
    """Check that a picture can be drawn to a path.

    Raises
    ------
    RunError
        If the suffix is unknown, the file exists, or its folder cannot be written.
    """
    if path.suffix not in {".png", ".pdf", ".svg"}:
        raise RunError(f"{path} cannot be drawn as '{path.suffix}'. There are: .png, .pdf, .svg.")
    require_free(path, overwrite, reads)


def save_picture(path: Path, draw: Callable[[Path], None]) -> None:
    """Draw a picture, completely or not at all, and print where it is."""
    with staging_folder(path) as folder:
        draw(folder / path.name)
        replace_with(folder / path.name, path)
    say(f"Wrote {path}")
