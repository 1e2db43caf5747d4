"""The columns of the sample table, by the names that releases use, and the words in them."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from genevae.errors import DataError, nearest

__all__ = ["ACCESSION", "cells_of", "column_of", "contains_text", "find_column", "plain"]

ACCESSION = "SRX_accession"
"""The column of accessions in our output. The h5ad files of scBaseCount have it in obs."""

NAMES = {
    "accession": ("srx_accession", "accession", "experiment_accession", "srx"),
    "cells": ("obs_count", "n_cells", "cell_count", "n_obs"),
    "path": ("file_path", "path"),
    "tissue": ("tissue", "tissues"),
    "perturbation": ("perturbation", "perturbations"),
}
"""Known names of each column, in lower case."""


def column_of(samples: pd.DataFrame, role: str, where: str) -> str:
    """Return the name of the column of accession, cells, path, tissue or perturbation.

    Raises
    ------
    DataError
        If there is no such column.
    """
    if name := find_column(samples, role):
        return name
    raise DataError(f"{where} has no column '{NAMES[role][0]}'. {nearest(NAMES[role][0], samples.columns)}")


def find_column(samples: pd.DataFrame, role: str) -> str:
    """Return the name of a column, or an empty string."""
    folded = {str(name).casefold(): str(name) for name in samples.columns[::-1]}
    return next((folded[name] for name in NAMES[role] if name in folded), "")


def cells_of(samples: pd.DataFrame, where: str) -> pd.Series:
    """Return the numbers of cells; values that are not numbers are missing.

    Raises
    ------
    DataError
        If there is no such column.
    """
    return pd.to_numeric(samples[column_of(samples, "cells", where)], errors="coerce").round().astype("Int64")


def contains_text(values: pd.Series, text: str) -> npt.NDArray[np.bool_]:
    """Return which values contain these words in sequence: whole words, in any case, singular or plural.

    "lung" is in "Lungs, lung-associated lymph nodes" and "lung_tissue", and "ear" is not in "heart".
    """
    pattern = rf"(?<!\w){re.escape(plain(text))}(?:s|es)?(?!\w)"
    having = values.astype("string").fillna("").map(plain).str.contains(pattern, regex=True)
    return np.asarray(having, dtype=bool)


def plain(text: str) -> str:
    """Return text in lower case, with single spaces instead of spaces and underscores."""
    return re.sub(r"[\s_]+", " ", text).strip().casefold()
