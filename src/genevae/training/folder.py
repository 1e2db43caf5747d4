"""Folders that are written whole or not at all, and that show when they were changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from genevae.errors import RunError

__all__ = ["MANIFEST", "beside", "put_in_place", "require_free", "verify_folder", "write_folder"]

MANIFEST = "manifest.json"
SEAL = "sha256_of_this"
"""The entry of the manifest that vouches for its others."""


def write_folder(
    path: Path, files: Mapping[str, Callable[[Path], None]], facts: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write a folder of files beside its place, add a manifest, and move it there in one step.

    Parameters
    ----------
    path
        The folder.
    files
        For each name, what writes that file when given its path.
    facts
        What the manifest says besides the sha256 of each file.
    overwrite
        Whether a folder that is there already is replaced.

    Raises
    ------
    RunError
        If the folder is there already, or cannot be written. Nothing half-written is left.
    """
    path = Path(path)
    require_free(path, overwrite)
    draft = beside(path)
    try:
        draft.mkdir(parents=True)
        for name, write in files.items():
            write(draft / name)
        digests = {name: _sha256(draft / name) for name in files}
        content = {**facts, "sha256": digests}
        (draft / MANIFEST).write_text(json.dumps({**content, SEAL: _seal(content)}, indent=2) + "\n")
        for file in draft.iterdir():
            _sync(file)
        _sync(draft)
        put_in_place(draft, path)
    except OSError as error:
        raise RunError(f"Cannot write the folder {path}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def require_free(path: Path, overwrite: bool, marks: Sequence[str] = (MANIFEST,)) -> None:
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
        raise RunError(f"{path} is a folder of something else: it has no {marks[0]}. Choose another name.")
    trial = beside(path)
    try:
        trial.mkdir(parents=True)
        trial.rmdir()
    except OSError as error:
        raise RunError(
            f"Nothing can be written in {path.absolute().parent}: {error.strerror}. "
            "Choose a folder that you may write to."
        ) from error


def verify_folder(path: Path) -> dict[str, Any]:
    """Read the manifest of a folder, after checking each file against it.

    Raises
    ------
    RunError
        If the folder, a file of it, or the manifest is missing or was changed.
    """
    path = Path(path)
    if not path.exists():
        raise RunError(f"There is no folder {path}. `genevae fit … --out {path}` would make it.")
    if not (path / MANIFEST).is_file():
        raise RunError(f"{path} is not a model folder: it has no {MANIFEST}.")
    try:
        manifest = dict(json.loads((path / MANIFEST).read_text()))
        digests = dict(manifest["sha256"])
        whole = manifest.pop(SEAL) == _seal(manifest)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise RunError(f"{path / MANIFEST} is damaged: {error}. Copy the folder again, or train again.") from error
    if not whole:
        raise RunError(f"{path / MANIFEST} is not what was written. Copy the folder again, or train again.")
    for name, digest in digests.items():
        if not (path / name).is_file():
            raise RunError(f"{path / name} is missing. Copy the folder again, or train again.")
        if _sha256(path / name) != digest:
            raise RunError(
                f"{path / name} is not what was written: its sha256 differs from the manifest's. "
                "Copy the folder again, or train again."
            )
    return manifest


def beside(path: Path) -> Path:
    """Return a hidden name in the same folder."""
    return path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")


def put_in_place(draft: Path, path: Path) -> None:
    """Put the draft in its place; a folder that was there goes only once the new one is there."""
    old = beside(path) if path.exists() else None
    if old:
        path.rename(old)
    draft.rename(path)
    _sync(path.parent)
    if old:
        shutil.rmtree(old) if old.is_dir() else old.unlink()


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
