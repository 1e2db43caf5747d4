"""Descriptions of files in a store, and verification of their content."""

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

__all__ = ["ByteDigest", "Check", "Record", "Remote"]

VERSION_KEYS = (
    *("md5hash", "content-md5", "sha256", "crc32c", "checksum", "generation", "etag"),
    *("mtime", "lastmodified", "last-modified", "updated", "modified", "created"),
)
"""Attributes that change with the content of a file; the first one that a store gives is used."""


class Check(NamedTuple):
    """The digest of a file's content, as given by the store.

    Parameters
    ----------
    algorithm
        The algorithm: md5, sha256 or crc32c.
    digest
        Its value, in hexadecimal.
    sure
        Whether it is certainly this digest. An ETag in S3 is the md5 of the content, unless the file was encrypted with
        a key of the owner, which cannot be detected.
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
        Its path.
    size
        Size in bytes.
    version
        Sixteen characters that change with the content.
    check
        Its digest, if the store gives one that can be computed here.
    """

    path: str
    size: int
    version: str
    check: Check | None = None

    @classmethod
    def of(cls, path: str, url: str, info: Mapping[str, Any]) -> Remote:
        """Make a description from the attributes that fsspec returns.

        Raises
        ------
        DataError
            If there is no size.
        """
        if info.get("size") is None:
            raise DataError(f"The store does not give the size of {url}. Choose another root.")
        attributes = {str(key).casefold(): value for key, value in info.items() if value not in (None, "")}
        key = next((key for key in VERSION_KEYS if key in attributes), "")
        identity = json.dumps([url, int(info["size"]), key, str(attributes.get(key))])
        version = hashlib.sha256(identity.encode()).hexdigest()[:16]
        return cls(path, int(info["size"]), version, _check(attributes, url))


@dataclass(frozen=True)
class Record:
    """The downloaded part of a file: number of bytes, their sha256, and the version of the remote file."""

    bytes: int
    sha256: str
    version: str

    @classmethod
    def of(cls, content: object) -> Record | None:
        """Parse a record, or return None if it is not valid."""
        try:
            return cls(int(content["bytes"]), str(content["sha256"]), str(content["version"]))  # type: ignore[index]
        except (KeyError, TypeError, ValueError):
            return None


class ByteDigest:
    """Counts bytes and computes their digests."""

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
        """Return whether the digest is that of the store, or True if the store gave none."""
        return self._check is None or self._digest.digest().hex() == self._check.digest

    def record(self, remote: Remote) -> Record:
        """Return the record of the bytes so far."""
        return Record(self.count, self._sha256.hexdigest(), remote.version)


def _digest(algorithm: str) -> Any:
    if algorithm == "crc32c":
        return importlib.import_module("google_crc32c").Checksum()  # it has no types
    return hashlib.new(algorithm, usedforsecurity=False)


def _check(attributes: Mapping[str, Any], url: str) -> Check | None:
    """Find a digest of the content in the attributes of a file.

    An ETag is the md5 of the content in S3 only, and only if the upload was not multipart (then it has a dash).
    """
    keys = [
        ("md5", "md5hash"),
        ("md5", "content-md5"),
        ("sha256", "sha256"),
        ("md5", "checksum"),
        ("sha256", "checksum"),
    ]
    for algorithm, key in keys:
        if key in attributes and (digest := _hexadecimal(attributes[key], algorithm)):
            return Check(algorithm, digest)
    if url.startswith(("s3://", "s3a://")) and (digest := _hexadecimal(attributes.get("etag"), "md5")):
        return Check("md5", digest, sure=False)
    if "crc32c" in attributes and importlib.util.find_spec("google_crc32c") is not None:
        digest = _hexadecimal(attributes["crc32c"], "crc32c")
        return Check("crc32c", digest) if digest else None
    return None


def _hexadecimal(value: object, algorithm: str) -> str:
    """Convert a digest from hexadecimal or base64 to hexadecimal; return an empty string if it is not a digest."""
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
