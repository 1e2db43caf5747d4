"""Vectors of categories, such as what is known of the gene that a perturbation knocks out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from genevae.errors import DataError, shorten
from genevae.io.bounded import read_text
from genevae.io.tables.metadata import read_table

__all__ = ["Embedding", "read_embedding"]

MAX_FEATURES, MAX_NUMBERS = 128, 4_000_000
"""Principal components of the vectors, and numbers of all of them, that a model keeps at most."""


@dataclass(frozen=True)
class Embedding:
    """A vector for each category of a covariate.

    Parameters
    ----------
    sha256
        Of the names and the vectors as they were given.
    rows
        Principal components of the vectors, with a mean square of one; zeros for categories without a vector.
    """

    sha256: str
    rows: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, vectors: pd.DataFrame, categories: Sequence[str]) -> Self:
        """Take the principal components of vectors, which keep the distances between them; at most 128.

        Parameters
        ----------
        vectors
            A row for each category; see :func:`read_embedding`.
        categories
            The categories that need a row; those that ``vectors`` lack get zeros.
        """
        given = np.ascontiguousarray(vectors, dtype=np.float64)
        sha256 = hashlib.sha256("\n".join(map(str, vectors.index)).encode() + given.tobytes()).hexdigest()
        off_cf = given - given.mean(0)
        scale = np.abs(off_cf).max()
        if not scale:
            raise DataError(
                "The vectors of an embedding are all the same, so that its categories cannot be distinguished."
            )
        off_cf /= scale
        _, value_k, axis_kf = np.linalg.svd(off_cf, full_matrices=False)
        kept = np.flatnonzero(np.square(value_k) > 1e-9 * value_k[0] ** 2)[:MAX_FEATURES]
        axis_fk = axis_kf[kept].T
        axis_fk *= np.sign(axis_fk[np.abs(axis_fk).argmax(0), np.arange(len(kept))])
        place_ck = off_cf @ axis_fk
        place_ck /= np.sqrt(np.square(place_ck).mean())
        if len(categories) * len(kept) > MAX_NUMBERS:
            raise DataError(
                f"An embedding of {len(categories):,} categories is too large: {MAX_NUMBERS // len(kept):,} of "
                f"{len(kept)} components can be kept. Leave out categories that will not be predicted."
            )
        row_of = dict(zip(vectors.index, place_ck.astype(np.float32).tolist(), strict=True))
        zero = [0.0] * len(kept)
        return cls(sha256, tuple(tuple(float(f"{x:.7g}") for x in row_of.get(name, zero)) for name in categories))


def read_embedding(given: Any, field: str) -> pd.DataFrame:
    """Return the vectors of categories as a table of numbers, with the names as its index.

    Parameters
    ----------
    given
        A table with the names in its index, the vector of each name, or a file: .csv, .tsv or .parquet with the names
        in the first column, or .npy (categories × features) with a .txt of the same name with one name per line.
    field
        The covariate, for messages.

    Raises
    ------
    DataError
        If the file cannot be read, a value is no finite number, or a name occurs twice.
    """
    what = f"The embedding of '{field}'"
    if isinstance(given, str | Path):
        table, what = _read(Path(given)), f"{given}, the embedding of '{field}',"
    elif isinstance(given, Mapping):
        lengths = {np.shape(vector) for vector in given.values()}
        if len(lengths) != 1 or len(next(iter(lengths))) != 1:
            raise DataError(
                f"{what} needs a vector for each category, all of one length; it has "
                f"{shorten(sorted({'a number' if not each else f'{each[0]} numbers' for each in lengths})) or 'none'}."
            )
        table = pd.DataFrame.from_dict({name: list(vector) for name, vector in given.items()}, orient="index")
    elif isinstance(given, pd.DataFrame):
        table = given
    else:
        raise DataError(f"{what} must be a table, vectors by name, or a file, not {type(given).__name__}.")
    table = table.set_axis(table.index.map(str), axis=0)
    if not table.index.is_unique:
        raise DataError(f"{what} has {shorten(sorted(set(table.index[table.index.duplicated()])))} more than once.")
    numbers = table.apply(pd.to_numeric, errors="coerce").astype(np.float64)
    wrong = ~np.isfinite(numbers.to_numpy())
    if not numbers.size or wrong.any():
        row, column = np.argwhere(wrong)[0] if wrong.any() else (0, 0)
        found = "" if not numbers.size else f": '{table.iloc[row, column]}' in column '{table.columns[column]}' of "
        raise DataError(f"{what} needs a finite number in each column{found and found + str(table.index[row])}.")
    return numbers


def _read(path: Path) -> pd.DataFrame:
    """Read a table whose first column has the names, or an array with a list of names."""
    if path.suffix != ".npy":
        table = read_table(path)
        return table.set_index(table.columns[0])
    names_file = path.with_suffix(".txt")
    if not names_file.is_file():
        raise DataError(f"{path} has no names: write them to {names_file}, one per line in the order of the rows.")
    try:
        vector_cf = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read as an array of numbers: {error}. Write it again with numpy.save."
        ) from error
    names = [name.strip() for name in read_text(names_file).rstrip("\n").split("\n")]
    if vector_cf.ndim != 2 or len(vector_cf) != len(names):
        raise DataError(
            f"{path} has the shape {vector_cf.shape}, and {names_file} has {len(names):,} names, one per row."
        )
    return pd.DataFrame(vector_cf, index=names)
