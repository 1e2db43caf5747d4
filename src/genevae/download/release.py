"""A release of scBaseCount: where its files are, and the table of its samples.

A release is laid out as ``ROOT/metadata/FEATURE/ORGANISM/sample_metadata.parquet``, one row per sample, and
``ROOT/h5ad/FEATURE/ORGANISM/ACCESSION.h5ad``, one file per sample (README and Python tutorial of
https://github.com/ArcInstitute/arc-virtual-cell-atlas, releases 2025-02-25 and 2026-01-12).
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import pandas as pd

from genevae.download.columns import ACCESSION, cells_of, column_of, find_column, has_words, plain
from genevae.download.store import Store
from genevae.errors import DataError, nearest

__all__ = ["Release", "read_samples"]


@dataclass(frozen=True)
class Release:
    """One organism and one way of counting of a release.

    Parameters
    ----------
    store, root
        Where the release is.
    feature
        How reads were counted: a folder of STARsolo's name for it.
    organism
        The folder of the organism.
    """

    store: Store
    root: str
    feature: str
    organism: str

    @property
    def table(self) -> str:
        """Where the table of samples is."""
        return f"{self.root}/metadata/{self.feature}/{self.organism}/sample_metadata.parquet"

    @property
    def folder(self) -> str:
        """Where the h5ad files are."""
        return f"{self.root}/h5ad/{self.feature}/{self.organism}"

    def places(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Return accession, cells, and where the file is: under this root, whatever the table's own paths say.

        The table's paths give the file's name only, so that a copy of a release elsewhere is read from there.
        """
        where = self.store.url(self.table)
        names = samples[ACCESSION] + ".h5ad"
        if path := find_column(samples, "path"):
            given = samples[path].astype("string").str.rstrip("/").str.rpartition("/")[2]
            names = given.where(given.fillna("") != "", names)
        cells = (
            cells_of(samples, where)
            if find_column(samples, "cells")
            else pd.Series(pd.NA, samples.index, dtype="Int64")
        )
        places = {"accession": samples[ACCESSION], "cells": cells, "path": self.folder + "/" + names.astype(str)}
        return pd.DataFrame(places).reset_index(drop=True)

    @classmethod
    def find(cls, store: Store, root: str, feature: str, organism: str) -> Release:
        """Find the folder of an organism, whose name may be given in part and with spaces.

        Raises
        ------
        DataError
            If there is no such organism, or more than one; or no such feature.
        """
        given = plain(organism).replace(" ", "_")
        there = store.names(f"{root}/metadata/{feature}")
        exact = [name for name in there if name.casefold() == given]
        found = exact or [name for name in there if has_words(pd.Series([name]), organism).all()]
        if len(found) == 1:
            return cls(store, root, feature, found[0])
        if not there:  # a store that cannot be listed, or a wrong feature
            return cls(store, root, feature, organism.strip().replace(" ", "_"))
        doubt = "could be more than one" if found else "is none of them"
        raise DataError(
            f"{store.url(root)}/metadata/{feature} has a folder for each organism, and '{organism}' {doubt}. "
            f"{nearest(organism, found or there)}"
        )


def read_samples(release: Release) -> pd.DataFrame:
    """Read the table of samples: one row per accession, in their order, the accession in the first column.

    Raises
    ------
    DataError
        If it is not there, is no parquet table, has no accessions, or has some that cannot be a file's name.
    """
    where, store = release.store.url(release.table), release.store
    try:
        content = store.read(release.table)
    except DataError as error:
        features = store.names(f"{release.root}/metadata")
        if not isinstance(error.__cause__, FileNotFoundError) or not features or release.feature in features:
            raise
        raise DataError(
            f"'{release.feature}' is no feature there ({error}) {nearest(release.feature, features)}"
        ) from error
    try:
        samples = pd.read_parquet(io.BytesIO(content))
    except ImportError as error:
        raise DataError(f"Reading {where} needs pyarrow: pip install 'genevae[download]'.") from error
    except (ValueError, OSError) as error:  # pyarrow's own errors are these
        raise DataError(f"{where} is no parquet table ({error}): is the root that of a release?") from error
    name = column_of(samples, "accession", where)
    accessions = samples.pop(name).astype(str).str.strip()
    samples = samples.drop(columns=ACCESSION, errors="ignore")  # a second column of that kind
    samples.insert(0, ACCESSION, accessions)
    bad = [accession for accession in accessions if not re.fullmatch(r"\w[\w.-]*", accession, re.ASCII)]
    if bad:
        raise DataError(f"{where} has an accession in column {name} that cannot be a file's name: '{bad[0]}'.")
    return samples.drop_duplicates(ACCESSION).sort_values(ACCESSION, kind="stable", ignore_index=True)
