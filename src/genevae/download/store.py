"""Files in a store (a bucket, a web server, a folder or memory), read by fsspec with retries."""

from __future__ import annotations

import importlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from genevae.download.remote import Remote
from genevae.errors import DataError

__all__ = ["RetryPolicy", "Store", "open_store"]

T = TypeVar("T")

FIRST_WAIT = 0.5  # seconds
LONGEST_WAIT = 60.0

PERMANENT_ERRORS = {"DefaultCredentialsError", "RefreshError", "NoCredentialsError", "PartialCredentialsError"}
"""Errors of google.auth and botocore for which retries are useless."""


@dataclass(frozen=True)
class RetryPolicy:
    """The number of retries, with exponential backoff: waits of 0.5, 1, 2, ... seconds, at most 60.

    Each wait is multiplied by a random number from 0.5 to 1, so that parallel workers do not retry simultaneously.

    Parameters
    ----------
    retries
        Number of tries after the first.
    sleep
        Function that waits for a number of seconds.
    chance
        Function that returns a random number between 0 and 1.
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
    """An fsspec filesystem with retries and clear errors.

    Parameters
    ----------
    files
        The filesystem.
    patience
        The retries.
    """

    files: Any
    patience: RetryPolicy = RetryPolicy()

    def url(self, path: str) -> str:
        """Return the path with its scheme."""
        return str(self.files.unstrip_protocol(path))

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return the bytes from start to end.

        Raises
        ------
        DataError
            If the file does not exist, is not readable, or cannot be read completely after the last try.
        """

        def fetch() -> bytes:
            block: bytes = self.files.cat_file(path, start=start, end=end)
            if start is not None and end is not None and len(block) != end - start:
                raise OSError(f"{len(block):,} bytes were received instead of {end - start:,}")
            return block

        return self._retry(fetch, path)

    def describe(self, path: str, fresh: bool = False) -> Remote:
        """Return the file's size, version and digest.

        Parameters
        ----------
        path
            The file.
        fresh
            Whether to ignore cached information.

        Raises
        ------
        DataError
            If the file does not exist, is not readable, or has no size.
        """
        if fresh:
            self.files.invalidate_cache()

        def info() -> Any:
            attributes = self.files.info(path)
            if attributes.get("type") == "directory":  # s3fs returns this for missing files
                raise FileNotFoundError(path)
            return attributes

        return Remote.of(path, self.url(path), self._retry(info, path))

    def folder(self, path: str) -> dict[str, Remote]:
        """Return the files of a folder by name, from one listing, or nothing if it cannot be listed."""
        try:
            entries = self._retry(lambda: self.files.ls(path, detail=True), path)
        except DataError:
            return {}
        files = (entry for entry in entries if entry.get("type") == "file" and entry.get("size") is not None)
        named = ((str(entry["name"]).rpartition("/")[2], entry) for entry in files)
        return {name: Remote.of(f"{path}/{name}", self.url(f"{path}/{name}"), entry) for name, entry in named}

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, sorted, or nothing if it cannot be listed."""
        try:
            entries = self._retry(lambda: self.files.ls(path, detail=False), path)
        except DataError:
            return []
        return sorted({str(entry).rstrip("/").rpartition("/")[2] for entry in entries})

    def _retry(self, action: Callable[[], T], path: str) -> T:
        """Call a function; retry it after temporary failures."""
        waits = self.patience.waits()
        while True:
            try:
                return action()
            except DataError:
                raise
            except Exception as error:
                wait = None if _is_permanent(error) else next(waits, None)
                if wait is None:
                    raise DataError(_message(error, self.url(path), self.patience.retries)) from error
            self.patience.sleep(wait)


def open_store(root: str, patience: RetryPolicy) -> tuple[Store, str]:
    """Return the store of an address, and the path in it.

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
            f"'{root}' is not a valid address ({error}). "
            "Give a folder, or an address that starts with gs://, s3:// or https://."
        ) from error
    return Store(files, patience), str(path).rstrip("/")


def _is_permanent(error: Exception) -> bool:
    """Return whether retries are useless."""
    missing = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)
    code = str(getattr(error, "status", None) or getattr(error, "code", ""))
    forbidden = type(error) is OSError and str(error).startswith("Forbidden")  # gcsfs's error for 403
    named = type(error).__name__ in PERMANENT_ERRORS
    return isinstance(error, missing) or forbidden or named or code in {"400", "401", "403", "404"}


def _message(error: Exception, url: str, retries: int) -> str:
    """Return the message for a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return f"{url} does not exist. Check the root, the feature and the organism."
    if _is_permanent(error):
        return (
            f"{url} is not readable ({type(error).__name__}: {error}). Check the address and your credentials "
            "(gs://: gcloud auth application-default login; s3://: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY); "
            "public buckets need none with FSSPEC_GS_TOKEN=anon or FSSPEC_S3_ANON=true in the environment."
        )
    return (
        f"{url} could not be read in {retries + 1} tries. The last error was {type(error).__name__}: {error}. "
        "Run the same command again to resume, with more --retries if the connection is bad."
    )
