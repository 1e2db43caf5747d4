"""Writing the result of a task in the format of its suffix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from genevae.errors import RunError, nearest
from genevae.io.overwrite import require_free
from genevae.io.write.anndata import STORES, Block, require_store, write_store
from genevae.io.write.mtx import write_batch_file, write_mtx
from genevae.io.write.npy import require_npy, write_npy
from genevae.io.write.table import PARQUET, TABLES, require_pyarrow, write_table

__all__ = ["OUTPUTS", "require_output", "write_output"]

OUTPUTS = (*STORES, *TABLES, PARQUET, ".npy", ".h5", ".mtx")
"""Suffixes of results. ``.mtx`` is a folder, which may also have no suffix."""


def require_output(path: Path, overwrite: bool, reads: Iterable[object]) -> None:
    """Check that a result can be written to a path, before the work begins.

    Raises
    ------
    RunError
        If the suffix is unknown, the path already exists, or it is not writable.
    """
    if path.suffix in STORES:
        require_store(path, overwrite, reads)
    elif path.suffix == ".npy":
        require_npy(path, overwrite, reads)
    elif path.suffix in ("", *OUTPUTS):
        require_pyarrow(path)
        require_free(path, overwrite, reads)
    else:
        raise RunError(f"{path} cannot be written as '{path.suffix}'. {nearest(path.suffix, OUTPUTS)}")


def write_output(
    path: Path,
    blocks: Iterable[Block],
    obs: pd.DataFrame,
    var: pd.DataFrame,
    uns: Mapping[str, Any],
    others: Mapping[str, Any] | None = None,
) -> None:
    """Write a result atomically, replacing an existing one at the end.

    Parameters
    ----------
    path
        A store, .h5ad or .zarr; .csv, .tsv, .parquet or .npy, for its main array alone; .h5, a batch file; .mtx or no
        suffix, a folder in Cell Ranger's format.
    blocks
        Blocks of rows.
    obs, var, uns
        The tables and unstructured annotation, as far as the format supports them.
    others
        Elements that are written as a whole, by name, such as ``"varm/…"``; in stores alone.

    Raises
    ------
    RunError
        If it cannot be written, or the format does not support all elements of the result.
    """
    if path.suffix in STORES:
        write_store(path, blocks, obs, var, uns, others=others)
    else:
        by_suffix = {".npy": write_npy, ".h5": write_batch_file}
        write = write_table if path.suffix in (*TABLES, PARQUET) else by_suffix.get(path.suffix, write_mtx)
        write(path, blocks, obs, var)
