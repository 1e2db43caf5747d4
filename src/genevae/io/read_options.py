"""The path of data, and the options for reading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

from genevae.errors import DataError, nearest
from genevae.io.ram import parse_bytes

__all__ = ["ReadOptions", "require_no_layer"]

JOINS = ("inner", "outer")
KEEPS = ("auto", "memory", "disk")


@dataclass(frozen=True)
class ReadOptions:
    """A path, and options for reading it.

    Parameters
    ----------
    path
        A file, a folder, or a pattern such as ``"atlas/*.h5ad"``. Several files are one source.
    layer
        The layer that holds the expression, or "raw"; X by default.
    modality
        The modality of a MuData file (.h5mu) that holds the expression; the only one, or rna, by default.
    format
        Name of the format; by default detected from the path.
    join
        Genes of several files: those that all files have (inner), or those that any has (outer). A gene that a file
        lacks is then missing in its cells, not zero. With outer, a file may also lack genes of a trained model.
    metadata
        A table (CSV, TSV, parquet) whose columns are added to obs, or several tables. Each has one row per cell, or per
        value of an obs column (see key), such as a donor.
    key
        The obs column whose values identify the rows of the metadata, such as donor_id; the table has them in its
        column of the same name, or else its first. By default rows are identified by the cell names (obs_names).
    metadata_key
        The column of the metadata that identifies its rows, if it is not the first. It is compared with the obs column
        key, or else the obs column of the same name, or else the cell names. Of several tables, those without this
        column are matched by their first column with the cell names.
    transpose
        Whether a table has genes in rows; by default detected from the gene names. Of another format, whether its
        rows become columns.
    names
        Whether a table has names in its first row and column; without, rows and columns are numbered.
    gene_names
        A table of two columns, the name of a gene in the data and the name to use. Other genes keep theirs, as does a
        gene whose new name another has already.
    counts_glob
        A pattern of the names of the matrices in a folder of chunks, such as ``human_*.npz``; by default
        ``*counts*.npz``.
    metadata_glob
        A pattern of the names of their tables, such as ``human_*.pkl``; by default ``*metadata*.pkl``, .pkl.gz or
        .parquet.
        A matrix and its table have the same text in place of each ``*``, apart from words such as counts and metadata.
    max_cells_per_batch
        Cells of each batch file at most: a random sample, the same whenever the file is read; all by default.
    keep
        Keep expression in memory, or read it from disk when needed; by default in memory if it fits.
    max_memory
        The most memory that data may take in this process, such as 8G; by default what is free.
    """

    path: str | Path
    _: KW_ONLY
    layer: str | None = None
    modality: str | None = None
    format: str | None = None
    join: Literal["inner", "outer"] = "inner"
    metadata: Sequence[str | Path] | Path = ()
    key: str | None = None
    metadata_key: str | None = None
    transpose: bool | None = None
    names: bool = True
    gene_names: str | Path | None = None
    counts_glob: str | None = None
    metadata_glob: str | None = None
    max_cells_per_batch: int | None = None
    keep: Literal["auto", "memory", "disk"] = "auto"
    max_memory: str | None = None

    def __post_init__(self) -> None:
        """Check the options, and make one table a list of one."""
        given = self.metadata or ()
        object.__setattr__(self, "metadata", (given,) if isinstance(given, str | Path) else tuple(given))
        for name, valid in (("join", JOINS), ("keep", KEEPS)):
            if getattr(self, name) not in valid:
                raise DataError(f"{name} cannot be '{getattr(self, name)}'. {nearest(getattr(self, name), valid)}")
        for name in ("key", "metadata_key"):
            if (value := getattr(self, name)) is not None and not self.metadata:
                raise DataError(
                    f"{name}='{value}' matches metadata with cells, but there are no metadata. Give the table too."
                )
        if self.max_cells_per_batch is not None and self.max_cells_per_batch < 1:
            raise DataError(f"max_cells_per_batch must be 1 or more, not {self.max_cells_per_batch}.")
        if self.max_memory is not None:
            parse_bytes(self.max_memory)
        if self.has_globs and self.format not in (None, "chunks"):
            raise DataError(
                f"counts_glob and metadata_glob are for chunks, and format is '{self.format}'. Leave one out."
            )

    @property
    def metadata_tables(self) -> tuple[Path, ...]:
        """The tables of metadata."""
        given = self.metadata
        return (given,) if isinstance(given, Path) else tuple(map(Path, given))

    def to_flat(self) -> dict[str, Any]:
        """Return the options by name for a config file, where the path is ``data``."""
        options = {each.name: getattr(self, each.name) for each in fields(self)}
        options["metadata"] = [str(table) for table in self.metadata_tables] or None
        given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        return {"data": given.pop("path"), **given}

    @classmethod
    def from_flat(cls, options: Mapping[str, Any], folder: Path) -> Self:
        """Return the options of a config file that was written in a folder; others in it are left out."""
        known = {each.name: options[each.name] for each in fields(cls) if each.name in options}
        tables = known.get("metadata", ())
        known["metadata"] = [folder / table for table in ([tables] if isinstance(tables, str) else tables)]
        if "gene_names" in known:
            known["gene_names"] = folder / known["gene_names"]
        return cls(**{**known, "path": folder / options["data"]})

    @property
    def has_globs(self) -> bool:
        """Whether the names of chunks are given."""
        return self.counts_glob is not None or self.metadata_glob is not None


def require_no_layer(path: Path, files: ReadOptions) -> None:
    """Raise if a layer is given for a format without layers."""
    if files.layer is not None:
        raise DataError(f"{path} has no layers, but layer='{files.layer}' was given. Leave out the layer.")
