"""Resumable download of one file: in chunks, verified, and renamed when complete.

While the file ``NAME`` is downloaded, ``NAME.part`` has its first bytes, and ``NAME.part.json`` states how many of them
are flushed to disk, their sha256, and the version of the remote file. The next run uses these bytes if their sha256 is
correct and the remote file has the same version; otherwise it starts the file again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

from genevae.download.remote import ByteDigest, Record, Remote
from genevae.download.store import Store
from genevae.errors import DataError, RunError
from genevae.io.atomic import sync

__all__ = ["Fetch", "Stopped", "as_text", "forget", "in_gigabytes", "recorded", "write_complete"]

CHUNK = 2**23
"""Bytes per request, and the largest loss per file if a run is killed."""

TRIES = 3
"""Number of downloads of one file that changes or whose content does not match its digest."""


class Stopped(Exception):  # noqa: N818 - not an error: it stops the other workers
    """Raised in workers when an error in another one stops the run."""


class _Mismatch(Exception):  # noqa: N818 - it never leaves this file
    """The downloaded content does not match the description of the store."""


@dataclass(frozen=True)
class Fetch:
    """Fetches files from a store.

    Parameters
    ----------
    store
        The store.
    advance
        Called with the number of new bytes, which is negative if some were invalid.
    stop
        Stops the downloads between two chunks.
    """

    store: Store
    advance: Callable[[int], None]
    stop: Event

    def __call__(self, remote: Remote, file: Path, known: Record | None) -> Record:
        """Download a file, unless it exists and is verified.

        Parameters
        ----------
        remote
            The remote file.
        file
            The local path.
        known
            The record of an earlier run.

        Raises
        ------
        DataError
            If it cannot be read, or its content repeatedly does not match the description of the store.
        RunError
            If it cannot be written, for example because the disk is full.
        """
        try:
            existing = self._verified(remote, file, [known, recorded(file)])
            return existing if existing is not None else self._download_verified(remote, file)
        except OSError as error:  # errors of the store are DataError
            raise self._unwritable(error, file, remote) from error

    def _download_verified(self, remote: Remote, file: Path) -> Record:
        """Download the file, and start again if the content is wrong."""
        reason, arrived = "", set[str]()
        for _ in range(TRIES):
            try:
                return self._download(remote, file, arrived)
            except _Mismatch as error:
                reason = str(error)
                forget(file)
                remote = self.store.describe(remote.path, fresh=True)
        raise DataError(
            f"{self.store.url(remote.path)} was downloaded {TRIES} times, but its content did not match: {reason}. "
            "It is being changed, or is damaged in the store. Try again later, or leave it out."
        )

    def _verified(self, remote: Remote, file: Path, records: Iterable[Record | None]) -> Record | None:
        """Return the record of an existing file, if it matches the remote one."""
        if not file.is_file() or file.stat().st_size != remote.size:
            return None
        tally = ByteDigest(remote)
        self._count(file, remote.size, tally)
        record = tally.record(remote)
        if record in records or (remote.check is not None and tally.agrees()):
            return record
        self.advance(-remote.size)
        return None

    def _download(self, remote: Remote, file: Path, arrived: set[str]) -> Record:
        """Download the missing bytes, verify the content, and rename the file."""
        part = _part(file)
        with part.open("ab") as output:
            tally = self._resumed(remote, file)
            output.truncate(tally.count)
            while tally.count < remote.size:
                if self.stop.is_set():
                    raise Stopped
                end = min(tally.count + CHUNK, remote.size)
                block = self.store.read(remote.path, tally.count, end)
                output.write(block)
                output.flush()
                os.fsync(output.fileno())
                tally.add(block)
                self.advance(len(block))
                write_complete(_notes(file), as_text(asdict(tally.record(remote))))
        self._require_match(remote, tally, arrived)
        part.replace(file)
        sync(file.parent)
        return tally.record(remote)

    def _resumed(self, remote: Remote, file: Path) -> ByteDigest:
        """Return the digest of the bytes that a killed run left, if they are valid, or an empty one."""
        notes, part = recorded(file), _part(file)
        tally = ByteDigest(remote)
        if notes is None or notes.version != remote.version or part.stat().st_size < notes.bytes:
            return tally
        self._count(part, notes.bytes, tally)
        if tally.record(remote) == notes:
            return tally
        self.advance(-tally.count)
        return ByteDigest(remote)

    def _count(self, file: Path, size: int, tally: ByteDigest) -> None:
        """Read the first bytes of a local file."""
        with file.open("rb") as source:
            while tally.count < size:
                if self.stop.is_set():
                    raise Stopped
                block = source.read(min(CHUNK, size - tally.count))
                if not block:
                    return
                tally.add(block)
                self.advance(len(block))

    def _require_match(self, remote: Remote, tally: ByteDigest, arrived: set[str]) -> None:
        """Check that the content matches the remote file, which has not changed.

        An uncertain digest of the store is ignored if the same bytes were received twice.
        """
        sha256, check = tally.record(remote).sha256, remote.check
        reason = ""
        if self.store.describe(remote.path, fresh=True).version != remote.version:
            reason = "it changed meanwhile"
        elif check is not None and not tally.agrees() and (check.sure or sha256 not in arrived):
            reason = f"its {check.algorithm} should be {check.digest}, but the content has another"
        if reason:
            arrived.add(sha256)
            self.advance(-tally.count)
            raise _Mismatch(reason)

    def _unwritable(self, error: OSError, file: Path, remote: Remote) -> RunError:
        """Return the error for a file that cannot be written, and stop the other workers."""
        self.stop.set()
        folder = file.absolute().parent
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            part = _part(file)
            missing = remote.size - (part.stat().st_size if part.exists() else 0)
            return RunError(
                f"{folder} is full: {file.name} alone needs {in_gigabytes(missing)} more. "
                "Free some space, and run the same command again to resume."
            )
        return RunError(f"Cannot write {file}: {error.strerror or error}. Choose a folder with write permission.")


def recorded(file: Path) -> Record | None:
    """Return the record of a file, or of its partial download, that a killed run left."""
    try:
        return Record.of(json.loads(_notes(file).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def forget(file: Path) -> None:
    """Remove the temporary files of a download."""
    for path in (_part(file), _notes(file), _draft(_notes(file))):
        path.unlink(missing_ok=True)


def write_complete(path: Path, text: str) -> None:
    """Write a small file atomically.

    The draft always has the same name, so that killed runs do not accumulate drafts.
    """
    draft = _draft(path)
    with draft.open("w", encoding="utf-8", newline="") as output:
        output.write(text)
        output.flush()
        os.fsync(output.fileno())
    draft.replace(path)


def in_gigabytes(n_bytes: int) -> str:
    """Format a number of bytes.

    >>> in_gigabytes(12_345_678_901), in_gigabytes(3_200_000), in_gigabytes(12)
    ('12.3 GB', '3.2 MB', '12 bytes')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:,.1f} {name}"
    return f"{n_bytes:,} bytes"


def as_text(content: Mapping[str, Any]) -> str:
    """Format a mapping as sorted JSON, so that equal content gives equal bytes."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _part(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _notes(file: Path) -> Path:
    return file.with_name(f"{file.name}.part.json")


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.draft")
