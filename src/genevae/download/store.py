"""Files in a store: a bucket, a web server, a folder or memory, reached by fsspec and asked again when it falters."""

from __future__ import annotations

import importlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from genevae.download.remote import Remote
from genevae.errors import DataError

__all__ = ["Patience", "Store", "open_store"]

T = TypeVar("T")

FIRST_WAIT = 0.5  # seconds
LONGEST_WAIT = 60.0

LASTING_NAMES = {"DefaultCredentialsError", "RefreshError", "NoCredentialsError", "PartialCredentialsError"}
"""Errors of google.auth and botocore that no further try will mend."""


@dataclass(frozen=True)
class Patience:
    """How often a store is asked again, and how long to wait before: 0.5, 1, 2, ... seconds, at most 60.

    Each wait is shortened by chance, to between half and all of it, so that many workers do not knock all at once.

    Parameters
    ----------
    retries
        Tries after the first.
    sleep
        Waits for so many seconds.
    chance
        A number between 0 and 1.
    """

    retries: int = 5
    sleep: Callable[[float], object] = time.sleep
    chance: Callable[[], float] = random.random

    def waits(self) -> Iterator[float]:
        """Yield the seconds to wait before each further try."""
        for number in range(self.retries):
            yield min(LONGEST_WAIT, FIRST_WAIT * 2**number) * (1 + self.chance()) / 2


@dataclass(frozen=True)
class Store:
    """An fsspec filesystem that is asked again when it falters, and whose errors say what to do.

    Parameters
    ----------
    files
        The filesystem.
    patience
        How often it is asked.
    """

    files: Any
    patience: Patience = Patience()

    def url(self, path: str) -> str:
        """Return the path with its scheme."""
        return str(self.files.unstrip_protocol(path))

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return the bytes from start to end, all of them or an error.

        Raises
        ------
        DataError
            If the file is not there, may not be read, or still cannot be read after the last try.
        """

        def fetch() -> bytes:
            block: bytes = self.files.cat_file(path, start=start, end=end)
            if start is not None and end is not None and len(block) != end - start:
                raise OSError(f"{len(block):,} bytes arrived where {end - start:,} were asked for")
            return block

        return self._ask(fetch, path)

    def describe(self, path: str, fresh: bool = False) -> Remote:
        """Return the file's size, version and digest.

        Parameters
        ----------
        path
            The file.
        fresh
            Whether to forget what was heard of it before.

        Raises
        ------
        DataError
            If the file is not there, may not be read, or its size is not given.
        """
        if fresh:
            self.files.invalidate_cache()

        def ask() -> Any:
            info = self.files.info(path)
            if info.get("type") == "directory":  # what s3fs calls all that it does not find in a listing
                raise FileNotFoundError(path)
            return info

        return Remote.of(path, self.url(path), self._ask(ask, path))

    def folder(self, path: str) -> dict[str, Remote]:
        """Return the files of a folder by name, from one listing; none if it cannot be listed."""
        try:
            entries = self._ask(lambda: self.files.ls(path, detail=True), path)
        except DataError:
            return {}
        files = (entry for entry in entries if entry.get("type") == "file" and entry.get("size") is not None)
        named = ((str(entry["name"]).rpartition("/")[2], entry) for entry in files)
        return {name: Remote.of(f"{path}/{name}", self.url(f"{path}/{name}"), entry) for name, entry in named}

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, sorted; none if it cannot be listed."""
        try:
            entries = self._ask(lambda: self.files.ls(path, detail=False), path)
        except DataError:
            return []
        return sorted({str(entry).rstrip("/").rpartition("/")[2] for entry in entries})

    def _ask(self, action: Callable[[], T], path: str) -> T:
        """Do something with the store, again after a while if it fails for a reason that may pass."""
        waits = self.patience.waits()
        while True:
            try:
                return action()
            except DataError:
                raise
            except Exception as error:
                wait = None if _lasts(error) else next(waits, None)
                if wait is None:
                    raise DataError(_explained(error, self.url(path), self.patience.retries)) from error
            self.patience.sleep(wait)


def open_store(root: str, patience: Patience) -> tuple[Store, str]:
    """Return the store that holds an address, and the address's path in it.

    Raises
    ------
    DataError
        If the packages for it are not installed, or its scheme is unknown.
    """
    try:
        files, path = importlib.import_module("fsspec.core").url_to_fs(root)  # it has no types
    except ImportError as error:
        raise DataError(f"Reading {root} needs more packages ({error}): pip install 'genevae[download]'.") from error
    except ValueError as error:
        raise DataError(
            f"'{root}' is no address that can be read ({error}). "
            "Give a folder, or an address that begins with gs://, s3:// or https://."
        ) from error
    return Store(files, patience), str(path).rstrip("/")


def _lasts(error: Exception) -> bool:
    """Say whether trying again is useless."""
    missing = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)
    code = str(getattr(error, "status", None) or getattr(error, "code", ""))
    forbidden = type(error) is OSError and str(error).startswith("Forbidden")  # gcsfs says 403 so
    named = type(error).__name__ in LASTING_NAMES
    return isinstance(error, missing) or forbidden or named or code in {"400", "401", "403", "404"}


def _explained(error: Exception, url: str, retries: int) -> str:
    """Say what is wrong with a file in a store, and what to do."""
    if isinstance(error, FileNotFoundError):
        return f"{url} is not there: check the root, the feature and the organism."
    if _lasts(error):
        return (
            f"{url} may not be read ({type(error).__name__}: {error}). Check the address and your credentials "
            "(gs://: gcloud auth application-default login; s3://: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY); "
            "public buckets need none with FSSPEC_GS_TOKEN=anon or FSSPEC_S3_ANON=true in the environment."
        )
    return (
        f"{url} could not be read in {retries + 1} tries; the last one said: {type(error).__name__}: {error}. "
        "Run the same command again to go on, with more --retries if the line is bad."
    )
