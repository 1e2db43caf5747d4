"""Atomic writes of files and folders, their signatures, and locks."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from genevae.errors import RunError

__all__ = [
    "HELD",
    "hidden_sibling",
    "is_signed",
    "locked",
    "recover",
    "replace_with",
    "sibling",
    "staging_folder",
    "sync",
]

try:
    import fcntl
except ImportError:  # Windows: concurrent writers of one result are not detected
    fcntl = None  # type: ignore[assignment]


_SIGNATURE = "user.genevae"
"""The extended attribute with the state of a result when it was written."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""Arguments of Linux's renameat2: names are paths, and the two are exchanged."""
HELD: list[Path] = []
"""Temporary folders and locks of this process."""


@contextmanager
def staging_folder(path: Path, resume: bool = False) -> Iterator[Path]:
    """Yield a hidden folder next to ``path`` to prepare its content in. One process at a time may use it.

    The name of the folder depends on ``path`` only, so the next run finds the folder of a killed run, and clears or
    resumes it. It is removed at the end and after an error, but not if a run that can be resumed was interrupted.

    Parameters
    ----------
    path
        The path to write to in the end, by :func:`replace_with`.
    resume
        Whether to keep the files of a killed run.

    Raises
    ------
    RunError
        If another process is writing to ``path``, or the folder cannot be made.
    """
    folder = sibling(path, ".{}.draft")
    lock = _lock(folder, path)
    HELD.append(folder)
    try:
        for entry in () if resume else folder.iterdir():
            _remove(entry)
        yield folder
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise RunError(f"Cannot write {path}: {error.strerror or error}.") from error
        raise
    except BaseException:
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        HELD.remove(folder)
        os.close(lock)


def _lock(folder: Path, path: Path) -> int:
    """Make a folder and lock it for this process until the returned handle is closed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"Nothing can be written in {path.absolute().parent}: {error.strerror}.") from error
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise RunError(f"Another process is writing {path}. Wait for it to end, or choose another name.") from error
    except OSError:  # a file system without locks
        pass
    return handle


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def hidden_sibling(path: Path) -> Path:
    """Return a hidden name in the same folder."""
    return sibling(path, f".{uuid.uuid4().hex[:8]}.{{}}")


def sibling(path: Path, pattern: str) -> Path:
    """Return a name in the same folder, which is made of the path's own; also of paths such as ``.`` and ``..``.

    Raises
    ------
    RunError
        If the path is the root of the file system, or the working folder was removed.
    """
    if path.name in ("", ".."):
        path = _resolved(path)
    if not path.name:
        raise RunError(f"{path} is the root of the file system, not a place for a result. Choose another name.")
    return path.with_name(pattern.format(path.name))


def _resolved(path: Path) -> Path:
    """Return the absolute path without links."""
    try:
        return path.resolve()
    except FileNotFoundError as error:
        raise RunError(f"The working folder was removed, so '{path}' is nowhere. Go to another folder.") from error


def replace_with(draft: Path, path: Path, sign: bool = True) -> None:
    """Replace ``path`` by the draft atomically: readers find the complete old or the complete new content.

    If the system cannot exchange two folders atomically, the old one is renamed first. If the process is killed just
    then, :func:`recover` restores it.

    The result is signed, so that :func:`is_signed` recognises it, unless the file is the user's.
    """
    _replace(draft, path)
    if sign:
        _sign(path)


def _replace(draft: Path, path: Path) -> None:
    if not path.is_dir() and not draft.is_dir():
        draft.replace(path)
    elif not path.exists():
        draft.rename(path)
    elif _exchange(draft, path):
        sync(path.parent)
        _remove(draft)
    else:
        aside = _aside(path)
        if aside.exists():
            _remove(aside)
        path.rename(aside)
        draft.rename(path)
        sync(path.parent)
        _remove(aside)
    sync(path.parent)


def is_signed(path: Path) -> bool:
    """Return whether a file or folder is as genevae wrote it: neither of other origin, nor changed since."""
    try:
        signature = os.getxattr(path, _SIGNATURE)
    except (AttributeError, OSError):
        file = _signature_file(path)
        signature = file.read_bytes() if file.is_file() else b""
    return signature == _state(path)


def _sign(path: Path) -> None:
    """Keep the state of a result with it: in an extended attribute, or else in a hidden file next to it."""
    try:
        os.setxattr(path, _SIGNATURE, _state(path))
    except (AttributeError, OSError):  # a system or a file system without extended attributes
        with suppress(OSError):
            _signature_file(path).write_bytes(_state(path))


def _signature_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.genevae")


def _state(path: Path) -> bytes:
    """Return the number of files, their size, and the second of the last change; of a folder, of all in it."""
    entries = [path.stat(), *(entry.lstat() for entry in path.rglob("*"))]
    size = sum(entry.st_size for entry in entries if not stat.S_ISDIR(entry.st_mode))
    return f"{len(entries)} {size} {max(int(entry.st_mtime) for entry in entries)}".encode()


def recover(path: Path) -> None:
    """Restore an old result if the process that was replacing it was killed."""
    if not path.exists() and _aside(path).exists():
        _aside(path).rename(path)


def _aside(path: Path) -> Path:
    return sibling(path, ".{}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders or files atomically; return False if the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename is not None and not rename(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a folder, which need not exist, for this process.

    The lock is on a hidden file next to the folder, which names the owner. The system releases the lock when the
    process ends, even if it is killed: the file may remain, but not the lock.

    Parameters
    ----------
    path
        The folder.

    Raises
    ------
    RunError
        If another process has the lock. The message names its number, host and start.
    """
    file = sibling(_resolved(path), ".{}.lock")  # a folder has one lock, whatever it is called
    handle = _acquire(file, path)
    HELD.append(file)
    try:
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(_owner()).encode(), 0)
        yield
    finally:
        HELD.remove(file)
        with suppress(OSError):
            file.unlink()
        os.close(handle)


def _acquire(file: Path, path: Path) -> int:
    """Open the file and lock it. Try again if the previous owner removed it in between."""
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
    except (ValueError, KeyError, TypeError):  # the owner has not written it yet
        return "by another process"
