"""The memory available for data."""

from __future__ import annotations

import os
import re
from pathlib import Path

from genevae.errors import DataError

__all__ = ["MAX_MEMORY", "SHARE", "available_bytes", "parse_bytes"]

MAX_MEMORY = "GENEVAE_MAX_MEMORY"
"""The environment variable with the most memory that data may take, such as 8G."""

SHARE = 0.4
"""Largest share of the free memory that expression takes by default."""

_LIMITS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))


def available_bytes() -> int:
    """Return the free memory of the machine, what is left of the container's limit, or the user's: the least."""
    return min(_of_machine(), _of_container(), _of_user())


def parse_bytes(text: str) -> int:
    """Read an amount of memory.

    >>> parse_bytes("8G"), parse_bytes("500M")
    (8000000000, 500000000)

    Raises
    ------
    DataError
        If it is not a number with K, M, G or T.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT])(i?B)?", str(text).strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise DataError(f"The most memory cannot be '{text}'. Write a number with its unit, such as 8G or 500M.")
    return int(float(found[1]) * 1000 ** (1 + "KMGT".index(found[2].upper())))


def _of_user() -> int:
    """Return the limit of the environment, which the option max_memory sets too."""
    text = os.environ.get(MAX_MEMORY)
    return parse_bytes(text) if text else 2**63


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):  # not Linux: half of the total
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 2**31
    return free * 1024


def _of_container() -> int:
    """Return what is left of the limit of the control group (version 2 or 1)."""
    for folder, limit, used in zip(
        _LIMITS, ("memory.max", "memory.limit_in_bytes"), ("memory.current", "memory.usage_in_bytes"), strict=True
    ):
        try:
            return max(0, int((folder / limit).read_text()) - int((folder / used).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return 2**63
