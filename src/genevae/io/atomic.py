"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from genevae.errors import RunError

__all__ = ["beside", "locked", "recover", "replace_with", "require_free", "staging_folder", "sync"]

try:
    import fcntl
except ImportError:  # not on Windows, where two processes that write one result are not told apart
    fcntl = None  # type: ignore[assignment]


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""How Linux is told that names are paths, and that two of them are to change places."""


@contextmanager
def staging_folder(path: Path, resume: bool = False) -> Iterator[Path]:
    """Lend the hidden folder beside a place where its content is prepared, to one process at a time.

    The folder's name follows from the place, so that a killed run leaves it to the next one, which clears it or goes on
    with what it finds. It is removed at the end, and after an error; a killed or interrupted run that can be resumed
    leaves it.

    Parameters
    ----------
    path
        The place that is written to in the end, by :func:`replace_with`.
    resume
        Whether what a killed run has left is kept.

    Raises
    ------
    RunError
        If another process is writing to this place, or the folder cannot be made.
    """
    folder = path.with_name(f".{path.name}.draft")
    lock = _lock(folder, path)
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
        os.close(lock)


def _lock(folder: Path, path: Path) -> int:
    """Make a folder, and take it for this process as long as the handle returned is open."""
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
        raise RunError(f"Another process is writing {path}: wait for it to end, or choose another name.") from error
    except OSError:  # a file system without locks, on which writers cannot be told apart
        pass
    return handle


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def require_free(path: Path, overwrite: bool, marks: Sequence[str]) -> None:
    """Make sure that something can be written to a place, before the work that makes it.

    Parameters
    ----------
    path
        The place.
    overwrite
        Whether what is there is replaced.
    marks
        A folder that is there is replaced only if it is empty or has one of these files, by which it is ours.

    Raises
    ------
    RunError
        If something is there already and is not to be replaced, or the folder around it cannot be written to.
    """
    recover(path)
    if path.exists() and not overwrite:
        raise RunError(f"{path} is there already. Choose another name, or give --force (overwrite=True) to replace it.")
    if path.is_dir() and any(path.iterdir()) and not any((path / mark).exists() for mark in marks):
        raise RunError(f"{path} is a folder of something else{_lacking(marks)}. Choose another name.")
    trial = beside(path)
    try:
        trial.mkdir(parents=True)
        trial.rmdir()
    except OSError as error:
        raise RunError(
            f"Nothing can be written in {path.absolute().parent}: {error.strerror}. "
            "Choose a folder that you may write to."
        ) from error


def _lacking(marks: Sequence[str]) -> str:
    return f": it has no {marks[0]}" if marks else ""


def beside(path: Path) -> Path:
    """Return a hidden name in the same folder."""
    return path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")


def replace_with(draft: Path, path: Path) -> None:
    """Put the draft in its place, in one step: whoever looks there finds the old or the new, whole.

    Where the system cannot exchange two folders in one step, the old one steps aside first; should the process be
    killed right then, :func:`recover` brings it back.
    """
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


def recover(path: Path) -> None:
    """Bring back what had stepped aside for a draft that never came."""
    if not path.exists() and _aside(path).exists():
        _aside(path).rename(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders or files change places, in one step; say whether this system can."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename is not None and not rename(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )


def sync(path: Path) -> None:
    """Make sure that what was written is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


try:
    import fcntl
except ImportError:  # not on Windows, where two processes in one folder are not told apart
    fcntl = None  # type: ignore[assignment]


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
