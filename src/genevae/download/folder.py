"""The folder of downloaded samples, with its manifest and its table of samples."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import pandas as pd

from genevae.download.columns import ACCESSION
from genevae.download.release import Release
from genevae.download.remote import Record, Remote
from genevae.download.transfer import Fetch, Stopped, as_text, forget, in_gigabytes, recorded, write_complete
from genevae.errors import DataError, RunError
from genevae.io.atomic import _lock, sync

__all__ = ["Folder"]

MANIFEST, SAMPLES = "manifest.json", "sample_metadata.csv"
NOTES = ".h5ad.part.json"


@dataclass
class Folder:
    """A folder of h5ad files of one release, their sha256 in manifest.json, their metadata in sample_metadata.csv.

    Parameters
    ----------
    path
        The folder.
    about
        The release: its root, feature and organism.
    records
        The complete files, by accession.
    """

    path: Path
    about: Mapping[str, str]
    records: dict[str, Record] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(cls, path: Path, release: Release) -> Iterator[Self]:
        """Lock the folder for this process, and read its manifest.

        Raises
        ------
        RunError
            If another process uses it, it belongs to another release, or it is not writable.
        """
        handle = _lock(path, path)  # the lock is on the folder itself, so no lock file remains
        try:
            about = {"root": release.store.url(release.root), "feature": release.feature, "organism": release.organism}
            folder = cls(path, about)
            folder._read_manifest()
            folder._write_manifest()  # so that the release of a killed run's files is known
            yield folder
        except OSError as error:
            raise RunError(
                f"Cannot write {path}: {error.strerror or error}. Run the same command again to resume."
            ) from error
        finally:
            os.close(handle)

    def file(self, accession: str) -> Path:
        """Return the path of a sample's file."""
        return self.path / f"{accession}.h5ad"

    def fill(
        self, remotes: Mapping[str, Remote], fetch: Fetch, workers: int, failed: dict[str, str]
    ) -> dict[str, Record]:
        """Download files in parallel, and return the records of the complete ones.

        Parameters
        ----------
        remotes
            The files, by accession.
        fetch
            Downloads one file.
        workers
            Number of parallel downloads.
        failed
            Receives the reason for each file that could not be downloaded.

        Raises
        ------
        RunError
            If the files do not fit on the disk, or cannot be written.
        """
        self._require_space(remotes)
        done: dict[str, Record] = {}
        with ThreadPoolExecutor(workers) as pool:
            futures: dict[Future[Record], str] = {
                pool.submit(fetch, remote, self.file(name), self.records.get(name)): name
                for name, remote in remotes.items()
            }
            try:
                for future in as_completed(futures):
                    try:
                        done[futures[future]] = future.result()
                    except DataError as error:
                        failed[futures[future]] = str(error)
                    except Stopped:
                        continue  # the worker that stopped the run reports the reason
            except BaseException:
                fetch.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return done

    def finish(self, samples: pd.DataFrame, done: Mapping[str, Record]) -> None:
        """Write manifest and sample table, and remove temporary files.

        Files of earlier downloads are kept, and listed too.

        Parameters
        ----------
        samples
            The table of all samples.
        done
            The files that were downloaded or verified now.
        """
        self.records = {**self._finished_earlier(), **done}
        complete = samples[samples[ACCESSION].isin(list(self.records))]
        write_complete(self.path / SAMPLES, complete.to_csv(index=False, lineterminator="\n"))
        self._write_manifest()
        sync(self.path)  # the manifest must be on disk before temporary files are removed
        for name in self.records:
            if name in done or not self._has_part(name):
                forget(self.file(name))

    def _read_manifest(self) -> None:
        """Read the manifest of earlier runs, and check that it is of the same release."""
        manifest = self.path / MANIFEST
        if not manifest.exists():
            return
        try:
            content: Any = json.loads(manifest.read_text(encoding="utf-8"))
            files: dict[str, Any] = dict(content["files"])
            about = {name: content[name] for name in self.about}
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{manifest} is damaged, or not a manifest of a download. Remove it, or choose another folder."
            ) from error
        if about != self.about:
            old, new = (" ".join(values.values()) for values in (about, self.about))
            raise RunError(f"{self.path} contains files of {old}, not of {new}. Choose another folder.")
        read = {name: Record.of(entry) for name, entry in files.items()}
        self.records = {name: record for name, record in read.items() if record is not None}

    def _write_manifest(self) -> None:
        files = {name: {"file": self.file(name).name, **asdict(record)} for name, record in self.records.items()}
        write_complete(self.path / MANIFEST, as_text({**self.about, "files": files}))

    def _finished_earlier(self) -> dict[str, Record]:
        """Return the records of existing files of earlier runs, also of killed ones."""
        noted = {notes.name.removesuffix(NOTES) for notes in self.path.glob(f"*{NOTES}")}
        fetched = {name: recorded(self.file(name)) for name in noted if not self._has_part(name)}
        known = {**self.records, **fetched}
        return {
            name: record
            for name, record in known.items()
            if record is not None and self.file(name).is_file() and self.file(name).stat().st_size == record.bytes
        }

    def _has_part(self, name: str) -> bool:
        return self.file(name).with_name(f"{name}.h5ad.part").exists()

    def _require_space(self, remotes: Mapping[str, Remote]) -> None:
        """Check that the files fit on the disk."""
        files = ((remote, self.file(name)) for name, remote in remotes.items())
        needed = sum(max(0, remote.size - _local_bytes(file)) for remote, file in files)
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise RunError(
                f"{self.path.absolute()} has {in_gigabytes(free)} free, but {in_gigabytes(needed)} are needed: "
                f"{in_gigabytes(needed - free)} are missing. Free space, choose another disk, or give --max-files."
            )


def _local_bytes(file: Path) -> int:
    """Return the size of a file, or of its partial download."""
    part = file.with_name(f"{file.name}.part")
    return max((path.stat().st_size for path in (file, part) if path.exists()), default=0)
