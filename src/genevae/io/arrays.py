"""NumPy arrays and SciPy matrices as AnnData."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike
from scipy import sparse

from genevae.errors import DataError, shorten

__all__ = ["from_arrays", "is_array"]

LABEL = "label"
"""The obs column of a single list of labels."""
TOLERANCE = 1e-3
"""How far from whole numbers counts may be that were scaled."""


def is_array(data: object) -> bool:
    """Return whether data are a NumPy array, a SciPy matrix or a table of pandas."""
    return isinstance(data, np.ndarray | pd.DataFrame) or sparse.issparse(data)


def from_arrays(
    x: Any,
    labels: ArrayLike | Mapping[str, ArrayLike] | None = None,
    *,
    genes: Sequence[str] | None = None,
    factor: float | None = None,
) -> AnnData:
    """Make AnnData of an array of expression.

    Parameters
    ----------
    x
        Cells × genes, dense or sparse; or images of one channel, cells × height × width × 1 (or cells × 1 × height ×
        width), whose pixels are the genes, row by row. Of a table of pandas, rows are cells and columns are genes, with
        their names.
    labels
        One label per cell, which becomes the obs column ``label``; or several columns by name, or a table of them.
    genes
        Names of the genes; by default gene_0, gene_1, …, and for images pixel_0_0, ….
    factor
        For counts that were scaled, such as to 0–1: what they are multiplied by to be counts again.

    Raises
    ------
    DataError
        If the shapes do not fit, values are not numbers, or counts times the factor are not whole.

    Examples
    --------
    >>> from_arrays(np.array([[0.0, 0.5], [1.0, 0.25]]), ["B", "T"], factor=4).to_df().to_numpy().tolist()
    [[0.0, 2.0], [4.0, 1.0]]
    """
    names, cells = genes, None
    if isinstance(x, pd.DataFrame):
        names, cells, x = (x.columns if genes is None else genes), x.index.astype(str), _numbers(x)
    if isinstance(labels, pd.DataFrame):
        labels = {str(name): labels[name] for name in labels}
    if not sparse.issparse(x):
        x = np.asarray(x)
        if x.ndim == 4:
            x, names = _pixels(x, genes)
        if x.ndim != 2 or x.dtype.kind not in "buif":
            raise DataError(
                f"The array has shape {x.shape} and type {x.dtype}. Give numbers of cells × genes, or of images, "
                "cells × height × width × 1."
            )
    n_cells, n_genes = x.shape
    names = [f"gene_{i}" for i in range(n_genes)] if names is None else list(map(str, names))
    if len(names) != n_genes:
        raise DataError(f"There are {len(names)} gene names for {n_genes} columns of the array.")
    if factor is not None:
        x = _counts(x, factor)
    columns = labels if isinstance(labels, Mapping) else {} if labels is None else {LABEL: labels}
    obs = pd.DataFrame(index=[f"cell_{i}" for i in range(n_cells)] if cells is None else cells)
    for name, column in columns.items():
        values = np.asarray(column)
        if values.shape != (n_cells,):
            raise DataError(f"The labels '{name}' have shape {values.shape}, and there are {n_cells} cells.")
        obs[str(name)] = values
    return AnnData(x.astype(np.float32), obs=obs, var=pd.DataFrame(index=names))


def _numbers(table: pd.DataFrame) -> Any:
    """Return the values of a table of numbers."""
    texts = [str(name) for name in table if table[name].dtype.kind not in "buif"]
    if texts:
        raise DataError(
            f"The table has columns that are not numbers: {shorten(texts)}. Give cells × genes alone, and the other "
            "columns as labels."
        )
    return table.to_numpy()


def _pixels(x: Any, genes: Sequence[str] | None) -> tuple[Any, Sequence[str]]:
    """Flatten images of one channel, row by row."""
    if 1 not in (x.shape[1], x.shape[3]):
        raise DataError(f"Images have one channel, first or last; the array has shape {x.shape}.")
    x = x[..., 0] if x.shape[3] == 1 else x[:, 0]
    _, height, width = x.shape
    names = [f"pixel_{row}_{column}" for row in range(height) for column in range(width)] if genes is None else genes
    return x.reshape(len(x), -1), names


def _counts(x: Any, factor: float) -> Any:
    """Undo a scaling of counts."""
    if not factor > 0:
        raise DataError(f"factor must be above 0, not {factor}.")
    scaled = x * factor
    values = scaled.data if sparse.issparse(scaled) else scaled
    if np.size(values) and np.abs(values - np.round(values)).max() > TOLERANCE:
        raise DataError(
            f"Values times factor={factor:g} are not whole numbers: give the factor that makes them counts."
        )
    return scaled.rint() if sparse.issparse(scaled) else np.rint(scaled)
