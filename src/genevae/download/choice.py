"""Choosing among the samples of a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from genevae.download.columns import ACCESSION, cells_of, column_of, has_words, plain
from genevae.errors import DataError, nearest

__all__ = ["Choice"]


@dataclass(frozen=True)
class Choice:
    """Which samples are wanted: those that pass every one of these.

    Parameters
    ----------
    tissue, perturbation
        Any of these words is in the sample's; all, if none are given.
    accessions
        The sample is one of these; any, if none are given.
    min_cells, max_cells
        Cells of the sample, both included.
    max_files
        The first so many in the order of their accessions.
    """

    tissue: Sequence[str] = ()
    perturbation: Sequence[str] = ()
    accessions: Sequence[str] = ()
    min_cells: int | None = None
    max_cells: int | None = None
    max_files: int | None = None

    def __post_init__(self) -> None:
        """Take a word for a list of one, and refuse numbers that leave nothing."""
        for name in ("tissue", "perturbation", "accessions"):
            given = getattr(self, name)
            words = (given,) if isinstance(given, str) else tuple(given)
            if any(not plain(word) for word in words):
                raise DataError(f"{name} has an empty word: give what to look for, or leave it out.")
            object.__setattr__(self, name, words)
        if self.max_files is not None and self.max_files < 1:
            raise DataError(f"max_files is {self.max_files}: give at least 1, or leave it out for all.")
        if None not in (self.min_cells, self.max_cells) and self.min_cells > self.max_cells:  # type: ignore[operator]
            raise DataError(
                f"min_cells ({self.min_cells:,}) is more than max_cells ({self.max_cells:,}): no sample fits."
            )

    def of(self, samples: pd.DataFrame, where: str) -> pd.DataFrame:
        """Return the rows of the samples that are wanted, in the order of their accessions.

        Raises
        ------
        DataError
            If a word or an accession is nowhere in the table, or nothing is left.
        """
        left = np.ones(len(samples), dtype=bool)
        told = [f"{len(samples):,} in all"]
        for name in ("tissue", "perturbation"):
            if words := getattr(self, name):
                left &= _with_any(samples, name, words, where)
                told.append(f"{left.sum():,} with {name} {' or '.join(words)}")
        if self.accessions:
            left &= _with_accession(samples, self.accessions, where)
            told.append(f"{left.sum():,} of the accessions given")
        if self.min_cells is not None or self.max_cells is not None:
            most = np.inf if self.max_cells is None else self.max_cells
            left &= cells_of(samples, where).between(self.min_cells or 0, most).fillna(value=False).to_numpy(dtype=bool)
            told.append(f"{left.sum():,} of {self.min_cells or 0:,} to {self.max_cells or 'any number of'} cells")
        if not left.any():
            raise DataError(f"No sample of {where} is left: {'; of these '.join(told)}. Ask for less.")
        return samples.loc[left].iloc[: self.max_files]


def _with_any(samples: pd.DataFrame, role: str, words: Sequence[str], where: str) -> npt.NDArray[np.bool_]:
    """Mark the samples that have any of the words, each of which some sample must have."""
    values = samples[column_of(samples, role, where)]
    marked = np.zeros(len(samples), dtype=bool)
    for word in words:
        having = has_words(values, word)
        if not having.any():
            parts = values.dropna().astype(str).str.split(",").explode().str.strip()
            names = parts[parts.str.len().between(1, 60)].value_counts(sort=True).index
            raise DataError(f"No sample of {where} has the {role} '{word}'. {nearest(word, names)}")
        marked |= having
    return marked


def _with_accession(samples: pd.DataFrame, wanted: Sequence[str], where: str) -> npt.NDArray[np.bool_]:
    folded = samples[ACCESSION].str.casefold()
    there = set(folded)
    unknown = [accession for accession in wanted if accession.strip().casefold() not in there]
    if unknown:
        raise DataError(f"{where} has no sample '{unknown[0]}'. {nearest(unknown[0], samples[ACCESSION])}")
    return np.asarray(folded.isin([accession.strip().casefold() for accession in wanted]), dtype=bool)
