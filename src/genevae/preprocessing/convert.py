"""Conversion of data of any format into one store or a folder of files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from genevae.data.sampler import BUFFER, InOrder, Shuffled
from genevae.errors import DataError, nearest
from genevae.io.atomic import replace_with, staging_folder, sync
from genevae.io.batch_h5 import batch_name, write_batch, write_config
from genevae.io.formats import ReadOptions, open_source
from genevae.io.overwrite import require_free
from genevae.io.source import Source, csr_or_dense, fingerprint, gene_table, is_sparse
from genevae.io.write.anndata import STORES, Block, Compression, fill_store, require_store, write_store

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["convert"]

FORMATS = ("h5ad", "zarr", "batch")
COMPRESSIONS = ("gzip", "lzf", "none")
CELLS_PER_FILE = 100_000
PLAN = "plan.json"
"""The settings of a conversion, so that only the same one is resumed after it was killed."""


def convert(
    data: AnnData | Source | ReadOptions | str | Path,
    out: str | Path,
    *,
    to: Literal["h5ad", "zarr", "batch"] | None = None,
    cells_per_file: int | None = None,
    shuffle: bool = False,
    compression: Literal["gzip", "lzf", "none"] = "gzip",
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Convert data of any format, in memory that does not depend on the number of cells.

    Parameters
    ----------
    data
        A file, a folder or a pattern of files of any known format; an AnnData object; or ReadOptions.
    out
        The result: a name that ends in .h5ad or .zarr gives one store, any other a folder of files.
    to
        The format of the files in a folder; batch files by default.
    cells_per_file
        Cells in each file of a folder; 100,000 by default.
    shuffle
        Whether to shuffle cells as in training, so that any contiguous cells are a sample.
    compression
        Compression of HDF5 files: gzip is smaller, lzf is three times as fast to read.
    seed
        Seed of the order.
    overwrite
        Whether to replace an existing result.

    Raises
    ------
    DataError
        If the data cannot be read, or some cells lack some of the genes, which these formats cannot represent.
    RunError
        If the result already exists, or the disk is full. No partial result is left. A conversion into a folder that
        was killed is resumed by running it again, and gives the same bytes.
    """
    path = Path(out)
    _check_options(path, to, cells_per_file, compression)
    one = path.suffix in STORES
    parts = _Parts.of(to or "batch", compression)
    require_store(path, overwrite, [data]) if one else require_free(path, overwrite, [data])
    source = open_source(replace(data, keep="disk") if isinstance(data, ReadOptions) else data)
    if source.panels is not None:
        raise DataError(
            f"Some cells of {source.name} lack some of the genes (join='outer'), and the result would have zeros for "
            "them. Keep the genes that all files have (--join inner)."
        )
    size = len(source) if one else cells_per_file or CELLS_PER_FILE
    rows = _order(len(source), shuffle, seed)
    if one:
        write_store(path, _blocks(source, rows), _table(source, rows), gene_table(source), compression=compression)
    else:
        settings = {"to": to, "compression": compression, "shuffle": shuffle, "seed": seed}
        _write_folder(path, source, rows, size, parts, settings)


def _check_options(path: Path, to: str | None, cells_per_file: int | None, compression: str) -> None:
    for name, given, valid in (("to", to, FORMATS), ("compression", compression, COMPRESSIONS)):
        if given is not None and given not in valid:
            raise DataError(f"{name} cannot be '{given}'. {nearest(given, valid)}")
    if path.suffix in STORES and (cells_per_file is not None or to not in (None, path.suffix[1:])):
        raise DataError(
            f"{path} is one {path.suffix} store, but the options are for a folder of files. Give the name of a folder."
        )
    if cells_per_file is not None and cells_per_file < 1:
        raise DataError(f"cells_per_file must be 1 or more, not {cells_per_file}.")


def _order(n_cells: int, shuffle: bool, seed: int) -> NDArray[np.int64]:
    """Return the row numbers in the order of writing."""
    if not shuffle:
        return np.arange(n_cells, dtype=np.int64)
    chunks = Shuffled(np.arange(n_cells, dtype=np.int64), BUFFER, seed).chunks(0)
    return np.concatenate([np.empty(0, dtype=np.int64), *(chunk.rows for chunk in chunks)])


def _blocks(source: Source, rows: NDArray[np.int64]) -> Iterator[Block]:
    """Yield expression in blocks of rows."""
    as_csr = is_sparse(source)
    for chunk in InOrder(rows, 1024, BUFFER).chunks(0):
        ordered, index = np.unique(chunk.rows, return_inverse=True)
        block = csr_or_dense(source.read(ordered), as_csr)
        for start, stop in pairwise(chunk.bounds):
            yield {"X": block[index[start:stop]]}
    if not len(rows):
        yield {"X": csr_or_dense(source.read(rows), as_csr)}


def _table(source: Source, rows: NDArray[np.int64]) -> pd.DataFrame:
    return source.obs.iloc[rows]


@dataclass(frozen=True)
class _Parts:
    """The names of the files of a folder, and the function that writes one."""

    name: Callable[[int], str]
    write: Callable[[Path, Source, NDArray[np.int64]], None]

    @classmethod
    def of(cls, to: str, compression: Compression) -> _Parts:
        if to == "batch":
            return cls(batch_name, _write_batch)

        def write(path: Path, source: Source, rows: NDArray[np.int64]) -> None:
            fill_store(path, _blocks(source, rows), _table(source, rows), gene_table(source), None, compression)

        return cls(lambda number: f"cells_{number:04d}.{to}", write)


def _write_batch(path: Path, source: Source, rows: NDArray[np.int64]) -> None:
    blocks = [block["X"] for block in _blocks(source, rows)]
    x = sparse.vstack(blocks, format="csr") if sparse.issparse(blocks[0]) else np.concatenate(blocks)
    write_batch(path, x, source.genes, _table(source, rows))


def _write_folder(
    path: Path, source: Source, rows: NDArray[np.int64], size: int, parts: _Parts, settings: dict[str, Any]
) -> None:
    """Write the files one by one, and keep those that a killed run has finished."""
    labels = int(pd.util.hash_pandas_object(source.obs.astype(str)).sum())  # includes joined metadata
    plan = json.dumps({**settings, "size": size, "data": fingerprint(source), "labels": labels})
    with staging_folder(path, resume=True) as folder:
        content = folder / "content"
        _clear_unless(folder, plan)
        content.mkdir(exist_ok=True)
        for number, start in enumerate(range(0, len(rows), size)):
            final = content / parts.name(number)
            if final.exists():
                continue
            draft = folder / final.name
            parts.write(draft, source, rows[start : start + size])
            sync(draft)
            draft.rename(final)
        if parts.write is _write_batch:
            write_config(content, len(source), len(source.genes), size)
        replace_with(content, path)


def _clear_unless(folder: Path, plan: str) -> None:
    """Remove existing files, unless they are of the same conversion."""
    note = folder / PLAN
    if note.is_file() and note.read_text(encoding="utf-8") == plan:
        return
    shutil.rmtree(folder / "content", ignore_errors=True)
    note.write_text(plan, encoding="utf-8")
