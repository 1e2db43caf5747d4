"""Provenance of a model: the command, the machine, the time, and the git commit of the working folder."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["provenance"]


def provenance() -> dict[str, str]:
    """Return how this run was started, for its manifest; ``commit`` only inside a git repository."""
    folder = Path.cwd()
    facts = {
        "command": shlex.join(sys.argv),
        "folder": str(folder),
        "host": socket.gethostname(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    commit = _commit(folder)
    return facts | {"commit": commit} if commit else facts


def _commit(folder: Path) -> str:
    """Return the commit of the repository around a folder, or nothing."""
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return ""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - the user's git
            cwd=folder, capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
