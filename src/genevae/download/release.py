"""A release of scBaseCount: the addresses of its files, and the table of its samples.

A release consists of ``ROOT/metadata/FEATURE/ORGANISM/sample_metadata.parquet``, one row per sample, and
``ROOT/h5ad/FEATURE/ORGANISM/ACCESSION.h5ad``, one file per sample (README and Python tutorial of
https://github.com/ArcInstitute/arc-virtual-cell-atlas, releases 2025-02-25 and 2026-01-12).
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import pandas as pd

from genevae.download.columns import ACCESSION, cells_of, column_of, contains_text, find_column, plain
from genevae.download.store import Store
from genevae.errors import DataError, nearest

__all__ = ["Release", "read_samples"]


@dataclass(frozen=True)
class Release:
    """One organism and one counting method of a release.

    Parameters
    ----------
    store, root
        Address of the release.
    feature
        Counting method: the folder with STARsolo's name for it.
    organism
        The folder of the organism.
    """

    store: Store
    root: str
    feature: str
    organism: str

    @property
    def table(self) -> str:
        """Path of the sample table."""
        return f"{self.root}/metadata/{self.feature}/{self.organism}/sample_metadata.parquet"

    @property
    def folder(self) -> str:
        """Path of the folder of h5ad files."""
        return f"{self.root}/h5ad/{self.feature}/{self.organism}"

    def file_paths(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Return accession, number of cells, and path of each sample.

        Only the file names of the table's paths are used, so that a copy of a release can be read.
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
        columns = {"accession": samples[ACCESSION], "cells": cells, "path": self.folder + "/" + names.astype(str)}
        return pd.DataFrame(columns).reset_index(drop=True)

    @classmethod
    def find(cls, store: Store, root: str, feature: str, organism: str) -> Release:
        """Find the folder of an organism, by a full or partial name, also with spaces.

        Raises
        ------
        DataError
            If no organism matches, or more than one.
        """
        given = plain(organism).replace(" ", "_")
        folders = store.names(f"{root}/metadata/{feature}")
        exact = [name for name in folders if name.casefold() == given]
        found = exact or [name for name in folders if contains_text(pd.Series([name]), organism).all()]
        if len(found) == 1:
            return cls(store, root, feature, found[0])
        if not folders:  # the store cannot be listed, or the feature is wrong
            return cls(store, root, feature, organism.strip().replace(" ", "_"))
        doubt = "matches more than one" if found else "matches none of them"
        raise DataError(
            f"{store.url(root)}/metadata/{feature} has one folder per organism, and '{organism}' {doubt}. "
            f"{nearest(organism, found or folders)}"
        )


def read_samples(release: Release) -> pd.DataFrame:
    """Read the sample table: one row per accession, sorted, with the accession in the first column.

    Raises
    ------
    DataError
        If it does not exist, is not a parquet table, has no accessions, or has accessions that cannot be file names.
    """
    where, store = release.store.url(release.table), release.store
    try:
        content = store.read(release.table)
    except DataError as error:
        features = store.names(f"{release.root}/metadata")
        if not isinstance(error.__cause__, FileNotFoundError) or not features or release.feature in features:
            raise
        raise DataError(
            f"'{release.feature}' is not a feature of this release ({error}) {nearest(release.feature, features)}"
        ) from error
    try:
        samples = pd.read_parquet(io.BytesIO(content))
    except ImportError as error:
        raise DataError(f"Reading {where} needs pyarrow: pip install 'genevae[download]'.") from error
    except (ValueError, OSError) as error:  # pyarrow's own errors are these
        raise DataError(f"{where} is not a parquet table ({error}). Is the root that of a release?") from error
    name = column_of(samples, "accession", where)
    accessions = samples.pop(name).astype(str).str.strip()
    samples = samples.drop(columns=ACCESSION, errors="ignore")  # a second column of that kind
    samples.insert(0, ACCESSION, accessions)
    bad = [accession for accession in accessions if not re.fullmatch(r"\w[\w.-]*", accession, re.ASCII)]
    if bad:
        raise DataError(f"{where} has an accession in column {name} that cannot be a file name: '{bad[0]}'.")
    return samples.drop_duplicates(ACCESSION).sort_values(ACCESSION, kind="stable", ignore_index=True)
