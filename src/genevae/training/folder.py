"""Folders that are written whole or not at all, and that show when they were changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from genevae.disk import beside, put_in_place, require_free, sync
from genevae.errors import RunError

__all__ = ["MANIFEST", "verify_folder", "write_folder"]

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
    require_free(path, overwrite, [MANIFEST])
    draft = beside(path)
    try:
        draft.mkdir(parents=True)
        for name, write in files.items():
            write(draft / name)
        digests = {name: _sha256(draft / name) for name in files}
        content = {**facts, "sha256": digests}
        (draft / MANIFEST).write_text(json.dumps({**content, SEAL: _seal(content)}, indent=2) + "\n")
        for file in draft.iterdir():
            sync(file)
        sync(draft)
        put_in_place(draft, path)
    except OSError as error:
        raise RunError(f"Cannot write the folder {path}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


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


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
