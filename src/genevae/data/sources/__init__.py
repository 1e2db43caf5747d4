"""Where cells come from: one file per format, and the table of formats.

To add a format, write a file here and add its line to :data:`FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anndata import AnnData

from genevae.data.sources.anndata import from_anndata, is_h5ad, is_zarr, matrix, quietly, read_h5ad, read_zarr
from genevae.data.sources.source import MemorySource, Source, fingerprint
from genevae.data.sources.tenx import is_folder, is_h5, read_folder, read_h5
from genevae.errors import DataError, nearest

__all__ = ["FORMATS", "Format", "MemorySource", "Source", "find_format", "fingerprint", "open_source", "read"]


@dataclass(frozen=True)
class Format:
    """A kind of file or folder.

    Parameters
    ----------
    name
        What messages call it.
    fits
        Whether a path, which exists, looks like one.
    read
        Reads all of it into memory.
    stream
        Opens it, at a layer, without reading the matrix. Formats without it are read into memory.
    """

    name: str
    fits: Callable[[Path], bool]
    read: Callable[[Path], AnnData]
    stream: Callable[[Path, str | None], Source] | None = None


FORMATS = (
    Format("AnnData file (.h5ad)", is_h5ad, read_h5ad),
    Format("AnnData folder (.zarr)", is_zarr, read_zarr),
    Format("10x HDF5 file (.h5)", is_h5, read_h5),
    Format("10x folder (matrix.mtx, barcodes.tsv, features.tsv)", is_folder, read_folder),
)
"""Every format, in the order in which a path is tried."""


def read(path: str | Path, layer: str | None = None) -> AnnData:
    """Read cells from a file or folder of any known format.

    Parameters
    ----------
    path
        An ``.h5ad`` file, a ``.zarr`` folder, a 10x ``.h5`` file, or a 10x folder with ``matrix.mtx``.
    layer
        The layer to put in place of ``X``; ``"raw"`` is ``adata.raw`` where no layer has that name.

    Raises
    ------
    DataError
        If the path does not exist, is of no known format or damaged, or has no such layer.
    """
    adata = find_format(path).read(Path(path))
    if layer is None:
        return adata
    x, _ = matrix(adata, layer, str(path))
    if layer not in adata.layers:
        with quietly():
            return adata.raw.to_adata()
    adata.X = x
    return adata


def open_source(data: Source | AnnData | str | Path, layer: str | None = None) -> Source:
    """Make a source of whatever holds cells.

    Parameters
    ----------
    data
        A source, which is returned as it is; an AnnData object, which is never changed; or a path, as for :func:`read`.
    layer
        The layer that holds the expression; ``"raw"`` is ``adata.raw`` where no layer has that name. ``X`` by default.

    Raises
    ------
    DataError
        As :func:`read` does; if there is no ``X``; if a layer of a source is asked; if float32 cannot hold the counts.
    """
    if isinstance(data, AnnData):
        return from_anndata(data, layer)
    if isinstance(data, str | Path):
        found = find_format(data)
        return (
            found.stream(Path(data), layer) if found.stream else from_anndata(found.read(Path(data)), layer, str(data))
        )
    if layer is not None:
        raise DataError(f"{data.name} is open already: give layer='{layer}' where it is opened.")
    return data


def find_format(path: str | Path) -> Format:
    """Find the format of a path.

    Raises
    ------
    DataError
        If there is nothing at the path, or no format fits it.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"There is no {path}. {_beside(path)}")
    for known in FORMATS:
        if known.fits(path):
            return known
    given = "a folder" if path.is_dir() else f"a '{path.suffix}' file" if path.suffix else "a file without a suffix"
    hint = " Give the folder that holds it." if path.name.startswith("matrix.mtx") else ""
    raise DataError(f"{path} is {given} of no known format.{hint} Known are: {'; '.join(f.name for f in FORMATS)}.")


def _beside(path: Path) -> str:
    """Help to find a path that is not there."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"Nor is there a folder {folder}: check the path, and where you are ({Path.cwd()})."
    return f"In {folder}: {nearest(path.name, sorted(entry.name for entry in folder.iterdir()))}"
