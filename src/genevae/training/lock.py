"""One process at a time in a folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from genevae.errors import RunError

try:
    import fcntl
except ImportError:  # not on Windows, where two processes in one folder are not told apart
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked"]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep every other process out of a folder, whether it is there already or not.

    The lock is a hidden file beside the folder, which says who has it. It is the system that keeps the lock, and it
    lets go when the process ends, however that is: a killed process leaves a file, but no lock.

    Parameters
    ----------
    path
        The folder.

    Raises
    ------
    RunError
        If another process has it; the message says which, where, and since when.
    """
    file = path.with_name(f".{path.name}.lock")
    handle = _acquire(file, path)
    try:
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(_owner()).encode(), 0)
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        os.close(handle)


def _acquire(file: Path, path: Path) -> int:
    """Open the file and lock it; again, where its last owner has removed it in between."""
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(f"Nothing can be written in {path.absolute().parent}: {error.strerror}.") from error
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(handle, 4096, 0).decode(errors="replace")
            os.close(handle)
            raise RunError(f"{path} is in use {_described(owner)}. Wait for it to end, or choose another.") from error
        except OSError:  # a file system without locks
            return handle
        if _is_still(file, handle):
            return handle
        os.close(handle)


def _is_still(file: Path, handle: int) -> bool:
    try:
        return file.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _owner() -> dict[str, str | int]:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _described(owner: str) -> str:
    try:
        return "by process {pid} on {host} since {since}".format(**json.loads(owner))
    except (ValueError, KeyError, TypeError):  # it has only just begun
        return "by another process"
