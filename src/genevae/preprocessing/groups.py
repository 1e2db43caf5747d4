"""Groups of cells by obs columns, and sums over groups as AnnData."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from genevae.errors import CategoryError, DataError, nearest
from genevae.io.h5ad import ignore_warnings
from genevae.io.source import Source

__all__ = ["add_constant_columns", "number_groups", "require_measured", "sorted_categories", "sums_to_anndata"]

_Floats = NDArray[np.float64]
_Rows = NDArray[np.int64]


def require_measured(source: Source) -> None:
    """Raise if genes were not measured in all cells, since a sum would count them as zero."""
    if source.panels is not None and not source.panels.measured_pg.all():
        n = int((~source.panels.measured_pg.all(axis=0)).sum())
        raise DataError(
            f"In {source.name}, {n} genes were not measured in all cells, and sums would count them as zero. "
            "Open the files with join='inner', which keeps the genes that all of them have."
        )


def sorted_categories(source: Source, name: str) -> pd.Series[Any]:
    """Return an obs column as a categorical of sorted categories."""
    if name not in source.obs:
        raise CategoryError(f"{source.name} has no obs column '{name}'. {nearest(name, source.obs.columns)}")
    column = source.obs[name]
    if n := int(column.isna().sum()):
        raise CategoryError(
            f"{n} of the {len(column)} cells of {source.name} have no value of '{name}' in obs. Fill it in, "
            f"or leave those cells out (adata[adata.obs['{name}'].notna()])."
        )
    values = np.asarray(column)
    try:
        categories = sorted(pd.unique(values))
    except TypeError:  # mixed types, such as numbers and strings
        values = values.astype(str)
        categories = sorted(pd.unique(values))
    return pd.Series(pd.Categorical(values, categories=categories), index=column.index, name=name)


def number_groups(columns: Sequence[pd.Series[Any]], name: str, min_cells: int) -> tuple[_Rows, _Rows]:
    """Return each cell's group of at least ``min_cells`` (or −1), and the codes of each group."""
    code_nk = np.stack([column.cat.codes.to_numpy(np.int64) for column in columns], axis=1)
    code_bk, group_n, n_cells_b = np.unique(code_nk, axis=0, return_inverse=True, return_counts=True)
    kept_b = n_cells_b >= min_cells
    if not kept_b.any():
        raise CategoryError(
            f"None of the {len(code_bk)} groups of {name} has min_cells={min_cells} cells. The largest has "
            f"{n_cells_b.max(initial=0)}. Give a smaller min_cells, or fewer columns."
        )
    number_b = np.where(kept_b, np.cumsum(kept_b) - 1, -1)
    return number_b[group_n.reshape(-1)], code_bk[kept_b]


def add_constant_columns(obs: pd.DataFrame, cells: pd.DataFrame, group_n: _Rows) -> None:
    """Add the columns of the cells that are constant, or missing, within every group."""
    first_b = np.unique(group_n, return_index=True)[1]
    for name in cells.columns.difference(obs.columns, sort=False):
        code_n = pd.factorize(cells[name])[0]
        if (code_n == code_n[first_b][group_n]).all():
            obs[name] = cells[name].iloc[first_b].array


def sums_to_anndata(source: Source, total_bg: _Floats, obs: pd.DataFrame, facts: dict[str, Any]) -> AnnData:
    """Make an AnnData of sums, in float32 if that is exact."""
    with np.errstate(over="ignore"):
        smaller = total_bg.astype(np.float32)
    x = smaller if np.array_equal(smaller, total_bg, equal_nan=True) else total_bg
    var = pd.DataFrame(dict(source.aliases), index=list(source.genes))
    with ignore_warnings():
        adata = AnnData(x, obs=obs, var=var, uns={"genevae": facts})
        adata.obs_names_make_unique()
    return adata
