"""Folders that are written completely or not at all, and that show when they were changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from genevae.errors import RunError
from genevae.io.atomic import recover, replace_with, staging_folder, sync
from genevae.io.overwrite import require_free

__all__ = ["MANIFEST", "START", "complete_folder", "require_place", "verify_folder", "write_folder", "write_tensors"]

MANIFEST = "manifest.json"
START = "start.json"
"""The manifest of a folder in which training is unfinished."""
SEAL = "sha256_of_this"
"""The entry of the manifest with the sha256 of the others."""

AGAIN = "Copy the folder again, or train again."
Writers = Mapping[str, Callable[[Path], Any]]


def write_folder(
    path: Path, files: Writers, facts: Mapping[str, Any], overwrite: bool = False, manifest: str = MANIFEST
) -> None:
    """Write a folder of files and a manifest under a temporary name, and rename it in one step.

    Parameters
    ----------
    path
        The folder.
    files
        For each name, a function that writes the file, given its path.
    facts
        What the manifest holds besides the sha256 of each file.
    overwrite
        Whether an existing folder is replaced.
    manifest
        The manifest's name.

    Raises
    ------
    RunError
        If the folder exists, or cannot be written. Nothing half-written is left.
    """
    path = Path(path)
    require_place(path, overwrite, ())
    with staging_folder(path) as folder:
        draft = folder / path.name
        draft.mkdir()
        _write(draft, files, facts, manifest)
        replace_with(draft, path)


def require_place(path: Path, overwrite: bool, reads: Iterable[object]) -> None:
    """Check that a folder can be written, before the work that fills it.

    Raises
    ------
    RunError
        If it exists and is not to be replaced, was not written by genevae, or its parent cannot be written.
    """
    if not overwrite and (path / START).exists() and not (path / MANIFEST).exists():
        raise RunError(
            f"{path} holds a training that is unfinished. Continue it: genevae fit --resume {path}. Or give --force "
            "(overwrite=True) to start again."
        )
    require_free(path, overwrite, reads, [MANIFEST, START])


def complete_folder(path: Path, files: Writers, facts: Mapping[str, Any]) -> None:
    """Add files to a folder without a manifest, and the manifest last; until then the folder is unfinished.

    Parameters
    ----------
    path, files, facts
        As for :func:`write_folder`.

    Raises
    ------
    RunError
        If the folder cannot be written to.
    """
    with staging_folder(path / MANIFEST) as draft:
        _write(draft, files, facts, MANIFEST)
        for name in [*files, MANIFEST]:
            replace_with(draft / name, path / name)


def _write(draft: Path, files: Writers, facts: Mapping[str, Any], manifest: str) -> None:
    for name, write in files.items():
        write(draft / name)
    content = {**facts, "sha256": {name: _sha256(draft / name) for name in files}}
    (draft / manifest).write_text(json.dumps({**content, SEAL: _seal(content)}, indent=2) + "\n")
    for file in draft.iterdir():
        sync(file)
    sync(draft)


def verify_folder(path: Path, manifest: str = MANIFEST) -> dict[str, Any]:
    """Read the manifest of a folder, after checking each file against it.

    Parameters
    ----------
    path
        The folder.
    manifest
        The manifest's name.

    Raises
    ------
    RunError
        If the folder, a file of it, or the manifest is missing or was changed.
    """
    path = Path(path)
    recover(path)
    _require_manifest(path, manifest)
    try:
        found = dict(json.loads((path / manifest).read_text()))
        digests = dict(found["sha256"])
        is_intact = found.pop(SEAL) == _seal(found)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise RunError(f"{path / manifest} is damaged: {error}. {AGAIN}") from error
    if not is_intact:
        raise RunError(f"{path / manifest} is not what was written. {AGAIN}")
    for name, digest in digests.items():
        if not (path / name).is_file():
            raise RunError(f"{path / name} is missing. {AGAIN}")
        if _sha256(path / name) != digest:
            raise RunError(f"{path / name} is not what was written: its sha256 differs from the manifest's. {AGAIN}")
    return found


def _require_manifest(path: Path, manifest: str) -> None:
    if not path.exists():
        raise RunError(f"There is no folder {path}. `genevae fit … --out {path}` would make it.")
    if (path / manifest).is_file():
        return
    if (path / START).is_file():
        raise RunError(f"{path} holds no model yet; training is unfinished. Continue with genevae fit --resume {path}")
    raise RunError(f"{path} is not a model folder: it has no {manifest}.")


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name, with the usual permissions of a file, which ``save_file`` does not give."""
    path.write_bytes(save(dict(tensors)))
