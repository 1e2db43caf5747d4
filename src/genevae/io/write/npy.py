"""One array as a .npy file, written in blocks of rows, with tables of its rows and columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from genevae.io.atomic import replace_with, staging_folder, sync
from genevae.io.overwrite import require_free
from genevae.io.storable import storable
from genevae.io.write.anndata import Block

__all__ = ["require_npy", "write_npy"]


def require_npy(path: Path, overwrite: bool, reads: Iterable[object]) -> None:
    """Check that an array and its tables can be written to a path, before the work begins.

    Raises
    ------
    RunError
        If one of them already exists, or their folder is not writable.
    """
    for file in (path, _rows_of(path), _columns_of(path)):
        require_free(file, overwrite, reads)


def write_npy(path: Path, blocks: Iterable[Block], obs: pd.DataFrame, var: pd.DataFrame) -> None:
    """Write the first element of each block as one dense array, atomically.

    ``NAME.npy`` comes with ``NAME.obs.csv``, one line per row, and ``NAME.genes.csv``, if the columns are genes.

    Parameters
    ----------
    path
        A name ending in ``.npy``. An existing file is replaced at the end.
    blocks
        Blocks of rows, all with the same elements. Elements of obs become columns of the table.
    obs, var
        The tables.

    Raises
    ------
    RunError
        If the disk is full, or the path is not writable. No partial result is left.
    """
    with staging_folder(path) as folder:
        draft = folder / path.name
        columns = _fill(draft, blocks, len(obs))
        storable(obs.assign(**columns)).to_csv(folder / _rows_of(path).name, index_label="cell")
        if len(var):
            storable(var).to_csv(folder / _columns_of(path).name, index_label="gene")
        for file in (_rows_of(path), _columns_of(path), path):
            if (folder / file.name).exists():
                sync(folder / file.name)
                replace_with(folder / file.name, file)


def _fill(draft: Path, blocks: Iterable[Block], n_cells: int) -> dict[str, Any]:
    """Append the rows to a file, and return the obs columns. A memory map would crash if the disk is full."""
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    with draft.open("wb") as file:
        for block in blocks:
            rows = block[next(name for name in block if not name.startswith("obs/"))]
            x = np.ascontiguousarray(rows.toarray() if sparse.issparse(rows) else rows)
            if not file.tell():
                header = {"descr": x.dtype.str, "fortran_order": False, "shape": (n_cells, *x.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(x.tobytes())
            for name in block:
                if name.startswith("obs/"):
                    columns[name.removeprefix("obs/")].append(np.asarray(block[name]))
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _rows_of(path: Path) -> Path:
    return path.with_suffix(".obs.csv")


def _columns_of(path: Path) -> Path:
    return path.with_suffix(".genes.csv")
