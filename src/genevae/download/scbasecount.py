"""Download of samples of scBaseCount as h5ad files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pandas as pd

from genevae.download.folder import Folder
from genevae.download.release import Release, read_samples
from genevae.download.remote import Remote
from genevae.download.sample_filter import SampleFilter
from genevae.download.store import RetryPolicy, open_store
from genevae.download.transfer import Fetch
from genevae.errors import DataError, shorten
from genevae.io.overwrite import require_separate
from genevae.progress import progress as shown_progress

__all__ = ["download"]

ROOT = "gs://arc-institute-virtual-cell-atlas/scbasecount/2026-01-12"
LISTED_TOGETHER = 64
"""With more files than this, one listing of the folder is faster than a request per file."""


def download(
    out: str | Path,
    *,
    root: str = ROOT,
    feature: str = "GeneFull_Ex50pAS",
    organism: str = "Homo_sapiens",
    tissue: Sequence[str] = (),
    perturbation: Sequence[str] = (),
    accessions: Sequence[str] = (),
    min_cells: int | None = None,
    max_cells: int | None = None,
    max_files: int | None = None,
    dry_run: bool = False,
    workers: int = 4,
    retries: int = 5,
    progress: bool = True,
) -> pd.DataFrame:
    """Download samples of scBaseCount: one h5ad file each, a table of their metadata, and a manifest.

    Running the same command again resumes an interrupted download, with the same result, byte by byte. Existing files
    are verified by their sha256, not downloaded again. Further downloads may add to the folder.

    Parameters
    ----------
    out
        The folder: ACCESSION.h5ad for each sample, sample_metadata.csv (first column SRX_accession) and manifest.json.
    root
        The release: a gs://, s3:// or https:// address, or a folder with the same layout. The default is the release
        of the Arc Institute of January 2026, which is public and needs no account. (The first release, of February
        2025, was gs://arc-scbasecount/2025-02-25; access ended on March 31, 2026.)
    feature
        Counting method: Gene, GeneFull, GeneFull_Ex50pAS, GeneFull_ExonOverIntron or Velocyto.
    organism
        The folder of the organism, in any case, with spaces or underscores; part of the name is enough ("mus").
    tissue, perturbation
        Samples with any of these texts in that column: whole words, in any case, singular or plural. "lung" matches
        "Lungs" and "lung-associated lymph nodes"; "ear" does not match "heart".
    accessions
        Only these samples (SRX, ERX or NRX numbers).
    min_cells, max_cells
        Range of the number of cells of a sample, inclusive.
    max_files
        Maximum number of samples, in the order of their accessions.
    dry_run
        List the samples without downloading them.
    workers
        Number of parallel downloads.
    retries
        Further tries after a temporary failure, with increasing waits.
    progress
        Whether to show a progress bar on a terminal.

    Returns
    -------
    pandas.DataFrame
        One row per selected sample: accession, cells, bytes, and file (in a dry run: path, its address).

    Raises
    ------
    DataError
        If the release, its table or a file does not exist or is not readable, no sample matches, the content does not
        match its digest, or a package is missing. All other files are complete.
    RunError
        If the folder belongs to another release, another process uses it, or the disk is full.

    References
    ----------
    Youngblut et al., bioRxiv 2025.02.27.640494.

    Examples
    --------
    >>> download("lung", tissue=["lung"], min_cells=1000, max_files=10, dry_run=True)  # doctest: +SKIP
    """
    criteria = SampleFilter(tissue, perturbation, accessions, min_cells, max_cells, max_files)
    if workers < 1 or retries < 0:
        raise DataError(f"workers must be 1 or more and retries 0 or more, not {workers} and {retries}.")
    require_separate(Path(out), str(root))
    stop = Event()
    store, path = open_store(str(root), RetryPolicy(retries, sleep=stop.wait))  # stopping ends the waits
    release = Release.find(store, path, feature, organism)
    samples = read_samples(release)
    chosen = release.file_paths(criteria.select(samples, store.url(release.table)))
    remotes, failed = _describe_files(chosen, release, workers)
    if dry_run:
        return _result(chosen, {name: remote.size for name, remote in remotes.items()}, chosen["path"])
    with (
        Folder.open(Path(out), release) as folder,
        shown_progress(
            "downloading", sum(remote.size for remote in remotes.values()), progress, written=_megabytes
        ) as advance,
    ):
        done = folder.fill(remotes, Fetch(store, advance, stop), workers, failed)
        folder.finish(samples, done)
    if failed:
        raise DataError(_failure(failed, len(done), folder.path))
    files = chosen["accession"].map(lambda name: str(folder.file(name)))
    return _result(chosen, {name: record.bytes for name, record in done.items()}, files.rename("file"))


def _describe_files(chosen: pd.DataFrame, release: Release, workers: int) -> tuple[dict[str, Remote], dict[str, str]]:
    """Return the description of each file, and the reason for each file without one."""
    listed = release.store.folder(release.folder) if len(chosen) > LISTED_TOGETHER else {}

    def describe(path: str) -> Remote | str:
        try:
            return listed.get(path.rpartition("/")[2]) or release.store.describe(path)
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(workers) as pool:
        results = dict(zip(chosen["accession"], pool.map(describe, chosen["path"]), strict=True))
    remotes = {name: result for name, result in results.items() if isinstance(result, Remote)}
    return remotes, {name: result for name, result in results.items() if isinstance(result, str)}


def _result(chosen: pd.DataFrame, sizes: Mapping[str, int], paths: pd.Series) -> pd.DataFrame:
    n_bytes = chosen["accession"].map(sizes).astype("Int64")
    return chosen[["accession", "cells"]].assign(bytes=n_bytes, **{str(paths.name): paths})


def _failure(failed: Mapping[str, str], n_done: int, folder: Path) -> str:
    names = sorted(failed)
    return (
        f"{len(failed):,} of {len(failed) + n_done:,} files were not downloaded: {shorten(names)}. "
        f"{' '.join(failed[name] for name in names[:3])} "
        f"The others are complete in {folder}. Run the same command again for the missing ones."
    )


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
