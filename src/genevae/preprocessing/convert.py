"""Conversion of data of any format into one store or a folder of files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
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
from genevae.io.extras import Extras, extras_of
from genevae.io.formats import ReadOptions, open_source
from genevae.io.overwrite import require_free
from genevae.io.source import Source, csr_or_dense, fingerprint, gene_table, is_sparse
from genevae.io.write.anndata import STORES, Block, Compression, fill_store, require_store, write_store

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["convert"]

FORMATS = ("h5ad", "zarr", "batch")
COMPRESSIONS = ("gzip", "lzf", "none")
CELLS_PER_FILE, CELLS_PER_DENSE_FILE = 100_000, 10_000
PLAN = "plan.json"
"""The settings of a conversion, so that only the same one is resumed after it was killed."""


def convert(
    data: AnnData | Source | ReadOptions | str | Path,
    out: str | Path,
    *,
    to: Literal["h5ad", "zarr", "batch"] | None = None,
    cells_per_file: int | None = None,
    dense: bool = False,
    shuffle: bool = False,
    compression: Literal["gzip", "lzf", "none"] = "gzip",
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Convert data of any format, in memory that does not depend on the number of cells.

    A store keeps the layers, obsm, var, varm and uns of the store that it is made from.

    Parameters
    ----------
    data
        A file, a folder or a pattern of files of any known format; an AnnData object; or ReadOptions.
    out
        The result: a name that ends in .h5ad or .zarr gives one store, any other a folder of files.
    to
        The format of the files in a folder; batch files by default.
    cells_per_file
        Cells in each file of a folder; 100,000 by default, 10,000 with ``dense``.
    dense
        Whether to write expression as a matrix of all values. By default it is one where at most 60 % are zero.
    shuffle
        Whether to shuffle cells as in training, so that any contiguous cells are a sample.
    compression
        Compression of HDF5 files: gzip is smaller, lzf is three times as fast to read.
    seed
        Seed of the order.
    overwrite
        Whether to replace an existing result.

    Returns
    -------
    tuple of str
        What the data have besides, such as ``obsp['distances']``, and the result does not.

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
    size = len(source) if one else cells_per_file or (CELLS_PER_DENSE_FILE if dense else CELLS_PER_FILE)
    extras = extras_of(data, source)
    rows = _order(len(source), shuffle, seed)
    if one:
        content = _Content(source, extras, rows, dense)
        write_store(path, *content.parts, compression=compression, others=content.others)
    else:
        settings = {"to": to, "compression": compression, "dense": dense, "shuffle": shuffle, "seed": seed}
        _write_folder(path, source, extras, rows, size, parts, settings)
    return extras.names if parts.write is _write_batch and not one else extras.left


def _check_options(path: Path, to: str | None, cells_per_file: int | None, compression: str) -> None:
    for name, given, valid in (("to", to, FORMATS), ("compression", compression, COMPRESSIONS)):
        if given is not None and given not in valid:
            raise DataError(f"{name} cannot be '{given}'. {nearest(given, valid)}")
    if path.suffix in STORES and (cells_per_file is not None or to not in (None, path.suffix[1:])):
        raise DataError(
            f"{path} is one {path.suffix} store, but the options are for a folder of files. Give the name of a folder."
        )
    if path.suffix not in STORES and path.suffix[1:].isalpha() and to is None:
        raise DataError(
            f"{path} cannot be written: '{path.suffix}' is not the ending of a store, which is one of "
            f"{' and '.join(STORES)}; a name without an ending is a folder of files. For a folder of this name, say "
            "which files: --to batch (to=)."
        )
    if cells_per_file is not None and cells_per_file < 1:
        raise DataError(f"cells_per_file must be 1 or more, not {cells_per_file}.")


def _order(n_cells: int, shuffle: bool, seed: int) -> NDArray[np.int64]:
    """Return the row numbers in the order of writing."""
    if not shuffle:
        return np.arange(n_cells, dtype=np.int64)
    chunks = Shuffled(np.arange(n_cells, dtype=np.int64), BUFFER, seed).chunks(0)
    return np.concatenate([np.empty(0, dtype=np.int64), *(chunk.rows for chunk in chunks)])


def _blocks(sources: Mapping[str, Source], rows: NDArray[np.int64], dense: bool) -> Iterator[Block]:
    """Yield expression in blocks of rows, by the name of the element; X is CSR where it is sparse, unless dense."""
    as_csr = {name: is_sparse(source) and not (dense and name == "X") for name, source in sources.items()}
    for chunk in InOrder(rows, 1024, BUFFER).chunks(0):
        ordered, index = np.unique(chunk.rows, return_inverse=True)
        read = {name: csr_or_dense(source.read(ordered), as_csr[name]) for name, source in sources.items()}
        for start, stop in pairwise(chunk.bounds):
            yield {name: block[index[start:stop]] for name, block in read.items()}
    if not len(rows):
        yield {name: csr_or_dense(source.read(rows), as_csr[name]) for name, source in sources.items()}


@dataclass(frozen=True)
class _Content:
    """Some cells of a source, with all that belongs to them."""

    source: Source
    extras: Extras
    rows: NDArray[np.int64]
    dense: bool

    @property
    def parts(self) -> tuple[Iterator[Block], pd.DataFrame, pd.DataFrame, Mapping[str, Any]]:
        """The blocks, obs, var and uns of a store."""
        sources = {"X": self.source, **{f"layers/{name}": layer for name, layer in self.extras.layers.items()}}
        var = gene_table(self.source) if self.extras.var is None else self.extras.var
        return _blocks(sources, self.rows, self.dense), self.obs, var, self.extras.uns

    @property
    def obs(self) -> pd.DataFrame:
        """The table of these cells."""
        return self.source.obs.iloc[self.rows]

    @property
    def others(self) -> dict[str, Any]:
        """The elements that are written as a whole."""
        return self.extras.others(self.rows)


@dataclass(frozen=True)
class _Parts:
    """The names of the files of a folder, and the function that writes one."""

    name: Callable[[int], str]
    write: Callable[[Path, _Content], None]

    @classmethod
    def of(cls, to: str, compression: Compression) -> _Parts:
        if to == "batch":
            return cls(batch_name, _write_batch)

        def write(path: Path, content: _Content) -> None:
            fill_store(path, *content.parts, compression, content.others)

        return cls(batch_name if to == "batch" else lambda number: f"cells_{number:04d}.{to}", write)


def _write_batch(path: Path, content: _Content) -> None:
    blocks = [block["X"] for block in _blocks({"X": content.source}, content.rows, content.dense)]
    x = sparse.vstack(blocks, format="csr") if sparse.issparse(blocks[0]) else np.concatenate(blocks)
    write_batch(path, x, content.source.genes, content.obs)


def _write_folder(
    path: Path,
    source: Source,
    extras: Extras,
    rows: NDArray[np.int64],
    size: int,
    parts: _Parts,
    settings: dict[str, Any],
) -> None:
    """Write the files one by one, and keep those that a killed run has finished."""
    labels = int(pd.util.hash_pandas_object(source.obs.astype(str)).sum())  # includes joined metadata
    facts = {"size": size, "data": fingerprint(source), "labels": labels, "extras": extras.names}
    plan = json.dumps({**settings, **facts})
    with staging_folder(path, resume=True) as folder:
        content = folder / "content"
        _clear_unless(folder, plan)
        content.mkdir(exist_ok=True)
        for number, start in enumerate(range(0, len(rows), size)):
            final = content / parts.name(number)
            if final.exists():
                continue
            draft = folder / final.name
            parts.write(draft, _Content(source, extras, rows[start : start + size], settings["dense"]))
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
