"""What a store says of a file, and whether bytes are the ones it means."""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from genevae.errors import DataError

__all__ = ["Check", "Record", "Remote", "Tally"]

VERSION_KEYS = (
    *("md5hash", "content-md5", "sha256", "crc32c", "checksum", "generation", "etag"),
    *("mtime", "lastmodified", "last-modified", "updated", "modified", "created"),
)
"""What stores say of a file that changes when its content does; the first that a store gives is used."""


class Check(NamedTuple):
    """What a store says of a file's content.

    Parameters
    ----------
    algorithm
        The digest's name: md5, sha256 or crc32c.
    digest
        Its value, in hexadecimal.
    sure
        Whether it is that for sure. An ETag in S3 is the content's md5, but not where the file was encrypted with a key
        of the owner's, and nothing tells which.
    """

    algorithm: str
    digest: str
    sure: bool = True


@dataclass(frozen=True)
class Remote:
    """A file in a store.

    Parameters
    ----------
    path
        Where it is.
    size
        Bytes.
    version
        Sixteen letters that stay the same as long as the content does.
    check
        Its digest, where the store gives one that can be computed here.
    """

    path: str
    size: int
    version: str
    check: Check | None = None

    @classmethod
    def of(cls, path: str, url: str, info: Mapping[str, Any]) -> Remote:
        """Read what fsspec says of a file.

        Raises
        ------
        DataError
            If the size is not given.
        """
        if info.get("size") is None:
            raise DataError(f"The store does not say how large {url} is: choose another root.")
        said = {str(key).casefold(): value for key, value in info.items() if value not in (None, "")}
        key = next((key for key in VERSION_KEYS if key in said), "")
        identity = json.dumps([url, int(info["size"]), key, str(said.get(key))])
        version = hashlib.sha256(identity.encode()).hexdigest()[:16]
        return cls(path, int(info["size"]), version, _check(said, url))


@dataclass(frozen=True)
class Record:
    """How much of a file is here: bytes, their sha256, and the version of the remote file."""

    bytes: int
    sha256: str
    version: str

    @classmethod
    def of(cls, content: object) -> Record | None:
        """Read a record, or nothing if it is none."""
        try:
            return cls(int(content["bytes"]), str(content["sha256"]), str(content["version"]))  # type: ignore[index]
        except (KeyError, TypeError, ValueError):
            return None


class Tally:
    """Counts bytes and digests them."""

    def __init__(self, remote: Remote) -> None:
        self.count = 0
        self._check = remote.check
        self._sha256 = hashlib.sha256()
        self._digest: Any = _digest(remote.check.algorithm) if remote.check is not None else None

    def add(self, block: bytes) -> None:
        """Count the next bytes."""
        self.count += len(block)
        self._sha256.update(block)
        if self._digest is not None:
            self._digest.update(block)

    def agrees(self) -> bool:
        """Say whether the digest is the one that the store gave, if it gave one."""
        return self._check is None or self._digest.digest().hex() == self._check.digest

    def record(self, remote: Remote) -> Record:
        """Return what is to be written down of the bytes so far."""
        return Record(self.count, self._sha256.hexdigest(), remote.version)


def _digest(algorithm: str) -> Any:
    if algorithm == "crc32c":
        return importlib.import_module("google_crc32c").Checksum()  # it has no types
    return hashlib.new(algorithm, usedforsecurity=False)


def _check(said: Mapping[str, Any], url: str) -> Check | None:
    """Find a digest of the content in what a store says of a file.

    An ETag is the content's md5 in S3 alone, and there only if the file was not sent in pieces (then it has a dash).
    """
    keys = [
        ("md5", "md5hash"),
        ("md5", "content-md5"),
        ("sha256", "sha256"),
        ("md5", "checksum"),
        ("sha256", "checksum"),
    ]
    for algorithm, key in keys:
        if key in said and (digest := _hexadecimal(said[key], algorithm)):
            return Check(algorithm, digest)
    if url.startswith(("s3://", "s3a://")) and (digest := _hexadecimal(said.get("etag"), "md5")):
        return Check("md5", digest, sure=False)
    if "crc32c" in said and importlib.util.find_spec("google_crc32c") is not None:
        digest = _hexadecimal(said["crc32c"], "crc32c")
        return Check("crc32c", digest) if digest else None
    return None


def _hexadecimal(value: object, algorithm: str) -> str:
    """Return a digest in hexadecimal, whether it was that or base64; nothing if it is no digest of this kind."""
    text = str(value).strip().strip('"').strip("'")
    length = {"md5": 16, "sha256": 32, "crc32c": 4}[algorithm]
    for decode in (binascii.unhexlify, lambda given: base64.b64decode(given, validate=True)):
        try:
            digest = decode(text)
        except ValueError:  # binascii.Error is one
            continue
        if len(digest) == length:
            return digest.hex()
    return ""
