"""Fetch one file from a store so that a run may be killed at any moment: piece by piece, checked, put in place whole.

Beside the file ``NAME`` that is to be, ``NAME.part`` grows, and ``NAME.part.json`` says how many of its bytes are on
the disk for sure, their sha256, and which version of the remote file they are of. Whoever comes next takes those bytes
if their sha256 is right and the remote file is still that version, and starts that file again otherwise.
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

from genevae.download.remote import Record, Remote, Tally
from genevae.download.store import Store
from genevae.errors import DataError, RunError
from genevae.io.atomic import sync

__all__ = ["Fetch", "Stopped", "as_text", "forget", "in_gigabytes", "recorded", "write_complete"]

CHUNK = 2**23
"""Bytes that are asked for at once, and the most that a killed run loses per file."""

TRIES = 3
"""How often one file is begun again because it changed, or what arrived was not it."""


class Stopped(Exception):  # noqa: N818 - no error: the others are told to end
    """Raised in workers when another one met something that ends the run."""


class _NotTheSame(Exception):  # noqa: N818 - it never leaves this file
    """What arrived is not what the store says it has."""


@dataclass(frozen=True)
class Fetch:
    """Fetches files from a store.

    Parameters
    ----------
    store
        Where they are.
    advance
        Called with the number of bytes that are here in addition, negative if some turned out to be worthless.
    stop
        Ends the work between two pieces.
    """

    store: Store
    advance: Callable[[int], None]
    stop: Event

    def __call__(self, remote: Remote, file: Path, known: Record | None) -> Record:
        """Make sure that the file is here, whole and right; what is here already is checked and kept.

        Parameters
        ----------
        remote
            What to fetch.
        file
            Where to put it.
        known
            What an earlier run wrote down of it.

        Raises
        ------
        DataError
            If it cannot be read, or what arrives is not what the store says it has, several times.
        RunError
            If it cannot be written: no space is left, for one.
        """
        try:
            here = self._verified(remote, file, [known, recorded(file)])
            return here if here is not None else self._until_right(remote, file)
        except OSError as error:  # the store's own errors are DataError by now
            raise self._unwritable(error, file, remote) from error

    def _until_right(self, remote: Remote, file: Path) -> Record:
        """Fetch the file, again from its beginning if what arrives is wrong."""
        reason, arrived = "", set[str]()
        for _ in range(TRIES):
            try:
                return self._fetched(remote, file, arrived)
            except _NotTheSame as error:
                reason = str(error)
                forget(file)
                remote = self.store.describe(remote.path, fresh=True)
        raise DataError(
            f"{self.store.url(remote.path)} arrived {TRIES} times, and never as the store says it is: {reason}. "
            "It is being changed, or it is damaged there: try again later, or leave it out."
        )

    def _verified(self, remote: Remote, file: Path, records: Iterable[Record | None]) -> Record | None:
        """Return the record of a file that is here already, if it is the remote one."""
        if not file.is_file() or file.stat().st_size != remote.size:
            return None
        tally = Tally(remote)
        self._count(file, remote.size, tally)
        here = tally.record(remote)
        if here in records or (remote.check is not None and tally.agrees()):
            return here
        self.advance(-remote.size)
        return None

    def _fetched(self, remote: Remote, file: Path, arrived: set[str]) -> Record:
        """Fetch what is missing, check all of it, and put it in place."""
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
        self._require_the_same(remote, tally, arrived)
        part.replace(file)
        sync(file.parent)
        return tally.record(remote)

    def _resumed(self, remote: Remote, file: Path) -> Tally:
        """Count the bytes that a killed run left, if they are to be trusted."""
        notes, part = recorded(file), _part(file)
        tally = Tally(remote)
        if notes is None or notes.version != remote.version or part.stat().st_size < notes.bytes:
            return tally
        self._count(part, notes.bytes, tally)
        if tally.record(remote) == notes:
            return tally
        self.advance(-tally.count)
        return Tally(remote)

    def _count(self, file: Path, size: int, tally: Tally) -> None:
        """Read the first bytes of a file that is here."""
        with file.open("rb") as source:
            while tally.count < size:
                if self.stop.is_set():
                    raise Stopped
                block = source.read(min(CHUNK, size - tally.count))
                if not block:
                    return
                tally.add(block)
                self.advance(len(block))

    def _require_the_same(self, remote: Remote, tally: Tally, arrived: set[str]) -> None:
        """Make sure that the bytes are those of the remote file, and that it did not change meanwhile.

        A digest that is not sure to be one is overruled by the same bytes arriving twice.
        """
        sha256, check = tally.record(remote).sha256, remote.check
        reason = ""
        if self.store.describe(remote.path, fresh=True).version != remote.version:
            reason = "it changed meanwhile"
        elif check is not None and not tally.agrees() and (check.sure or sha256 not in arrived):
            reason = f"its {check.algorithm} is {check.digest}, and that of the bytes is another"
        if reason:
            arrived.add(sha256)
            self.advance(-tally.count)
            raise _NotTheSame(reason)

    def _unwritable(self, error: OSError, file: Path, remote: Remote) -> RunError:
        """Say why a file cannot be written, and end the work of the others."""
        self.stop.set()
        folder = file.absolute().parent
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            part = _part(file)
            missing = remote.size - (part.stat().st_size if part.exists() else 0)
            return RunError(
                f"{folder} is full: {file.name} alone needs {in_gigabytes(missing)} more. "
                "Make room and run the same command again: it goes on where it stopped."
            )
        return RunError(f"Cannot write {file}: {error.strerror or error}. Choose a folder that you may write to.")


def recorded(file: Path) -> Record | None:
    """Return what was written down of a file, or of its part, that a killed run left."""
    try:
        return Record.of(json.loads(_notes(file).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def forget(file: Path) -> None:
    """Remove all that a file's fetching has left beside it."""
    for path in (_part(file), _notes(file), _draft(_notes(file))):
        path.unlink(missing_ok=True)


def write_complete(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all, at any moment.

    Its draft has always the same name, so that killed runs do not leave ever more of them.
    """
    draft = _draft(path)
    with draft.open("w", encoding="utf-8", newline="") as output:
        output.write(text)
        output.flush()
        os.fsync(output.fileno())
    draft.replace(path)


def in_gigabytes(n_bytes: int) -> str:
    """Say a number of bytes.

    >>> in_gigabytes(12_345_678_901), in_gigabytes(3_200_000), in_gigabytes(12)
    ('12.3 GB', '3.2 MB', '12 bytes')
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:,.1f} {name}"
    return f"{n_bytes:,} bytes"


def as_text(content: Mapping[str, Any]) -> str:
    """Write a mapping as JSON, sorted, so that the same content is the same bytes."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _part(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _notes(file: Path) -> Path:
    return file.with_name(f"{file.name}.part.json")


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.draft")
