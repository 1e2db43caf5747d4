"""Where data are, and how they are to be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genevae.errors import DataError, nearest

__all__ = ["ReadOptions", "require_no_layer"]

JOINS = ("inner", "outer")
PLACES = ("auto", "memory", "disk")


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """A path, and how it is to be read.

    Parameters
    ----------
    path
        A file, a folder, or a pattern such as ``"atlas/*.h5ad"``; many files are one source.
    layer
        The layer that holds the expression, or "raw"; X by default.
    format
        The format's name, where the path does not show it.
    join
        The genes of many files: those that all have (inner), or those that any has (outer), where a gene that a file
        lacks is missing in its cells, and not zero.
    metadata
        A table (CSV, TSV, parquet) of more obs columns.
    key
        The obs column that matches the metadata's column of that name, or its first; cell names by default.
    transpose
        Whether a table holds genes in rows; told from the gene names by default.
    keep
        Whether expression is kept in memory or read from disk as it is needed; in memory where it fits, by default.
    """

    path: str | Path
    layer: str | None = None
    format: str | None = None
    join: Literal["inner", "outer"] = "inner"
    metadata: str | Path | None = None
    key: str | None = None
    transpose: bool | None = None
    keep: Literal["auto", "memory", "disk"] = "auto"

    def __post_init__(self) -> None:
        """Refuse words that mean nothing here."""
        for name, valid in (("join", JOINS), ("keep", PLACES)):
            if getattr(self, name) not in valid:
                raise DataError(f"{name} cannot be '{getattr(self, name)}'. {nearest(getattr(self, name), valid)}")
        if self.key is not None and self.metadata is None:
            raise DataError(f"A key ('{self.key}') matches a table of metadata with the cells: give the table too.")


def require_no_layer(path: Path, files: ReadOptions) -> None:
    """Raise where a layer is asked of a format that has none."""
    if files.layer is not None:
        raise DataError(f"{path} has no layers, and '{files.layer}' was asked for: leave out the layer.")
