"""Reading what others made in bounded time and memory: sizes are checked before anything is allocated."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from genevae.errors import DataError
from genevae.io.ram import available_bytes

__all__ = ["MAX_JSON", "read_json", "read_text", "require_regular", "require_room", "room_for"]

MAX_JSON = 2**26
"""Largest JSON or TOML file, in bytes."""
RATIO, FLOOR = 100, 2**26
"""What is unpacked into memory at once may be so many times the packed size, or this many bytes if that is more."""
SHARE = 0.5
"""Largest share of the free memory that it may take."""

_KINDS = {
    stat.S_ISFIFO: "a pipe (FIFO)",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


def require_regular(path: Path) -> int:
    """Check that a path is a file or a folder, not a pipe or a device, which may never end; return its size.

    Raises
    ------
    DataError
        If it is something else, or cannot be looked at.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    for is_kind, what in _KINDS.items():
        if is_kind(found.st_mode):
            raise DataError(f"{path} is {what}, not a file. Save its content to a file, and give that.")
    return found.st_size


def read_text(path: Path, limit: int = MAX_JSON) -> str:
    """Read a text file of at most so many bytes.

    Raises
    ------
    DataError
        If it is larger, not a file, not UTF-8, or cannot be read.
    """
    size = require_regular(path)
    if size > limit:
        raise DataError(f"{path} has {size:,} bytes, and such a file has at most {limit:,}. It is damaged.")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def read_json(path: Path) -> Any:
    """Read a JSON file of bounded size and depth.

    Raises
    ------
    DataError
        If it is not JSON, or cannot be read.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(f"{path} is not valid JSON: {reason}.") from error


def room_for(packed: int) -> int:
    """Return how many bytes may be unpacked into memory at once from so many packed ones."""
    return int(min(SHARE * available_bytes(), max(FLOOR, RATIO * packed)))


def require_room(what: object, unpacked: int, packed: int) -> None:
    """Check a declared size before it is allocated.

    Parameters
    ----------
    what
        A file, or a part of it, for the message.
    unpacked
        The bytes that it declares, or that were unpacked so far.
    packed
        The bytes that it takes on disk.

    Raises
    ------
    DataError
        If it is out of proportion to the file, or too large for memory.
    """
    if unpacked > room_for(packed):
        raise DataError(
            f"{what} would unpack to {unpacked / 1e9:,.2g} GB or more, from {packed / 1e6:,.2g} MB on disk. That is "
            f"more than {RATIO} times as much, or than half of the free memory ({available_bytes() / 1e9:,.3g} GB): it "
            "is damaged, or made to fill the memory. If it is right, write it in several files."
        )
