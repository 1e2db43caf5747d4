"""Expression as other programs read it: a batch file, or Cell Ranger's folder of ``matrix.mtx.gz`` and its names."""

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
from genevae.io.write.anndata import Block

__all__ = ["MATRIX", "write_batch_file", "write_mtx"]

MATRIX = "matrix.mtx.gz"
"""The file by which a folder is Cell Ranger's."""


def write_batch_file(path: Path, pieces: Iterable[Block], obs: pd.DataFrame, var: pd.DataFrame) -> None:
    """Write one batch file, whole or not at all; the expression is gathered in memory first.

    Parameters
    ----------
    path
        The file.
    pieces
        Rows, one piece after the other: ``X``, and columns of ``obs``.
    obs, var
        The tables.

    Raises
    ------
    RunError
        If there is more in the pieces than such a file holds, or it cannot be written. Nothing half-written is left.
    """
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    rows = list(_expression(path, pieces, columns))
    with staging_folder(path) as folder:
        draft = folder / path.name
        write_batch(draft, sparse.vstack(rows, format="csr"), list(var.index), _with(obs, columns))
        replace_with(draft, path)


def write_mtx(path: Path, pieces: Iterable[Block], obs: pd.DataFrame, var: pd.DataFrame) -> None:
    """Write Cell Ranger's folder, whole or not at all, a piece at a time; ``obs.csv`` beside it has the labels.

    Parameters
    ----------
    path
        The folder; what is there is replaced at the end.
    pieces, obs, var
        As in :func:`write_batch_file`.

    Raises
    ------
    RunError
        If there is more in the pieces than such a folder holds, or it cannot be written. Nothing half-written is left.
    """
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    with staging_folder(path) as folder:
        draft = folder / path.name
        draft.mkdir()
        n_entries, whole = _write_entries(folder / "entries", _expression(path, pieces, columns))
        with (draft / MATRIX).open("wb") as matrix, (folder / "entries").open("rb") as entries:
            matrix.write(gzip.compress(_header(len(var), len(obs), n_entries, whole), mtime=0))
            shutil.copyfileobj(entries, matrix)  # gzip files may be put one after the other
        features = pd.DataFrame({"id": var.index, "name": var.index, "type": "Gene Expression"})
        for name, table in (("features.tsv.gz", features), ("barcodes.tsv.gz", pd.DataFrame({"cell": obs.index}))):
            with _packed(draft / name) as file:
                table.to_csv(file, sep="\t", header=False, index=False)
        _with(obs, columns).to_csv(draft / "obs.csv", index_label="cell")
        replace_with(draft, path)


def _expression(
    path: Path, pieces: Iterable[Block], columns: defaultdict[str, list[Any]]
) -> Iterator[sparse.csr_matrix]:
    """Yield the expression of each piece, and put its columns of obs aside."""
    for piece in pieces:
        beyond = [name for name in piece if name != "X" and not name.startswith("obs/")]
        if beyond or "X" not in piece:
            raise RunError(
                f"{path} would hold expression (X) and labels only, and this answer has "
                f"{shorten(beyond) or 'no expression'}. Choose a name that ends in .h5ad or .zarr."
            )
        for name in piece:
            if name.startswith("obs/"):
                columns[name.removeprefix("obs/")].append(np.asarray(piece[name]))
        yield sparse.csr_matrix(piece["X"])


def _with(obs: pd.DataFrame, columns: defaultdict[str, list[Any]]) -> pd.DataFrame:
    return obs.assign(**{name: np.concatenate(parts) for name, parts in columns.items()})


def _write_entries(path: Path, blocks: Iterable[sparse.csr_matrix]) -> tuple[int, bool]:
    """Write a line per entry that is not zero: gene, cell, value; return how many, and whether all are whole."""
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
    """Open a gzip file for text; the same text makes the same bytes."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0, compresslevel=4) as packed,
        TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        yield text
