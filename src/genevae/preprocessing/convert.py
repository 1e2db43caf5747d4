"""Conversion of data of any format into one store or a folder of files."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from genevae.data.sampler import BUFFER, Shuffled
from genevae.engine import Plan, Workers, computed_blocks, engine, is_light
from genevae.errors import DataError, nearest
from genevae.io.atomic import replace_with, staging_folder, sync
from genevae.io.batch_h5 import batch_name, write_batch, write_config
from genevae.io.extras import Extras, extras_of
from genevae.io.formats import ReadOptions, open_source
from genevae.io.overwrite import require_free
from genevae.io.source import Source, csr_or_dense, fingerprint, gene_table, is_sparse, without_tables
from genevae.io.write.anndata import STORES, Block, Compression, fill_store, require_store, write_store

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["convert"]

FORMATS = ("h5ad", "zarr", "batch")
COMPRESSIONS = ("gzip", "lzf", "none")
CELLS_PER_FILE, CELLS_PER_DENSE_FILE = 100_000, 10_000
AT_ONCE = 1024
"""Cells of a block."""
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
    executor: Workers | None = None,
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
    executor
        Where the cells are read, and the files of a folder written; as for
        :func:`~genevae.preprocessing.hvg.highly_variable`. The result does not depend on it.

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
    require_store(path, overwrite, [data]) if one else require_free(path, overwrite, [data])
    source, extras = _opened(data)
    if source.panels is not None:
        raise DataError(
            f"Some cells of {source.name} lack some of the genes (join='outer'), and the result would have zeros for "
            "them. Keep the genes that all files have (--join inner)."
        )
    if one:
        content = _Content(source, extras, _order(len(source), shuffle, seed), dense)
        with content.blocks(executor, path) as blocks:
            write_store(path, blocks, *content.tables, compression=compression, others=content.others)
        return extras.left
    size = cells_per_file or (CELLS_PER_DENSE_FILE if dense else CELLS_PER_FILE)
    settings = {"to": to or "batch", "compression": compression, "dense": dense, "shuffle": shuffle, "seed": seed}
    _write_folder(path, data, source, extras, {**settings, "size": size}, executor)
    return extras.names if settings["to"] == "batch" else extras.left


def _opened(data: Any) -> tuple[Source, Extras]:
    source = open_source(replace(data, keep="disk") if isinstance(data, ReadOptions) else data)
    return source, extras_of(data, source)


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


def _read(
    sources: Mapping[str, Source], as_csr: Mapping[str, bool], rows: Mapping[str, NDArray[np.int64]]
) -> Iterator[Block]:
    """Read rows of several sources, each once, and yield them in blocks, by the name of the element."""
    read = {}
    for name, source in sources.items():
        ordered, index = np.unique(rows[name], return_inverse=True)
        read[name] = csr_or_dense(source.read(ordered), as_csr[name]), index
    for start in range(0, len(next(iter(rows.values()))) or 1, AT_ONCE):
        yield {name: block[index[start : start + AT_ONCE]] for name, (block, index) in read.items()}


@dataclass(frozen=True)
class _Content:
    """Some cells of a source, with all that belongs to them."""

    source: Source
    extras: Extras
    rows: NDArray[np.int64]
    dense: bool

    @contextmanager
    def blocks(self, workers: Workers | None = None, out: Path | None = None) -> Iterator[Iterator[Block]]:
        """Yield the expression in blocks of rows; X is CSR where it is sparse, unless it is to be dense."""
        sources = {"X": self.source, **{f"layers/{name}": layer for name, layer in self.extras.layers.items()}}
        as_csr = {name: is_sparse(source) and not (self.dense and name == "X") for name, source in sources.items()}
        rows = dict.fromkeys(sources, self.rows)
        with engine(workers) as given:
            found = given
            if found is not None and not found.shares_memory:
                bare = {name: without_tables(source, self.rows) for name, source in sources.items()}
                if is_light(each := {name: source for name, (source, _) in bare.items()}):
                    sources, rows = each, {name: rows for name, (_, rows) in bare.items()}
                else:
                    found = None  # the data are in this process, which reads them as fast
            starts = range(0, len(self.rows) or 1, BUFFER)
            items = (({name: each[at : at + BUFFER] for name, each in rows.items()},) for at in starts)
            read = partial(_read, sources, as_csr)
            with closing(computed_blocks(found, read, items, len(starts), self.source.name, out)) as blocks:
                yield blocks

    @property
    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame, Mapping[str, Any]]:
        """The obs, var and uns of a store."""
        return self.obs, gene_table(self.source) if self.extras.var is None else self.extras.var, self.extras.uns

    @property
    def obs(self) -> pd.DataFrame:
        """The table of these cells."""
        return self.source.obs.iloc[self.rows]

    @property
    def others(self) -> dict[str, Any]:
        """The elements that are written as a whole."""
        return self.extras.others(self.rows)

    def write(self, path: Path, to: str, compression: Compression) -> None:
        """Write them to a file of a folder."""
        with self.blocks() as blocks:
            if to != "batch":
                fill_store(path, blocks, *self.tables, compression, self.others)
                return
            xs = [block["X"] for block in blocks]
        x = sparse.vstack(xs, format="csr") if sparse.issparse(xs[0]) else np.concatenate(xs)
        write_batch(path, x, self.source.genes, self.obs)


@dataclass(frozen=True)
class _Files:
    """A pass whose parts are the files of a folder: it yields no rows.

    Parameters
    ----------
    source, extras, rows
        The cells, in the order of writing.
    folder
        Where files are written, before each is moved to its ``content``.
    settings
        The size of a file, and how it is written.
    """

    source: Source
    extras: Extras
    rows: NDArray[np.int64]
    folder: Path
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, data: Any, folder: Path, settings: Mapping[str, Any]) -> _Files:
        """Open the data."""
        return cls._of(*_opened(data), folder, settings)

    @classmethod
    def _of(cls, source: Source, extras: Extras, folder: Path, settings: Mapping[str, Any]) -> _Files:
        if settings["to"] == "batch":  # a file of this format has no layers
            extras = replace(extras, layers={})
        return cls(source, extras, _order(len(source), settings["shuffle"], settings["seed"]), folder, settings)

    @property
    def n_parts(self) -> int:
        """The number of files."""
        size: int = self.settings["size"]
        return -(-len(self.rows) // size)

    def blocks(self, parts: range) -> Generator[Block, None, None]:
        """Write some files, except those that are there."""
        to, size = self.settings["to"], self.settings["size"]
        for number in parts:
            final = self.folder / "content" / (batch_name(number) if to == "batch" else f"cells_{number:04d}.{to}")
            if not final.exists():
                draft = self.folder / f"{uuid.uuid4().hex}-{final.name}"
                rows = self.rows[number * size : (number + 1) * size]
                content = _Content(self.source, self.extras, rows, self.settings["dense"])
                content.write(draft, to, self.settings["compression"])
                sync(draft)
                _move(draft, final)
        yield from ()


def _move(draft: Path, final: Path) -> None:
    """Move a file or folder to its place, unless another worker was faster."""
    try:
        draft.rename(final)
    except OSError:
        if not final.exists():
            raise


def _write_folder(
    path: Path, data: Any, source: Source, extras: Extras, settings: dict[str, Any], executor: Workers | None
) -> None:
    """Write the files, and keep those that a killed run has finished."""
    labels = int(pd.util.hash_pandas_object(source.obs.astype(str)).sum())  # includes joined metadata
    plan = json.dumps({**settings, "data": fingerprint(source), "labels": labels, "extras": extras.names})
    with staging_folder(path, resume=True) as folder:
        _clear_unless(folder, plan)
        content = folder / "content"
        content.mkdir(exist_ok=True)
        files = Plan(_Files.of, data=data, folder=folder.absolute(), settings=settings)
        files.here = _Files._of(source, extras, folder.absolute(), settings)  # not opened twice
        for _ in files.blocks(executor):
            pass
        if settings["to"] == "batch":
            write_config(content, len(source), len(source.genes), settings["size"])
        replace_with(content, path)


def _clear_unless(folder: Path, plan: str) -> None:
    """Remove what a killed run has left, except the finished files of the same conversion."""
    note = folder / PLAN
    kept = {note.name, "content"} if note.is_file() and note.read_text(encoding="utf-8") == plan else set()
    for entry in folder.iterdir():
        if entry.name not in kept:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    note.write_text(plan, encoding="utf-8")
