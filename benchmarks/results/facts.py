"""How a number was computed: the code, the packages, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["facts"]

PACKAGES = ("genevae", "torch", "scvi-tools", "harmonypy", "scanpy", "scikit-learn", "numpy", "anndata")


def facts(root: Path) -> dict[str, str]:
    """Return the commit, the date, the machine and the versions."""
    return {
        "commit": commit(root),
        "made": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {processor()}, no GPU used",
        "python": platform.python_version(),
        **{name: version_of(name) for name in PACKAGES},
    }


def version_of(name: str) -> str:
    """Return the version of a package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit(root: Path) -> str:
    """Return the commit, and whether the package was changed since."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S607
        return done.stdout.strip()

    changed = "with changes to src" if git("status", "--porcelain", "--", "src") else ""
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'} {changed}".strip()
