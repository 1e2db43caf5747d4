"""The main array of a result as a text table, row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from genevae.io.atomic import replace_with, staging_folder, sync
from genevae.io.storable import storable, unique
from genevae.io.write.anndata import Block

__all__ = ["TABLES", "write_table"]

TABLES = {".csv": ",", ".tsv": "\t"}
"""Suffixes of text tables, and their separators."""


def write_table(path: Path, blocks: Iterable[Block], obs: pd.DataFrame, var: pd.DataFrame) -> None:
    """Write the first element of each block as a text table, atomically.

    The first column has the names of the rows. The others have the names of genes, or else ``latent_1``, ``latent_2``….

    Parameters
    ----------
    path
        A name ending in ``.csv`` or ``.tsv``.
    blocks
        Blocks of rows, all with the same elements.
    obs, var
        The names of rows and columns.

    Raises
    ------
    RunError
        If it cannot be written. No partial result is left.
    """
    names = iter(storable(obs[[]]).index)
    with staging_folder(path) as folder:
        draft = folder / path.name
        with draft.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file, delimiter=TABLES[path.suffix], lineterminator="\n")
            header: list[str] = []
            for block in blocks:
                rows = block[next(name for name in block if not name.startswith("obs/"))]
                x = rows.toarray() if sparse.issparse(rows) else np.asarray(rows)
                if not header:
                    columns = storable(var[[]]).index if len(var) else [f"latent_{k + 1}" for k in range(x.shape[1])]
                    header = unique(["name", *map(str, columns)])
                    out.writerow(header)
                out.writerows([next(names), *row] for row in x.tolist())
        sync(draft)
        replace_with(draft, path)
