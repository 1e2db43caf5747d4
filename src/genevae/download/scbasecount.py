"""scBaseCount's samples → h5ad files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pandas as pd

from genevae.download.choice import Choice
from genevae.download.folder import Folder
from genevae.download.release import Release, read_samples
from genevae.download.remote import Remote
from genevae.download.store import Patience, open_store
from genevae.download.transfer import Fetch
from genevae.errors import DataError, shorten

__all__ = ["download"]

ROOT = "gs://arc-institute-virtual-cell-atlas/scbasecount/2026-01-12"
LISTED_TOGETHER = 64
"""With more files than this, one listing of the folder is quicker than asking for each."""


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
    """Fetch samples of scBaseCount: one h5ad file each, their table of metadata, and a manifest.

    A run that was killed goes on where it stopped when it is given again, and leaves the same bytes as one that was
    not. What is here already is checked by its sha256, not fetched again. A later choice adds to the folder.

    Parameters
    ----------
    out
        The folder: ACCESSION.h5ad for each sample, sample_metadata.csv (first column SRX_accession) and manifest.json.
    root
        The release: a gs://, s3:// or https:// address, or a folder laid out like one. The default is the release
        that the Arc Institute published in January 2026; it is public and needs no account. Its first one, of
        February 2025, was gs://arc-scbasecount/2025-02-25, to which access ended on March 31, 2026.
    feature
        How reads were counted: Gene, GeneFull, GeneFull_Ex50pAS, GeneFull_ExonOverIntron or Velocyto.
    organism
        The organism's folder, in any case, with spaces or underscores, in full or in whole words ("mus").
    tissue, perturbation
        Samples with any of these in that column: as whole words one after the other, in any case, in the singular or
        the plural. "lung" takes "Lungs" and "lung-associated lymph nodes"; "ear" does not take "heart".
    accessions
        These samples only (SRX, ERX or NRX numbers).
    min_cells, max_cells
        Samples of so many cells, both included.
    max_files
        The first so many of what is left, in the order of their accessions.
    dry_run
        Say what would be fetched, and fetch nothing.
    workers
        Files that are fetched at the same time.
    retries
        Tries after the first whenever the store falters, with longer and longer waits in between.
    progress
        Whether to show a bar, on a terminal.

    Returns
    -------
    pandas.DataFrame
        One row per sample chosen: accession, cells, bytes, and file (for a dry run, path: where it is).

    Raises
    ------
    DataError
        If the release, its table or a file is not there or may not be read, nothing fits, what arrives is not what
        the store says it is, or a package is missing. All other files are whole.
    RunError
        If the folder holds another release, another process fills it, or the disk is full.

    References
    ----------
    Youngblut et al., bioRxiv 2025.02.27.640494.

    Examples
    --------
    >>> download("lung", tissue=["lung"], min_cells=1000, max_files=10, dry_run=True)  # doctest: +SKIP
    """
    choice = Choice(tissue, perturbation, accessions, min_cells, max_cells, max_files)
    if workers < 1 or retries < 0:
        raise DataError(f"workers is {workers} and retries {retries}: give at least 1 and 0.")
    stop = Event()
    store, path = open_store(str(root), Patience(retries, sleep=stop.wait))  # a run that ends does not wait any longer
    release = Release.find(store, path, feature, organism)
    samples = read_samples(release)
    chosen = release.places(choice.of(samples, store.url(release.table)))
    remotes, failed = _described(chosen, release, workers)
    if dry_run:
        return _result(chosen, {name: remote.size for name, remote in remotes.items()}, chosen["path"])
    with (
        Folder.open(Path(out), release) as folder,
        _bar(sum(remote.size for remote in remotes.values()), progress) as advance,
    ):
        done = folder.fill(remotes, Fetch(store, advance, stop), workers, failed)
        folder.finish(samples, done)
    if failed:
        raise DataError(_failure(failed, len(done), folder.path))
    files = chosen["accession"].map(lambda name: str(folder.file(name)))
    return _result(chosen, {name: record.bytes for name, record in done.items()}, files.rename("file"))


def _described(chosen: pd.DataFrame, release: Release, workers: int) -> tuple[dict[str, Remote], dict[str, str]]:
    """Ask for the size and version of each file; say why where that is not to be had."""
    listed = release.store.folder(release.folder) if len(chosen) > LISTED_TOGETHER else {}

    def describe(path: str) -> Remote | str:
        try:
            return listed.get(path.rpartition("/")[2]) or release.store.describe(path)
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(workers) as pool:
        answers = dict(zip(chosen["accession"], pool.map(describe, chosen["path"]), strict=True))
    remotes = {name: answer for name, answer in answers.items() if isinstance(answer, Remote)}
    return remotes, {name: answer for name, answer in answers.items() if isinstance(answer, str)}


def _result(chosen: pd.DataFrame, sizes: Mapping[str, int], places: pd.Series) -> pd.DataFrame:
    n_bytes = chosen["accession"].map(sizes).astype("Int64")
    return chosen[["accession", "cells"]].assign(bytes=n_bytes, **{str(places.name): places})


def _failure(failed: Mapping[str, str], n_done: int, folder: Path) -> str:
    names = sorted(failed)
    return (
        f"{len(failed):,} of {len(failed) + n_done:,} files were not fetched: {shorten(names)}. "
        f"{' '.join(failed[name] for name in names[:3])} "
        f"The others are whole in {folder}, and the same command goes on with those that are missing."
    )


@contextmanager
def _bar(n_bytes: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show how many of the bytes are here; yields what is to be called with each further number of bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("", total=n_bytes)
        yield lambda number: bar.advance(task, number)
