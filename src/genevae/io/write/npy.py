"""One array as a .npy file that is written some rows at a time, and the tables that name its rows and columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from genevae.io.atomic import replace_with, require_free, staging_folder, sync
from genevae.io.write.anndata import Block

__all__ = ["require_npy", "write_npy"]


def require_npy(path: Path, overwrite: bool) -> None:
    """Make sure that an array and its tables can be written to a place, before the work that fills them.

    Raises
    ------
    RunError
        If one is there already, or their folder cannot be written to.
    """
    for place in (path, _rows_of(path), _columns_of(path)):
        require_free(place, overwrite, ())


def write_npy(path: Path, pieces: Iterable[Block], obs: pd.DataFrame, var: pd.DataFrame) -> None:
    """Write the first element of each piece as one dense array, whole or not at all.

    Beside ``NAME.npy`` come ``NAME.obs.csv``, a line per row and, where the columns are genes, ``NAME.genes.csv``.

    Parameters
    ----------
    path
        Its name ends in ``.npy``; what is there is replaced at the end.
    pieces
        Rows, one after the other, each piece with the same elements; those of obs become columns of the table.
    obs, var
        The tables.

    Raises
    ------
    RunError
        If the disk is full, or the place cannot be written to. Nothing half-written is left.
    """
    with staging_folder(path) as folder:
        draft = folder / path.name
        columns = _fill(draft, pieces, len(obs))
        obs.assign(**columns).to_csv(folder / _rows_of(path).name, index_label="cell")
        if len(var):
            var.to_csv(folder / _columns_of(path).name, index_label="gene")
        for place in (_rows_of(path), _columns_of(path), path):
            if (folder / place.name).exists():
                sync(folder / place.name)
                replace_with(folder / place.name, place)


def _fill(draft: Path, pieces: Iterable[Block], n_cells: int) -> dict[str, Any]:
    """Append the rows as they come, since a full disk would end a process that maps the file; return obs columns."""
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    with draft.open("wb") as file:
        for piece in pieces:
            rows = piece[next(name for name in piece if not name.startswith("obs/"))]
            x = np.ascontiguousarray(rows.toarray() if sparse.issparse(rows) else rows)
            if not file.tell():
                header = {"descr": x.dtype.str, "fortran_order": False, "shape": (n_cells, *x.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(x.tobytes())
            for name in piece:
                if name.startswith("obs/"):
                    columns[name.removeprefix("obs/")].append(np.asarray(piece[name]))
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _rows_of(path: Path) -> Path:
    return path.with_suffix(".obs.csv")


def _columns_of(path: Path) -> Path:
    return path.with_suffix(".genes.csv")
