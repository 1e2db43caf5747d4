"""Models at an address, such as https://… or hf://…: downloaded, checked against their manifest, and opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from genevae.download.store import RetryPolicy, Store, open_store
from genevae.errors import DataError, RunError, shorten
from genevae.io.bounded import MAX_JSON, read_json
from genevae.io.ram import available_bytes
from genevae.runs.manifest import MANIFEST

__all__ = ["address_of", "downloaded"]

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])")
"""A scheme of two letters or more, so that no drive of Windows is one; a path has lost one of the slashes."""
MAX_FILES = 100


def address_of(path: str | Path) -> str | None:
    """Return the address that a path stands for, or None for a path of this machine."""
    found = ADDRESS.match(str(path))
    if found is None or Path(path).exists():
        return None
    root = "/" if found[1] == "file" else ""  # it has no host
    return f"{found[1]}://{root}{str(path)[found.end() :]}".rstrip("/")


@contextmanager
def downloaded(address: str) -> Iterator[Path]:
    """Download a folder of a model, and remove it afterwards; messages about it name the address.

    Raises
    ------
    DataError
        If the packages for the address are missing, or it cannot be read.
    RunError
        If it is no model, or is not what its manifest says.
    """
    store, root = open_store(address, RetryPolicy(retries=3))
    with TemporaryDirectory(prefix="genevae_") as made:
        folder = Path(made)
        try:
            _read(store, f"{root}/{MANIFEST}", folder / MANIFEST, MAX_JSON)
        except DataError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise RunError(
                f"{address} is no model: it has no {MANIFEST}. Give the address of the folder, as `genevae share` "
                "writes it, without the name of a file."
            ) from error
        for name in _names(address, folder / MANIFEST):
            _read(store, f"{root}/{name}", folder / name, available_bytes())
        try:
            yield folder
        except RunError as error:
            raise RunError(str(error).replace(str(folder), address)) from error


def _names(address: str, manifest: Path) -> list[str]:
    """Return the names of the files of a model, none of which leads out of its folder."""
    try:
        names = [str(name) for name in dict(read_json(manifest)["sha256"])]
    except (ValueError, KeyError, TypeError, DataError) as error:
        raise RunError(f"{address}/{MANIFEST} is not the manifest of a model: {error}. Check the address.") from error
    strange = [name for name in names if Path(name).name != name or name == MANIFEST or "\\" in name]
    if strange or len(names) > MAX_FILES:
        raise RunError(f"{address}/{MANIFEST} lists other files than genevae writes: {shorten(strange or names)}.")
    return names


def _read(store: Store, path: str, to: Path, most: float) -> None:
    size = store.describe(path).size
    if size > most:
        raise RunError(
            f"{store.url(path)} has {size:,} bytes, and at most {most:,.0f} can be read. Use a larger machine."
        )
    to.write_bytes(store.read(path))
