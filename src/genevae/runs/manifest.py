"""Folders that are written completely or not at all, and that show when they were changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from genevae.errors import DataError, RunError, nearest, shorten
from genevae.io.atomic import recover, replace_with, staging_folder, sync
from genevae.io.bounded import MAX_JSON, read_json, require_regular
from genevae.io.overwrite import require_free
from genevae.io.ram import available_bytes

__all__ = [
    "MANIFEST",
    "START",
    "complete_folder",
    "require_place",
    "tensor_shapes",
    "verify_folder",
    "write_folder",
    "write_tensors",
]

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


def verify_folder(path: Path, manifest: str = MANIFEST, needed: Iterable[str] = ()) -> dict[str, Any]:
    """Read the manifest of a folder, after checking each file against it.

    A folder may be anyone's: files are looked at before they are read, so that this takes little time and memory.

    Parameters
    ----------
    path
        The folder.
    manifest
        The manifest's name.
    needed
        Files that the manifest must list.

    Raises
    ------
    RunError
        If the folder, a file of it, or the manifest is missing, was changed, or cannot be read.
    """
    path = Path(path)
    recover(path)
    _require_manifest(path, manifest)
    try:
        found = dict(read_json(path / manifest))
        digests = dict(found["sha256"])
        is_intact = found.pop(SEAL) == _seal(found)
    except (ValueError, KeyError, TypeError, DataError) as error:
        raise RunError(f"{path / manifest} is damaged: {error}. {AGAIN}") from error
    if not is_intact:
        raise RunError(f"{path / manifest} is not what was written. {AGAIN}")
    if strange := [name for name in digests if Path(name).name != name] + sorted({*needed} - digests.keys()):
        raise RunError(f"{path / manifest} lists other files than genevae writes: {shorten(strange)}. {AGAIN}")
    for name, digest in digests.items():
        if not (path / name).is_file():
            raise RunError(f"{path / name} is missing. {AGAIN}")
        try:
            _require_plausible(path / name)
            is_same = _sha256(path / name) == digest
        except (DataError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunError(f"{path / name} cannot be read: {reason}. {AGAIN}") from error
        if not is_same:
            raise RunError(f"{path / name} is not what was written: its sha256 differs from the manifest's. {AGAIN}")
    return found


def _require_plausible(path: Path) -> None:
    """Check the size of a file before it is read, and the head of large ones."""
    size = require_regular(path)
    if path.suffix in (".json", ".toml") and size > MAX_JSON:
        raise DataError(f"it has {size:,} bytes, and such a file has at most {MAX_JSON:,}")
    if path.suffix == ".safetensors":
        tensor_shapes(path)
    if path.suffix == ".csv" and size > MAX_JSON:
        with path.open("rb") as file:
            head = file.read(2**16)
        if b"\0" in head or b"\n" not in head:
            raise DataError("it is not a table")
    if size > available_bytes():
        raise DataError(f"it has {size / 1e9:,.3g} GB, which do not fit in memory")


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a file, from its head alone.

    Raises
    ------
    DataError
        If the head is damaged, or the file has another size than it says.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(length)) if 0 < length <= min(size - 8, MAX_JSON) else {}
        tensors = {name: each for name, each in head.items() if name != "__metadata__"}
        end = max((int(each["data_offsets"][1]) for each in tensors.values()), default=-1)
        shapes = {name: tuple(map(int, each["shape"])) for name, each in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise DataError(f"its head is damaged ({error})") from error
    if 8 + length + end != size:
        raise DataError("its size is not the one that its head states")
    return shapes


def _require_manifest(path: Path, manifest: str) -> None:
    try:
        exists = path.exists()
    except OSError as error:  # such as a name that is too long
        raise RunError(f"{str(path)[:200]} cannot be read: {error.strerror}.") from error
    if not exists:
        near = sorted(e.name for e in path.parent.iterdir() if e.is_dir()) if path.parent.is_dir() else []
        raise RunError(f"There is no folder {path}. {nearest(path.name, near)} `genevae fit` makes a run with --out.")
    if (path / manifest).is_file():
        return
    if (path / START).is_file():
        raise RunError(f"{path} holds no model yet; training is unfinished. Continue with genevae fit --resume {path}")
    hint = " It is a file: a command takes the run first, and then the data (genevae embed RUN DATA)."
    raise RunError(f"{path} is not a model folder: it has no {manifest}.{hint if path.is_file() else ''}")


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name, with the usual permissions of a file, which ``save_file`` does not give."""
    path.write_bytes(save(dict(tensors)))
