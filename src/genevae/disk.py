"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from genevae.errors import RunError

try:
    import fcntl
except ImportError:  # not on Windows, where two processes that write one result are not told apart
    fcntl = None  # type: ignore[assignment]

__all__ = ["beside", "drafted", "put_in_place", "require_free", "sync"]


@contextmanager
def drafted(path: Path, resume: bool = False) -> Iterator[Path]:
    """Lend the hidden folder beside a place where its content is prepared, to one process at a time.

    The folder's name follows from the place, so that a killed run leaves it to the next one, which clears it or goes on
    with what it finds. It is removed at the end, and after an error; a killed or interrupted run that can be resumed
    leaves it.

    Parameters
    ----------
    path
        The place that is written to in the end, by :func:`put_in_place`.
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
    except OSError as error:
        os.close(handle)
        raise RunError(f"Another process is writing {path}: wait for it to end, or choose another name.") from error
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


def put_in_place(draft: Path, path: Path) -> None:
    """Put the draft in its place; a folder that was there goes only once the new one is there."""
    old = beside(path) if path.exists() else None
    if old:
        path.rename(old)
    draft.rename(path)
    sync(path.parent)
    if old:
        _remove(old)


def sync(path: Path) -> None:
    """Make sure that what was written is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
