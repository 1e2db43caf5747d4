"""The formats of cells, one per file, and how to open them.

To add a format, write a file here and add it to :data:`FORMATS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from shlex import quote

import pandas as pd
from anndata import AnnData
from scipy.sparse import issparse

from genevae.errors import DataError, GeneError, LayerError, missing_path, nearest, shorten, warn
from genevae.io import batch_h5, h5ad, npz_chunks, tenx
from genevae.io.arrays import from_arrays, is_array
from genevae.io.bounded import require_regular
from genevae.io.cache import in_memory, in_memory_if_fits
from genevae.io.concat import concat_sources
from genevae.io.gene_lists import read_gene_names
from genevae.io.h5ad import from_anndata, ignore_warnings, matrix
from genevae.io.lowlevel.soundness import require_sound
from genevae.io.ram import MAX_MEMORY
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
    "expand",
    "find_format",
    "fingerprint",
    "in_memory_if_fits",
    "open_source",
    "read",
    "to_anndata",
]


@dataclass(frozen=True)
class Format:
    """A format of files or folders.

    Parameters
    ----------
    description
        Description in messages.
    fits
        Returns whether an existing path has this format.
    open
        Opens a path, reading as little of the matrix as possible.
    read
        Reads everything into an AnnData object, if the format has more content than a source.
    """

    description: str
    fits: Callable[[Path], bool]
    open: Callable[[Path, ReadOptions], Source]
    read: Callable[[Path], AnnData] | None = None


FORMATS: dict[str, Format] = {
    "h5ad": Format("AnnData file (.h5ad)", h5ad.is_h5ad, h5ad.open_h5ad, h5ad.read_h5ad),
    "zarr": Format("AnnData folder (.zarr)", h5ad.is_zarr, h5ad.open_zarr, h5ad.read_zarr),
    "h5mu": Format("MuData file (.h5mu), of which one modality is read", h5ad.is_h5mu, h5ad.open_h5mu, h5ad.read_h5mu),
    "batch": Format("folder of batch files (batch_0000.h5 …)", batch_h5.is_batch, batch_h5.open_batches),
    "10x": Format("10x HDF5 file (.h5)", tenx.is_h5, tenx.open_h5, tenx.read_h5),
    "10x-mtx": Format(
        "10x folder (matrix.mtx, barcodes.tsv, features.tsv; also of STARsolo, kb and alevin-fry)",
        lambda path: tenx.is_folder(path) or tenx.is_matrix(path),
        tenx.open_folder,
        tenx.read_folder,
    ),
    "10x-tar": Format("archive of a 10x folder (.tar, .tar.gz)", tenx.is_tar, tenx.open_tar, tenx.read_tar),
    "chunks": Format("folder of chunks (*counts*.npz, *metadata*.pkl)", npz_chunks.is_chunks, npz_chunks.open_chunks),
    "table": Format("table (.csv, .tsv, .parquet, .gct; also .gz, .zst)", tables.is_table, tables.open_table),
}
"""All formats, in the order in which they are tried."""

HDF5 = (".h5ad", ".h5mu", ".h5", ".hdf5")
"""Suffixes of HDF5 files."""
PARTS = ("h5ad", "zarr", "batch", "10x")
"""Formats of which a folder of files is one source, as is a folder of several 10x matrices."""
_PROGRAMS_FOR = {
    ".gz": "gunzip -k {path}",
    ".bz2": "bunzip2 -k {path}",
    ".xz": "unxz -k {path}",
    ".zst": "unzstd {path}",
    ".zip": "unzip {path}",
    ".7z": "7z x {path}",
    ".rar": "unrar x {path}",
    ".loom": "python -c \"import anndata; anndata.io.read_loom('{path}').write_h5ad('{stem}.h5ad')\"",
    ".rds": "in R, library(anndataR); write_h5ad(readRDS('{path}'), '{stem}.h5ad')",
    ".h5seurat": "in R, SeuratDisk::Convert('{path}', dest = 'h5ad')",
    ".xlsx": "save the sheet as {stem}.csv in the spreadsheet",
    ".xls": "save the sheet as {stem}.csv in the spreadsheet",
    ".tab": "rename it to {stem}.tsv",
    ".mtx": "name it {stem}_matrix.mtx, beside {stem}_barcodes.tsv and {stem}_features.tsv",
}
"""How files of other formats become one of ours, by suffix."""
_DEPTH, _MOST = 4, 2000
"""Levels of folders, and entries, where data are searched below a folder of unknown format."""


def open_source(data: Source | AnnData | ReadOptions | str | Path, layer: str | None = None) -> Source:
    """Open data as a source.

    Parameters
    ----------
    data
        A source, which is returned unchanged; an AnnData object, which is never modified; an array or a table of
        pandas, cells × genes; a path, which may be a folder or a pattern of several files; :class:`ReadOptions`, a path
        with options; or a list of these, whose cells are joined.
    layer
        The layer with the expression. ``"raw"`` means ``adata.raw``, unless there is a layer of that name. ``X`` by
        default.

    Raises
    ------
    DataError
        If the path does not exist, has an unknown format or is damaged; if there is no ``X`` or no such layer; if a
        layer is given for an open source; if counts are too large for float32; if the metadata do not fit the cells.
    """
    if isinstance(data, list | tuple):
        return concat_sources([open_source(each, layer) for each in data], "the given data", "inner", False)
    if is_array(data):
        data = from_arrays(data)
    if isinstance(data, AnnData):
        return from_anndata(data, layer)
    if isinstance(data, str | Path):
        data = ReadOptions(path=data)
    if isinstance(data, ReadOptions):
        if data.max_memory is not None:
            os.environ[MAX_MEMORY] = data.max_memory
        source = _with_gene_names(_open(data if layer is None else replace(data, layer=layer)), data.gene_names)
        return _with_metadata(source, data)
    if layer is not None:
        raise DataError(f"{data.name} is already open. Give layer='{layer}' when opening it.")
    return data


def open_for_model(
    data: Source | AnnData | ReadOptions | str | Path, layer: str | None, trained_on: str | None
) -> Source:
    """Open data for a trained model: where no layer is given, that which the model was trained on, if the data have it.

    Parameters
    ----------
    data, layer
        As for :func:`open_source`. The layer "X" is X, whatever the model was trained on.
    trained_on
        The layer that the model was trained on; None for X.
    """
    given = layer or (data.layer if isinstance(data, ReadOptions) else None)
    is_open = not isinstance(data, AnnData | ReadOptions | str | Path)
    if given or trained_on is None or is_open:
        return open_source(data, None if layer == "X" and not _has_layer_x(data) else layer)
    try:
        return open_source(data, trained_on)
    except LayerError:
        source = open_source(data)
    warn(f"The model was trained on the layer '{trained_on}', which {source.name} lacks: X is read.")
    return source


def _has_layer_x(data: object) -> bool:
    return isinstance(data, AnnData) and "X" in data.layers


def _open(files: ReadOptions) -> Source:
    """Open one path, or all files that it stands for."""
    if files.format is None and not files.has_globs and (paths := expand(files.path)) is not None:
        require_sound([path for path in paths if path.suffix in HDF5])
        return concat_sources([_open(replace(files, path=path)) for path in paths], str(files.path), files.join)
    name = "chunks" if files.has_globs else files.format
    fmt = _format_named(name) if name else find_format(files.path)
    path = Path(files.path)
    with _explained(path):
        if not path.exists():
            raise DataError(missing_path(path))
        require_regular(path)
        source = fmt.open(path, files)
    if files.max_cells_per_batch is not None and fmt is not FORMATS["batch"]:
        raise DataError(
            f"{path} is no batch file, and max_cells_per_batch is for batch files. Leave it out, or write batch files: "
            f"genevae data convert {path} --out BATCHES."
        )
    if files.modality is not None and fmt is not FORMATS["h5mu"]:
        raise DataError(f"{path} is no MuData file (.h5mu), and has no modalities. Leave out modality (--modality).")
    if not files.names and fmt is not FORMATS["table"]:
        raise DataError(f"{path} has names. Leave out names=False (--no-names), which is for tables of numbers alone.")
    return _transposed(source) if files.transpose and fmt is not FORMATS["table"] else source


def _transposed(source: Source) -> Source:
    """Turn rows into columns, in memory."""
    held = in_memory(source)
    obs = pd.DataFrame(dict(held.aliases), index=pd.Index(held.genes, dtype=object))
    x = held.x_ng.T
    return MemorySource(held.name, x.tocsr() if issparse(x) else x.copy(), tuple(map(str, held.obs.index)), obs)


def _with_gene_names(source: Source, path: str | Path | None) -> Source:
    """Rename genes by a table; their names before are other names of them."""
    if path is None:
        return source
    known = read_gene_names(path)
    taken: set[str] = {gene for gene in source.genes if gene not in known}
    names = []
    for gene in source.genes:
        name = known.get(gene, known.get(gene.partition(".")[0], gene))
        names.append(gene if name != gene and name in taken else name)
        taken.add(names[-1])
    if tuple(names) == source.genes:
        raise GeneError(f"{path} has none of the genes of {source.name}, such as {shorten(source.genes, 3)}.")
    return replace(source, genes=tuple(names), aliases={**source.aliases, "before": source.genes})  # type: ignore[type-var]


def expand(path: str | Path) -> list[Path] | None:
    """Return the files that match a pattern, or the files in a folder that has no format itself; None for one path."""
    path = Path(path)
    with _explained(path):
        exists = path.exists()
    if not exists and not path.is_symlink() and any(sign in str(path) for sign in "*?["):
        there = next(folder for folder in path.parents if folder.exists())  # its brackets are no pattern
        pattern = str(path.relative_to(there))
        found = sorted(there / match for match in glob(pattern, root_dir=there, recursive=True))  # noqa: PTH207 - as a shell does
        if not found:
            raise DataError(f"No file matches {path}. {missing_path(path)}")
        return found
    if not path.is_dir() or any(fmt.fits(path) for fmt in FORMATS.values()):
        return None
    found = sorted(entry for entry in path.iterdir() if not entry.name.startswith(".") and _is_part(entry))
    raw, filtered = ([entry.name for entry in found if f"{kind}_" in entry.name] for kind in ("raw", "filtered"))
    if raw and filtered:
        raise DataError(
            f"{path} has the cells of a run twice: {shorten(raw)} and {shorten(filtered)}. Give one of them, such as "
            f"{path / filtered[0]}."
        )
    return found or None


def _is_part(entry: Path) -> bool:
    """Return whether an entry of a folder is one of the files that the folder stands for."""
    if entry.name.endswith("molecule_info.h5"):  # Cell Ranger's molecules, which are no matrix
        return False
    return tenx.is_matrix(entry) or any(FORMATS[key].fits(entry) for key in PARTS)


def _format_named(name: str) -> Format:
    if name not in FORMATS:
        raise DataError(f"Unknown format '{name}'. {nearest(name, FORMATS)}")
    return FORMATS[name]


def _with_metadata(source: Source, files: ReadOptions) -> Source:
    """Join tables of metadata to the cells."""
    if not files.metadata_tables:
        return source
    tables = {str(path): read_table(path) for path in files.metadata_tables}
    obs = join_metadata(source.obs, tables, files.key, files.metadata_key)
    return replace(source, obs=obs)  # type: ignore[type-var]


def read(path: str | Path | ReadOptions, layer: str | None = None, modality: str | None = None) -> AnnData:
    """Read cells from a file or folder of any known format into memory.

    Parameters
    ----------
    path
        A file, a folder, or a pattern of several files; or ReadOptions, a path with options.
    layer
        The layer to use as ``X``. ``"raw"`` means ``adata.raw``, unless there is a layer of that name.
    modality
        The modality of a MuData file.

    Raises
    ------
    DataError
        If the path does not exist, has an unknown format or is damaged, or has no such layer.
    """
    if isinstance(path, ReadOptions):
        return to_anndata(open_source(path, layer))
    if modality is not None:
        return to_anndata(open_source(ReadOptions(path, modality=modality), layer))
    fmt = None if expand(path) else find_format(path)
    if fmt is None or fmt.read is None:
        return to_anndata(open_source(path, layer))
    adata = fmt.read(Path(path))
    if layer is None:
        return adata
    x, _ = matrix(adata, layer, str(path))
    if layer not in adata.layers:
        with ignore_warnings():
            return adata.raw.to_adata()
    adata.X = x
    return adata


def to_anndata(source: Source) -> AnnData:
    """Read all of a source into an AnnData object."""
    return AnnData(in_memory(source).x_ng, obs=source.obs.copy(), var=gene_table(source))


def find_format(path: str | Path) -> Format:
    """Find the format of a path.

    Raises
    ------
    DataError
        If the path does not exist, or no format fits.
    """
    path = Path(path)
    with _explained(path):
        if not path.exists():
            raise DataError(missing_path(path))
        require_regular(path)
        for fmt in FORMATS.values():
            if fmt.fits(path):
                return fmt
    given = "a folder" if path.is_dir() else f"a '{path.suffix}' file" if path.suffix else "a file without a suffix"
    if hint := _hint_below(path) if path.is_dir() else _hint_for(path):
        raise DataError(f"{path} is {given} that cannot be read as it is. {hint}")
    names = "; ".join(fmt.description for fmt in FORMATS.values())
    raise DataError(f"{path} is {given} of unknown format. Known formats: {names}.")


def _hint_for(path: Path) -> str | None:
    """Say how a file of a format that is not read becomes one that is."""
    suffix = path.suffix.lower()
    if suffix not in _PROGRAMS_FOR:
        return None
    how = _PROGRAMS_FOR[suffix]
    shown = str(path) if "'{path}'" in how else quote(str(path))
    how = how.format(path=shown, stem=path.name[: -len(suffix)])
    verb = "Unpack it first" if suffix in (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar") else "Convert it first"
    return f"{verb}: {how}"


def _hint_below(path: Path) -> str | None:
    """Name the data in the folders below a folder, or say what its program left out."""
    if npz_chunks.has_other_chunks(path):
        return (
            "It has .npz files and tables, as chunks have. Name the matrices and the tables of their cells by "
            '--counts-glob "PATTERN.npz" and --metadata-glob "PATTERN.pkl" (counts_glob and metadata_glob in Python).'
        )
    if (path / "quants_mat.gz").is_file():
        return (
            "It has alevin's own matrix, quants_mat.gz. Run alevin with --dumpMtx, which writes quants_mat.mtx, or "
            "convert it: vpolo.alevin.parser.read_quants_bin(folder).to_csv('cells.csv')"
        )
    found: list[str] = []
    waiting, n_seen = [(path, 0)], 0
    while waiting and n_seen < _MOST:
        folder, depth = waiting.pop(0)
        with suppress(OSError):
            for entry in sorted(entry for entry in folder.iterdir() if entry.name[0] != "."):
                n_seen += 1
                if any(fmt.fits(entry) for key, fmt in FORMATS.items() if key != "table") or (
                    entry.name == "quants_mat.gz"
                ):
                    found.append(str(entry if entry.name != "quants_mat.gz" else folder))
                elif entry.is_dir() and depth < _DEPTH:
                    waiting.append((entry, depth + 1))
    return f"There are data in folders below it. Give one of them: {shorten(found)}." if found else None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an error of the system into a message that names the path."""
    try:
        yield
    except OSError as error:
        advice = " Check the permissions." if isinstance(error, PermissionError) else ""
        raise DataError(f"{str(path)[:200]} cannot be read: {error.strerror or error}.{advice}") from error
