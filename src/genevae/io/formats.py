"""Where cells come from: one file per format, and the table of formats.

To add a format, write a file here and add its line to :data:`FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path

from anndata import AnnData

from genevae.errors import DataError, nearest
from genevae.io import batch_h5, h5ad, npz_chunks, tenx
from genevae.io.cache import in_memory, settle
from genevae.io.concat import stack
from genevae.io.h5ad import from_anndata, matrix, quietly
from genevae.io.read_options import ReadOptions
from genevae.io.source import FileSource, MemorySource, Source, fingerprint, gene_table
from genevae.io.tables import open_table as tables
from genevae.io.tables.metadata import join_metadata, read_table

__all__ = [
    "FORMATS",
    "FileSource",
    "Format",
    "MemorySource",
    "ReadOptions",
    "Source",
    "find_format",
    "fingerprint",
    "open_source",
    "read",
    "settle",
    "to_anndata",
]


@dataclass(frozen=True)
class Format:
    """A kind of file or folder.

    Parameters
    ----------
    description
        What messages call it.
    fits
        Whether a path, which exists, looks like one.
    open
        Opens it without reading more of the matrix than it must.
    read
        Reads all that it holds as AnnData, where that is more than a source can say.
    """

    description: str
    fits: Callable[[Path], bool]
    open: Callable[[Path, ReadOptions], Source]
    read: Callable[[Path], AnnData] | None = None


FORMATS: dict[str, Format] = {
    "h5ad": Format("AnnData file (.h5ad)", h5ad.is_h5ad, h5ad.open_h5ad, h5ad.read_h5ad),
    "zarr": Format("AnnData folder (.zarr)", h5ad.is_zarr, h5ad.open_zarr, h5ad.read_zarr),
    "batch": Format("folder of batch files (batch_0000.h5 …)", batch_h5.is_batch, batch_h5.open_batches),
    "10x": Format("10x HDF5 file (.h5)", tenx.is_h5, tenx.open_h5, tenx.read_h5),
    "10x-mtx": Format(
        "10x folder (matrix.mtx, barcodes.tsv, features.tsv)", tenx.is_folder, tenx.open_folder, tenx.read_folder
    ),
    "chunks": Format("folder of chunks (*counts*.npz, *metadata*.pkl)", npz_chunks.is_chunks, npz_chunks.open_chunks),
    "table": Format("table (.csv, .tsv, .parquet, .gct; also .gz, .zst)", tables.is_table, tables.open_table),
}
"""Every format, in the order in which a path is tried."""

PARTS = ("h5ad", "zarr", "batch", "10x")
"""The formats whose files, together in a folder, are one source."""


def open_source(data: Source | AnnData | ReadOptions | str | Path, layer: str | None = None) -> Source:
    """Make a source of whatever holds cells.

    Parameters
    ----------
    data
        A source, which is returned as it is; an AnnData object, which is never changed; a path, which may be a folder
        or a pattern of many files; or :class:`ReadOptions`, a path with more words on how to read it.
    layer
        The layer that holds the expression; ``"raw"`` is ``adata.raw`` where no layer has that name. ``X`` by default.

    Raises
    ------
    DataError
        If the path does not exist, is of no known format or damaged; if there is no ``X`` or no such layer; if a layer
        of a source is asked; if float32 cannot hold the counts; if the metadata do not fit the cells.
    """
    if isinstance(data, AnnData):
        return from_anndata(data, layer)
    if isinstance(data, str | Path):
        data = ReadOptions(path=data)
    if isinstance(data, ReadOptions):
        return _with_metadata(_open(data if layer is None else replace(data, layer=layer)), data)
    if layer is not None:
        raise DataError(f"{data.name} is open already: give layer='{layer}' where it is opened.")
    return data


def _open(files: ReadOptions) -> Source:
    """Open one path or, where it stands for many files, all of them."""
    if files.format is None and (paths := _many(files.path)) is not None:
        return stack([_open(replace(files, path=path)) for path in paths], str(files.path), files.join)
    known = _named(files.format) if files.format else find_format(files.path)
    path = Path(files.path)
    if not path.exists():
        raise DataError(f"There is no {path}. {_beside(path)}")
    try:
        return known.open(path, files)
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check that you may read it.") from error


def _many(path: str | Path) -> list[Path] | None:
    """Return the files that a pattern matches, or that a folder of no format of its own holds; None for one path."""
    path = Path(path)
    if not path.exists() and any(sign in str(path) for sign in "*?["):
        found = sorted(Path(match) for match in glob(str(path), recursive=True))  # noqa: PTH207 - the pattern may be absolute
        if not found:
            raise DataError(f"No file matches {path}. {_beside(path)}")
        return found
    if not path.is_dir() or any(known.fits(path) for known in FORMATS.values()):
        return None
    found = sorted(
        entry
        for entry in path.iterdir()
        if not entry.name.startswith(".") and any(f.fits(entry) for key, f in FORMATS.items() if key in PARTS)
    )
    return found or None


def _named(name: str) -> Format:
    if name not in FORMATS:
        raise DataError(f"There is no format '{name}'. {nearest(name, FORMATS)}")
    return FORMATS[name]


def _with_metadata(source: Source, files: ReadOptions) -> Source:
    """Join the columns of a table to the cells."""
    if files.metadata is None:
        return source
    obs = join_metadata(source.obs, read_table(files.metadata), files.key, str(files.metadata))
    return replace(source, obs=obs)  # type: ignore[type-var]


def read(path: str | Path, layer: str | None = None) -> AnnData:
    """Read cells from a file or folder of any known format into memory.

    Parameters
    ----------
    path
        A file, a folder, or a pattern of many files.
    layer
        The layer to put in place of ``X``; ``"raw"`` is ``adata.raw`` where no layer has that name.

    Raises
    ------
    DataError
        If the path does not exist, is of no known format or damaged, or has no such layer.
    """
    known = None if _many(path) else find_format(path)
    if known is None or known.read is None:
        return to_anndata(open_source(path, layer))
    adata = known.read(Path(path))
    if layer is None:
        return adata
    x, _ = matrix(adata, layer, str(path))
    if layer not in adata.layers:
        with quietly():
            return adata.raw.to_adata()
    adata.X = x
    return adata


def to_anndata(source: Source) -> AnnData:
    """Read all of a source into memory."""
    held = in_memory(source)
    return AnnData(held.x_ng, obs=source.obs.copy(), var=gene_table(source))


def find_format(path: str | Path) -> Format:
    """Find the format of a path.

    Raises
    ------
    DataError
        If there is nothing at the path, or no format fits it.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise DataError(f"There is no {path}. {_beside(path)}")
        for known in FORMATS.values():
            if known.fits(path):
                return known
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check that you may read it.") from error
    given = "a folder" if path.is_dir() else f"a '{path.suffix}' file" if path.suffix else "a file without a suffix"
    hint = " Give the folder that holds it." if path.name.startswith("matrix.mtx") else ""
    names = "; ".join(known.description for known in FORMATS.values())
    raise DataError(f"{path} is {given} of no known format.{hint} Known are: {names}.")


def _beside(path: Path) -> str:
    """Help to find a path that is not there."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"Nor is there a folder {folder}: check the path, and where you are ({Path.cwd()})."
    return f"In {folder}: {nearest(path.name, sorted(entry.name for entry in folder.iterdir()))}"
