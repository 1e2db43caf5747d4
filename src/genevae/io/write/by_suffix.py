"""Where an answer about cells can be written to: the end of the name says how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from genevae.errors import RunError, nearest
from genevae.io.atomic import require_free
from genevae.io.write.anndata import STORES, Block, require_store, write_store
from genevae.io.write.mtx import MATRIX, write_batch_file, write_mtx
from genevae.io.write.npy import require_npy, write_npy

__all__ = ["OUTPUTS", "require_output", "write_output"]

OUTPUTS = (*STORES, ".npy", ".h5", ".mtx")
"""The last is a folder, which may do without."""


def require_output(path: Path, overwrite: bool) -> None:
    """Make sure that an answer can be written to a place, before the work that fills it.

    Raises
    ------
    RunError
        If its name does not say how, something is there already, or it cannot be written to.
    """
    if path.suffix in STORES:
        require_store(path, overwrite)
    elif path.suffix == ".npy":
        require_npy(path, overwrite)
    elif path.suffix in ("", *OUTPUTS):
        require_free(path, overwrite, (MATRIX,))
    else:
        raise RunError(f"{path} cannot be written as '{path.suffix}'. {nearest(path.suffix, OUTPUTS)}")


def write_output(
    path: Path, pieces: Iterable[Block], obs: pd.DataFrame, var: pd.DataFrame, uns: Mapping[str, Any]
) -> None:
    """Write an answer, whole or not at all; what is there is replaced at the end.

    Parameters
    ----------
    path
        A store, .h5ad or .zarr; .npy, for its main array alone; .h5, a batch file; .mtx or no ending, Cell Ranger's
        folder.
    pieces
        Rows, one piece after the other.
    obs, var, uns
        The tables, and what else is to be said, where there is a place for it.

    Raises
    ------
    RunError
        If it cannot be written, or the answer has more in it than there is a place for.
    """
    if path.suffix in STORES:
        write_store(path, pieces, obs, var, uns)
    else:
        write = {".npy": write_npy, ".h5": write_batch_file}.get(path.suffix, write_mtx)
        write(path, pieces, obs, var)
