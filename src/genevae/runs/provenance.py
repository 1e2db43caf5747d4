"""Where a model comes from: the command, the machine, the moment, and the commit of the folder around it."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["provenance"]


def provenance() -> dict[str, str]:
    """Return what a run's manifest says of how it was started; ``commit`` only inside a git repository."""
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
    """Ask git, if there is any and the folder is in a repository."""
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return ""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the user has
            cwd=folder, capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""
