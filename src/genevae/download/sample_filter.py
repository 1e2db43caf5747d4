"""Selection of samples of a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from genevae.download.columns import ACCESSION, cells_of, column_of, contains_text, plain
from genevae.errors import DataError, nearest

__all__ = ["SampleFilter"]


@dataclass(frozen=True)
class SampleFilter:
    """Criteria for samples. A sample must meet all of them.

    Parameters
    ----------
    tissue, perturbation
        The sample has any of these words; without words, every sample passes.
    accessions
        The sample is one of these; without accessions, every sample passes.
    min_cells, max_cells
        Range of the number of cells, inclusive.
    max_files
        Number of samples to keep, in the order of their accessions.
    """

    tissue: Sequence[str] = ()
    perturbation: Sequence[str] = ()
    accessions: Sequence[str] = ()
    min_cells: int | None = None
    max_cells: int | None = None
    max_files: int | None = None

    def __post_init__(self) -> None:
        """Check the criteria. A single word is taken as a list of one."""
        for name in ("tissue", "perturbation", "accessions"):
            given = getattr(self, name)
            texts = (given,) if isinstance(given, str) else tuple(given)
            if any(not plain(word) for word in texts):
                raise DataError(f"{name} has an empty word. Give a word, or leave it out.")
            object.__setattr__(self, name, texts)
        if self.max_files is not None and self.max_files < 1:
            raise DataError(f"max_files must be 1 or more, not {self.max_files}. Leave it out for all files.")
        if None not in (self.min_cells, self.max_cells) and self.min_cells > self.max_cells:  # type: ignore[operator]
            raise DataError(
                f"min_cells ({self.min_cells:,}) is more than max_cells ({self.max_cells:,}), so no sample matches."
            )

    def select(self, samples: pd.DataFrame, where: str) -> pd.DataFrame:
        """Return the matching samples, in the order of their accessions.

        Raises
        ------
        DataError
            If a word or an accession does not occur in the table, or no sample matches.
        """
        left = np.ones(len(samples), dtype=bool)
        counts = [f"{len(samples):,} in all"]
        for name in ("tissue", "perturbation"):
            if texts := getattr(self, name):
                left &= _with_any(samples, name, texts, where)
                counts.append(f"{left.sum():,} with {name} {' or '.join(texts)}")
        if self.accessions:
            left &= _with_accession(samples, self.accessions, where)
            counts.append(f"{left.sum():,} of the accessions given")
        if self.min_cells is not None or self.max_cells is not None:
            most = np.inf if self.max_cells is None else self.max_cells
            left &= cells_of(samples, where).between(self.min_cells or 0, most).fillna(value=False).to_numpy(dtype=bool)
            counts.append(f"{left.sum():,} of {self.min_cells or 0:,} to {self.max_cells or 'any number of'} cells")
        if not left.any():
            raise DataError(f"No sample of {where} matches: {'; of these '.join(counts)}. Use fewer criteria.")
        return samples.loc[left].iloc[: self.max_files]


def _with_any(samples: pd.DataFrame, role: str, texts: Sequence[str], where: str) -> npt.NDArray[np.bool_]:
    """Return which samples have any of the words. Each word must occur in some sample."""
    values = samples[column_of(samples, role, where)]
    marked = np.zeros(len(samples), dtype=bool)
    for word in texts:
        having = contains_text(values, word)
        if not having.any():
            parts = values.dropna().astype(str).str.split(",").explode().str.strip()
            names = parts[parts.str.len().between(1, 60)].value_counts(sort=True).index
            raise DataError(f"No sample of {where} has the {role} '{word}'. {nearest(word, names)}")
        marked |= having
    return marked


def _with_accession(samples: pd.DataFrame, wanted: Sequence[str], where: str) -> npt.NDArray[np.bool_]:
    folded = samples[ACCESSION].str.casefold()
    known = set(folded)
    unknown = [accession for accession in wanted if accession.strip().casefold() not in known]
    if unknown:
        raise DataError(f"{where} has no sample '{unknown[0]}'. {nearest(unknown[0], samples[ACCESSION])}")
    return np.asarray(folded.isin([accession.strip().casefold() for accession in wanted]), dtype=bool)
