"""Expression in formats of other programs: a batch file, or Cell Ranger's folder with ``matrix.mtx.gz``."""

from __future__ import annotations

import gzip
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from genevae.errors import RunError, shorten
from genevae.io.atomic import replace_with, staging_folder
from genevae.io.batch_h5 import write_batch
from genevae.io.storable import storable
from genevae.io.write.anndata import Block

__all__ = ["MATRIX", "write_batch_file", "write_mtx"]

MATRIX = "matrix.mtx.gz"
"""The file that identifies a folder as Cell Ranger's."""


def write_batch_file(path: Path, blocks: Iterable[Block], obs: pd.DataFrame, var: pd.DataFrame) -> None:
    """Write one batch file atomically. The expression is collected in memory first.

    Parameters
    ----------
    path
        The file.
    blocks
        Blocks of rows: ``X``, and columns of ``obs``.
    obs, var
        The tables.

    Raises
    ------
    RunError
        If the blocks have other elements, or the file cannot be written. No partial result is left.
    """
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    rows = list(_expression(path, blocks, columns))
    with staging_folder(path) as folder:
        draft = folder / path.name
        write_batch(draft, sparse.vstack(rows, format="csr"), list(var.index), _with(obs, columns))
        replace_with(draft, path)


def write_mtx(path: Path, blocks: Iterable[Block], obs: pd.DataFrame, var: pd.DataFrame) -> None:
    """Write a folder in Cell Ranger's format atomically, block by block. ``obs.csv`` in it has the labels.

    Parameters
    ----------
    path
        The folder. An existing one is replaced at the end.
    blocks, obs, var
        As in :func:`write_batch_file`.

    Raises
    ------
    RunError
        If the blocks have other elements, or the folder cannot be written. No partial result is left.
    """
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    with staging_folder(path) as folder:
        draft = folder / path.name
        draft.mkdir()
        n_entries, whole = _write_entries(folder / "entries", _expression(path, blocks, columns))
        with (draft / MATRIX).open("wb") as matrix, (folder / "entries").open("rb") as entries:
            matrix.write(gzip.compress(_header(len(var), len(obs), n_entries, whole), mtime=0))
            shutil.copyfileobj(entries, matrix)  # gzip files can be concatenated
        features = pd.DataFrame({"id": var.index, "name": var.index, "type": "Gene Expression"})
        for name, table in (("features.tsv.gz", features), ("barcodes.tsv.gz", pd.DataFrame({"cell": obs.index}))):
            with _packed(draft / name) as file:
                table.to_csv(file, sep="\t", header=False, index=False)
        storable(_with(obs, columns)).to_csv(draft / "obs.csv", index_label="cell")
        replace_with(draft, path)


def _expression(
    path: Path, blocks: Iterable[Block], columns: defaultdict[str, list[Any]]
) -> Iterator[sparse.csr_matrix]:
    """Yield the expression of each block, and collect its obs columns."""
    for block in blocks:
        others = [name for name in block if name != "X" and not name.startswith("obs/")]
        if others or "X" not in block:
            raise RunError(
                f"{path} can only hold expression (X) and labels, but this result has "
                f"{shorten(others) or 'no expression'}. Choose a name that ends in .h5ad or .zarr."
            )
        for name in block:
            if name.startswith("obs/"):
                columns[name.removeprefix("obs/")].append(np.asarray(block[name]))
        yield sparse.csr_matrix(block["X"])


def _with(obs: pd.DataFrame, columns: defaultdict[str, list[Any]]) -> pd.DataFrame:
    return obs.assign(**{name: np.concatenate(parts) for name, parts in columns.items()})


def _write_entries(path: Path, blocks: Iterable[sparse.csr_matrix]) -> tuple[int, bool]:
    """Write one line per non-zero entry (gene, cell, value); return their number, and whether all are integers."""
    n_entries, n_cells, whole = 0, 0, True
    with _packed(path) as file:
        for block in blocks:
            block.eliminate_zeros()
            entries = block.tocoo()
            in_whole = bool((entries.data == np.round(entries.data)).all())
            value = entries.data.astype(np.int64) if in_whole else entries.data
            lines = pd.DataFrame({"gene": entries.col + 1, "cell": entries.row + n_cells + 1, "value": value})
            lines.to_csv(file, sep=" ", header=False, index=False)
            n_entries, n_cells, whole = n_entries + block.nnz, n_cells + int(block.shape[0]), whole and in_whole
    return n_entries, whole


def _header(n_genes: int, n_cells: int, n_entries: int, whole: bool) -> bytes:
    kind = "integer" if whole else "real"
    return f"%%MatrixMarket matrix coordinate {kind} general\n{n_genes} {n_cells} {n_entries}\n".encode()


@contextmanager
def _packed(path: Path) -> Iterator[TextIOWrapper]:
    """Open a gzip file for text, whose bytes depend on the text alone."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0, compresslevel=4) as packed,
        TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        yield text
