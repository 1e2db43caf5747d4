"""The columns of the table of samples, under the names that releases give them, and the words in them."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from genevae.errors import DataError, nearest

__all__ = ["ACCESSION", "cells_of", "column_of", "find_column", "has_words", "plain"]

ACCESSION = "SRX_accession"
"""The name of the accession's column in what we write; h5ad files of scBaseCount have it in obs."""

NAMES = {
    "accession": ("srx_accession", "accession", "experiment_accession", "srx"),
    "cells": ("obs_count", "n_cells", "cell_count", "n_obs"),
    "path": ("file_path", "path"),
    "tissue": ("tissue", "tissues"),
    "perturbation": ("perturbation", "perturbations"),
}
"""Under which names a column was seen, in small letters."""


def column_of(samples: pd.DataFrame, role: str, where: str) -> str:
    """Return the name of the column that holds the accession, the cells, the path, the tissue or the perturbation.

    Raises
    ------
    DataError
        If there is none.
    """
    if name := find_column(samples, role):
        return name
    raise DataError(f"{where} has no column '{NAMES[role][0]}'. {nearest(NAMES[role][0], samples.columns)}")


def find_column(samples: pd.DataFrame, role: str) -> str:
    """Return the name of a column, or nothing."""
    folded = {str(name).casefold(): str(name) for name in samples.columns[::-1]}
    return next((folded[name] for name in NAMES[role] if name in folded), "")


def cells_of(samples: pd.DataFrame, where: str) -> pd.Series:
    """Return the numbers of cells, missing where they are none.

    Raises
    ------
    DataError
        If there is no column of them.
    """
    return pd.to_numeric(samples[column_of(samples, "cells", where)], errors="coerce").round().astype("Int64")


def has_words(values: pd.Series, words: str) -> npt.NDArray[np.bool_]:
    """Mark the values that have these words one after the other, whole, in any case, in the singular or the plural.

    "lung" is in "Lungs, lung-associated lymph nodes" and "lung_tissue", and "ear" is not in "heart".
    """
    pattern = rf"(?<!\w){re.escape(plain(words))}(?:s|es)?(?!\w)"
    having = values.astype("string").fillna("").map(plain).str.contains(pattern, regex=True)
    return np.asarray(having, dtype=bool)


def plain(text: str) -> str:
    """Small letters, with single spaces for spaces and underscores."""
    return re.sub(r"[\s_]+", " ", text).strip().casefold()
