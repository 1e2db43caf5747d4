"""Output of 10x Genomics' Cell Ranger: an HDF5 file, or a matrix in text beside the names of its cells and genes.

Both have two versions. Version 2 has one group (or folder) per genome, with ``genes``. Version 3 has one group called
``matrix``, with ``features`` of several types, of which gene expression is used. Columns are named by gene symbol, made
unique with a suffix; ``var["gene_ids"]`` has the ids.

The three files in text may have a prefix, as in GEO, and those of STARsolo, kallisto | bustools and alevin-fry are read
in the same way.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique
from scipy import sparse

from genevae.errors import DataError, shorten
from genevae.io.bounded import require_room
from genevae.io.h5ad import aliases_of, from_anndata, ignore_warnings
from genevae.io.lowlevel.dense import as_float32
from genevae.io.lowlevel.hdf5 import HDF5_ERRORS, csr_of, damaged, open_hdf5, require_room_of
from genevae.io.read_options import ReadOptions, require_no_layer
from genevae.io.source import FileSource, Source, Stamp
from genevae.io.tables.text import unpacked

__all__ = [
    "is_folder",
    "is_h5",
    "is_matrix",
    "is_tar",
    "open_folder",
    "open_h5",
    "open_tar",
    "read_folder",
    "read_h5",
    "read_tar",
]

_EXPRESSION = "Gene Expression"


@dataclass(frozen=True)
class _Names:
    """How a program names the three files, each of which may also have a prefix and end in .gz.

    Parameters
    ----------
    matrix
        The matrix.
    barcodes, features
        Names of cells and genes, the likeliest first.
    cells_in_rows
        Whether rows of the matrix are cells.
    symbols
        A further file with the symbol of each gene.
    """

    matrix: str
    barcodes: tuple[str, ...]
    features: tuple[str, ...]
    cells_in_rows: bool = False
    symbols: str | None = None

    @property
    def all(self) -> tuple[str, ...]:
        """All names."""
        return (self.matrix, *self.barcodes, *self.features, *([self.symbols] if self.symbols else []))


_BUSTOOLS = (("cells_x_genes.barcodes.txt",), ("cells_x_genes.genes.txt",), True, "cells_x_genes.genes.names.txt")
_PROGRAMS = (
    _Names(
        "matrix.mtx",
        ("barcodes.tsv", "barcodes.txt", "barcodes.csv"),
        ("features.tsv", "genes.tsv", "features.txt", "genes.txt", "features.csv", "genes.csv"),
    ),
    _Names("cells_x_genes.mtx", *_BUSTOOLS),
    _Names("cells_x_genes.total.mtx", *_BUSTOOLS),
    _Names("quants_mat.mtx", ("quants_mat_rows.txt",), ("quants_mat_cols.txt",), True),
)
"""Cell Ranger and STARsolo; kallisto | bustools (kb), perhaps the sum over spliced and unspliced; alevin-fry."""
_SPARSE = {"barcodes", "data", "indices", "indptr", "shape"}
"""The content of the group with the matrix, in both versions."""


def is_h5(path: Path) -> bool:
    """Return whether a path looks like Cell Ranger's HDF5 file."""
    return path.suffix in (".h5", ".hdf5")


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder with one matrix in text."""
    return path.is_dir() and sum(map(is_matrix, path.iterdir())) == 1


def is_matrix(path: Path) -> bool:
    """Return whether a path is a matrix in text, named as one of the programs does, perhaps with a prefix."""
    return _program_of(path) is not None and path.is_file()


def _program_of(path: Path) -> _Names | None:
    name = path.name.removesuffix(".gz")
    return next((names for names in _PROGRAMS if name.endswith(names.matrix)), None)


def is_tar(path: Path) -> bool:
    """Return whether a path looks like an archive, in which a 10x folder may be."""
    return path.is_file() and path.name.endswith((".tar", ".tar.gz", ".tgz"))


def open_h5(path: Path, files: ReadOptions) -> Source:
    """Open Cell Ranger's HDF5 file. Rows are read on demand if all features are gene expression."""
    require_no_layer(path, files)
    stamp = Stamp.of(path)
    with open_hdf5(path) as file:
        group = _group(path, file)
        try:
            require_room_of(path, group["barcodes"], group["features"] if "features" in group else group["genes"])
            var, symbols, barcodes = _features(group), _symbols(group), _text(group["barcodes"])
            n_genes, n_cells = (int(size) for size in group["shape"][:])
        except HDF5_ERRORS as error:
            raise damaged(path, error) from error
        if (n_cells, n_genes) != (len(barcodes), len(symbols)) or not _expression(
            path, var.get("feature_types"), len(symbols)
        ).all():
            return from_anndata(read_h5(path), name=str(path))
        matrix = csr_of(path, group, (n_cells, n_genes))
    with ignore_warnings():
        genes = make_index_unique(pd.Index(symbols))
    obs = pd.DataFrame(index=pd.Index(barcodes))
    return FileSource(str(path), matrix, tuple(genes), obs, aliases_of(pd.DataFrame(var)), stamps=(stamp,))


def open_folder(path: Path, files: ReadOptions) -> Source:
    """Open Cell Ranger's folder, or the matrix in it. The matrix, which is text, is read into memory."""
    require_no_layer(path, files)
    return from_anndata(read_folder(path), name=str(path))


def open_tar(path: Path, files: ReadOptions) -> Source:
    """Open Cell Ranger's folder in an archive. The matrix, which is text, is read into memory."""
    require_no_layer(path, files)
    return from_anndata(read_tar(path), name=str(path))


def read_h5(path: Path) -> AnnData:
    """Read Cell Ranger's HDF5 file, version 2 or 3.

    Raises
    ------
    DataError
        If the file is damaged, not from Cell Ranger, or has several genomes in version 2.
    """
    with open_hdf5(path) as file:
        group = _group(path, file)
        try:
            require_room_of(path, group)
            n_genes, n_cells = (int(size) for size in group["shape"][:])
            x = sparse.csr_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=(n_cells, n_genes))
            barcodes, var, symbols = _text(group["barcodes"]), _features(group), _symbols(group)
        except HDF5_ERRORS as error:
            raise damaged(path, error) from error
    return _assemble(path, x, barcodes, symbols, var)


def _group(path: Path, file: h5py.File) -> h5py.Group:
    """Return the group with the matrix: ``matrix`` in version 3, the genome in version 2."""
    candidates = [name for name, group in file.items() if isinstance(group, h5py.Group) and set(group) >= _SPARSE]
    if "matrix" in candidates:
        return file["matrix"]
    if not candidates:
        raise DataError(
            f"{path} is not a 10x file: it has no group with {', '.join(sorted(_SPARSE))}, but "
            f"{shorten(file) or 'nothing'}. If it is AnnData, rename it to end in .h5ad."
        )
    if len(candidates) > 1:
        raise DataError(
            f"{path} has several genomes: {shorten(candidates)}. Write one of them as h5ad, "
            f"for example scanpy.read_10x_h5(path, genome='{candidates[0]}').write_h5ad(...)."
        )
    return file[candidates[0]]


def _text(dataset: h5py.Dataset) -> list[str]:
    return [value.decode() for value in dataset[:]]


def _symbols(group: h5py.Group) -> list[str]:
    return _text(group["features/name"] if "features" in group else group["gene_names"])


def _features(group: h5py.Group) -> dict[str, list[str]]:
    """Read the columns of ``var``."""
    if "features" not in group:
        return {"gene_ids": _text(group["genes"])}
    columns = {"gene_ids": "id", "feature_types": "feature_type", "genome": "genome"}
    return {name: _text(group["features"][stored]) for name, stored in columns.items() if stored in group["features"]}


def read_folder(path: Path) -> AnnData:
    """Read a matrix in text with the names of its cells and genes, gzipped or not.

    Parameters
    ----------
    path
        The matrix, or a folder with one.

    Raises
    ------
    DataError
        If a file is missing or damaged, or the files do not match.
    """
    matrix = path if path.is_file() else next((entry for entry in sorted(path.iterdir()) if is_matrix(entry)), None)
    names = None if matrix is None else _program_of(matrix)
    if matrix is None or names is None:
        raise DataError(f"{path} has no {_PROGRAMS[0].matrix}. Give the folder that has it, or the file.")
    prefix = matrix.name.removesuffix(".gz").removesuffix(names.matrix)
    barcodes = _table(_find(matrix, prefix, names.barcodes))
    found = _find(matrix, prefix, names.features)
    features = _table(found)
    var = {"gene_ids": features[0].tolist()}
    symbols = features[min(1, features.shape[1] - 1)].tolist()
    if features.shape[1] > 2:
        var["feature_types"] = features[2].tolist()
    if names.symbols and (found.parent / (prefix + names.symbols)).is_file():
        symbols = _table(found.parent / (prefix + names.symbols))[0].tolist()
    _require_one_count(matrix, symbols)
    return _assemble(matrix, _in_rows(matrix, names, len(barcodes), len(symbols)), barcodes[0].tolist(), symbols, var)


def _in_rows(matrix: Path, names: _Names, n_cells: int, n_genes: int) -> sparse.csr_matrix:
    """Read a matrix as cells × genes, whichever way it is written, if the names say so."""
    x = _entries(matrix)
    turned = x.shape == (n_genes, n_cells) if names.cells_in_rows else x.shape != (n_cells, n_genes)
    return sparse.csr_matrix(x.T) if turned and x.shape == (n_genes, n_cells) else x


def _require_one_count(path: Path, genes: list[str]) -> None:
    """Raise if spliced, unspliced and ambiguous counts of a gene are columns of their own, as alevin-fry has them."""
    third = len(genes) // 3
    if third and all(name.endswith("-U") for name in genes[third : 2 * third]):
        raise DataError(
            f"{path} has spliced, unspliced and ambiguous counts of each gene ({genes[0]}, {genes[third]}, "
            f"{genes[2 * third]}). Add those that you want up, for example: "
            "pyroe.load_fry(folder, output_format='scRNA').write_h5ad('cells.h5ad')"
        )


def read_tar(path: Path) -> AnnData:
    """Read Cell Ranger's folder in a .tar or .tar.gz archive, of which only the three files are extracted.

    Raises
    ------
    DataError
        If there is no such folder in it or several, or a file is missing or damaged.
    """
    ends = tuple(name + packing for names in _PROGRAMS for name in names.all for packing in ("", ".gz"))
    try:
        with tarfile.open(path) as archive, tempfile.TemporaryDirectory() as folder:
            found = [member for member in archive if member.isfile() and member.name.endswith(ends)]
            matrices = [member.name for member in found if _program_of(Path(member.name))]
            folders = sorted({str(PurePosixPath(name).parent) for name in matrices})
            if len(matrices) != 1:
                several = f"several matrices ({shorten(matrices)})" if matrices else "no matrix.mtx"
                raise DataError(
                    f"{path} has {several}. Extract the archive (tar -xf {path}), and give one folder or matrix.mtx."
                )
            for member in found:
                require_room(f"{path} ({member.name})", member.size, path.stat().st_size)
                content = archive.extractfile(member)
                if content is not None and str(PurePosixPath(member.name).parent) == folders[0]:
                    with (Path(folder) / PurePosixPath(member.name).name).open("wb") as file:
                        shutil.copyfileobj(content, file)
            return read_folder(Path(folder))
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a .tar archive ({error}). Download it again.") from error


def _find(matrix: Path, prefix: str, names: tuple[str, ...]) -> Path:
    """Return the first of these files beside a matrix: that of the same prefix, or else the only one."""
    ends = tuple(name + packing for name in names for packing in ("", ".gz"))
    for end in ends:
        if (found := matrix.parent / (prefix + end)).is_file():
            return found
    others = sorted(entry for entry in matrix.parent.iterdir() if entry.name.endswith(ends) and entry.is_file())
    if len(others) == 1:
        return others[0]
    raise DataError(
        f"{matrix} is a 10x matrix, but none of {shorten([prefix + name for name in names], 3)} is beside it (also "
        f".gz). There are {shorten(sorted(entry.name for entry in matrix.parent.iterdir()))}. Rename the file with "
        f"these names, or link it: ln -s NAME {matrix.parent / (prefix + names[0])}"
    )


def _table(path: Path) -> pd.DataFrame:
    """Read a file of columns without a header, all fields as text and without quotes around them."""
    separator = "," if ".csv" in path.suffixes else "\t"
    try:
        with unpacked(path, whole=True) as file:
            table = pd.read_csv(file, sep=separator, header=None, dtype=str, keep_default_na=False, quoting=3)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Download it again.") from error
    return table.map(lambda text: text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text)


def _entries(path: Path) -> sparse.csr_matrix:
    """Read the matrix of genes × cells as cells × genes.

    The reader of SciPy ends the process on some damaged files; this one parses with pandas, in blocks.
    """
    try:
        with unpacked(path) as file:
            return _parsed(path, file)
    except (OSError, EOFError, ValueError, TypeError, ArithmeticError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Download it again.") from error


def _parsed(path: Path, file: BinaryIO) -> sparse.csr_matrix:
    """Parse a Matrix Market file of entries: gene, cell and value, counted from one."""
    banner = file.readline(1024).decode("latin1").lower().split()
    if banner[:3] != ["%%matrixmarket", "matrix", "coordinate"] or len(banner) != 5:
        raise ValueError("it does not begin with %%MatrixMarket matrix coordinate")
    if banner[3] not in ("integer", "unsigned-integer", "real", "pattern") or banner[4] != "general":
        raise ValueError(f"it is of the kind '{' '.join(banner[3:])}'; write it as 'integer general' or 'real general'")
    line = b"%"
    while line.startswith(b"%") or (line and not line.strip()):
        line = file.readline(2**16)
    sizes = [int(size) for size in line.split()]
    if len(sizes) != 3 or min(sizes) < 0 or max(sizes[:2]) >= 2**31:
        raise ValueError(f"it has no line of sizes: rows, columns and entries, but {line[:80]!r}")
    n_genes, n_cells, n_entries = sizes
    require_room(path, 8 * (n_entries + n_cells), path.stat().st_size)
    kinds = {"gene": np.int64, "cell": np.int64} | ({} if banner[3] == "pattern" else {"value": np.float64})
    parts, n_found = [], 0
    if n_entries:
        blocks = pd.read_csv(
            file, sep=r"\s+", header=None, names=list(kinds), dtype=kinds, chunksize=2**20, comment="%",
            na_filter=False, index_col=False, on_bad_lines="error",
        )  # fmt: skip
        for block in blocks:
            n_found += len(block)
            gene, cell = block["gene"].to_numpy() - 1, block["cell"].to_numpy() - 1
            if n_found > n_entries or min(gene.min(), cell.min()) < 0 or gene.max() >= n_genes or cell.max() >= n_cells:
                raise ValueError(
                    f"an entry lies beyond {n_genes:,} × {n_cells:,}, or there are more than {n_entries:,}"
                )
            value = block["value"].to_numpy() if "value" in kinds else np.ones(len(block))
            x = sparse.coo_matrix((value, (cell.astype(np.int32), gene.astype(np.int32))), shape=(n_cells, n_genes))
            parts.append(x)
    if n_found != n_entries:
        raise ValueError(f"it has {n_found:,} entries, and states {n_entries:,}")
    return _joined(parts, n_cells, n_genes)


def _joined(parts: list[sparse.coo_matrix], n_cells: int, n_genes: int) -> sparse.csr_matrix:
    """Join blocks of entries; repeated ones are summed."""
    if not parts:
        return sparse.csr_matrix((n_cells, n_genes))
    names = ("data", "row", "col")
    data, row, col = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return sparse.coo_matrix((data, (row, col)), shape=(n_cells, n_genes)).tocsr()


def _assemble(
    path: Path, x: sparse.csr_matrix, barcodes: list[str], symbols: list[str], var: dict[str, list[str]]
) -> AnnData:
    """Combine matrix and names, with gene expression only."""
    if x.shape != (len(barcodes), len(symbols)):
        more = (len(barcodes) - x.shape[0], len(symbols) - x.shape[1])
        header = " Does a file of names have a header? Remove its first line." if set(more) <= {0, 1} else ""
        raise DataError(
            f"{path} is inconsistent: the matrix has {x.shape[1]} genes × {x.shape[0]} cells, but there are "
            f"{len(symbols)} features and {len(barcodes)} barcodes. Are the files of one run?{header}"
        )
    kept = _expression(path, var.get("feature_types"), len(symbols))
    x = x if kept.all() else sparse.csr_matrix(x[:, kept])
    x = sparse.csr_matrix((as_float32(x.data, str(path)), x.indices, x.indptr), shape=x.shape)
    with ignore_warnings():
        names = make_index_unique(pd.Index(np.array(symbols, dtype=object)[kept]))
        table = pd.DataFrame({name: np.array(column, dtype=object)[kept] for name, column in var.items()}, index=names)
        return AnnData(x, obs=pd.DataFrame(index=pd.Index(barcodes)), var=table)


def _expression(path: Path, types: list[str] | None, n_features: int) -> Any:
    """Return which features are gene expression: all, if there are no types."""
    if types is None:
        return np.ones(n_features, dtype=bool)
    kept = np.array([kind == _EXPRESSION for kind in types], dtype=bool)
    if not kept.any():
        raise DataError(f"{path} has no '{_EXPRESSION}' features, only {shorten(sorted(set(types)))}.")
    return kept
