"""The memory available for data."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["SHARE", "available_bytes"]

SHARE = 0.4
"""Largest share of the free memory that expression takes by default."""

_LIMITS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))


def available_bytes() -> int:
    """Return the free memory of the machine, or what is left of the container's limit, if that is less."""
    return min(_of_machine(), _of_container())


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
