"""Which paths may be written: nothing that is read, and nothing that genevae did not write."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from glob import glob
from pathlib import Path

from genevae.errors import RunError
from genevae.io.atomic import hidden_sibling, is_signed, recover
from genevae.io.read_options import ReadOptions

__all__ = ["require_free", "require_separate"]


def require_free(path: Path, overwrite: bool, reads: Iterable[object], marks: Sequence[str] = ()) -> None:
    """Check that ``path`` can be written, before the work begins.

    Parameters
    ----------
    path
        The path of the result.
    overwrite
        Whether to replace an existing result.
    reads
        Everything that is read for the result, as for :func:`require_separate`.
    marks
        An existing file or folder is replaced only if it is as genevae wrote it, if it is empty, or if it is a folder
        that contains one of these files.

    Raises
    ------
    RunError
        If the path is read, exists and may not be replaced, or its folder is not writable.
    """
    require_separate(path, *reads)
    try:
        recover(path)
    except OSError as error:
        raise RunError(f"{str(path)[:60]}… cannot be written: {error.strerror}. Choose another name.") from error
    if path.exists() and not overwrite:
        raise RunError(f"{path} already exists. Choose another name, or give --force (overwrite=True) to replace it.")
    if path.exists() and not is_signed(path) and not _is_empty(path) and not any((path / m).exists() for m in marks):
        what = "a folder of something else" if path.is_dir() else "a file of something else"
        raise RunError(
            f"{path} is {what}: genevae did not write it, or it was changed since. Choose another name, or remove it "
            "yourself."
        )
    trial = hidden_sibling(path)
    try:
        try:
            trial.mkdir(parents=True)
        finally:  # also if a signal ends the command
            with suppress(FileNotFoundError, NotADirectoryError):
                trial.rmdir()
    except OSError as error:
        raise RunError(
            f"Nothing can be written in {path.absolute().parent}: {error.strerror}. "
            "Choose a folder with write permission."
        ) from error


def _is_empty(path: Path) -> bool:
    return not any(path.iterdir()) if path.is_dir() else not path.stat().st_size


def require_separate(path: Path, *reads: object) -> None:
    """Check that ``path`` is not, does not contain, and does not lie in anything that is read.

    Files are compared, not their names: links and other spellings of a path are the same file.

    Parameters
    ----------
    path
        The path of the result.
    reads
        What is read: paths; :class:`~genevae.io.read_options.ReadOptions`; sources; AnnData; models; mappings and
        sequences of those. Anything else, such as an array or a number, has no path.

    Raises
    ------
    RunError
        If they overlap, or the path is the working folder or a folder that contains it.
    """
    try:
        working = Path.cwd()
    except OSError as error:
        raise RunError("The working folder is gone. Change to another one.") from error
    if path.name in ("", "..") or _file(path) in _lineage(working):
        raise RunError(f"'{path}' is a folder that is in use. Give the name of a new file or folder.")
    for read in dict.fromkeys(_paths_of(reads)):
        how = _overlap(path, read)
        if how:
            raise RunError(
                f"{path} {how} {read}, which is read: writing it would destroy the input. Choose another name."
            )


def _overlap(path: Path, read: Path) -> str:
    """Return how a path overlaps with one that is read; nothing if it does not."""
    if _file(path) is not None and _file(path) == _file(read):
        return "is the same as"
    if _file(path) in _lineage(read):
        return "contains"
    if read.is_dir() and _file(read) in _lineage(path):
        return "lies in"
    return ""


def _file(path: Path) -> tuple[int, int] | None:
    """Return the identity of an existing file or folder, whatever name it is given by."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _lineage(path: Path) -> set[tuple[int, int]]:
    """Return the identities of a path and of all folders above it, along links and after resolving them."""
    spelled = [Path(os.path.abspath(path)), Path(os.path.realpath(path))]  # noqa: PTH100 - resolve() would follow links
    found = {_file(folder) for each in spelled for folder in (each, *each.parents)}
    return {each for each in found if each is not None}


def _paths_of(thing: object) -> Iterator[Path]:
    """Yield the paths that something is read from."""
    if isinstance(thing, str | Path):
        yield from _matches(str(thing))
    elif isinstance(thing, ReadOptions):
        yield from _paths_of((thing.path, thing.metadata, thing.gene_names))
    elif isinstance(thing, Mapping):
        yield from _paths_of(tuple(thing.values()))
    elif isinstance(thing, Sequence):
        for each in thing:
            yield from _paths_of(each)
    else:
        # A source is named by its path; a backed AnnData has its file, and a trained model its folder.
        for found in (getattr(thing, name, None) for name in ("name", "filename", "folder")):
            yield from _paths_of(found) if isinstance(found, str | Path) else ()


def _matches(name: str) -> Iterator[Path]:
    """Yield an existing path, or the files that a pattern stands for."""
    if not name:
        return
    if _file(Path(name)) is not None:
        yield Path(name)
    elif any(sign in name for sign in "*?["):
        yield from map(Path, glob(name, recursive=True))  # noqa: PTH207 - the pattern may be absolute
