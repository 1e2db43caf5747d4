"""Whether a file can be read without harm: HDF5 files are tried once, in a child process.

The HDF5 library does not return from some damaged files, and crashes on others. A child process reads a file first;
what it finds is stored by path, size and time of change, in the cache folder of the user.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from genevae.errors import DataError
from genevae.io.bounded import require_regular

__all__ = ["TRUST", "cache_folder", "require_sound"]

TRUST = "GENEVAE_TRUST_FILES"
"""The environment variable that skips the trial."""
_PROGRAM = Path(__file__).with_name("hdf5_walk.py")
_VERSION = "1"
"""Of what is tried; another one makes earlier answers void."""
_WAIT, _WAIT_EACH, _BYTES_PER_SECOND = 60, 10, 10**7
"""Seconds that the child may take at most, beside the limit of processor time that it sets itself."""
_MAX_CACHE = 2**22
"""Bytes of the cache file, which is begun again beyond."""
_MOST = 1000
"""Files that one call tries: of more, evenly spaced ones, and others when they are opened again."""
_known: set[str] = set()


def cache_folder() -> Path:
    """Return the folder for what can be computed again, as the platform's conventions have it."""
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "genevae"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "genevae" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "genevae"


def require_sound(paths: Iterable[Path]) -> None:
    """Check that HDF5 files can be read without harm; files that were checked before are not read again.

    Give many files at once: one child process reads all of them, or 1,000 of them if there are more.

    Raises
    ------
    DataError
        If reading one ends the process, does not end, takes far more memory than a file of its size should, or goes to
        other files.
    """
    if os.environ.get(TRUST, "") not in ("", "0"):
        return
    marks = {path: _mark(path) for path in paths if path.is_file() and require_regular(path)}
    if marks.keys() and not _known.issuperset(marks.values()):
        _known.update(_kept_marks())
    unknown = [path for path, mark in marks.items() if mark not in _known]
    tried = unknown[:: -(-len(unknown) // _MOST)] if unknown else []
    if tried:
        _try(tried)
        _keep_marks([marks[path] for path in tried])
        _known.update(marks.values())


def _mark(path: Path) -> str:
    """Return a hash of all that says whether a file is the same."""
    stat = path.stat()
    facts = (_VERSION, str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return hashlib.sha256(repr(facts).encode(errors="surrogateescape")).hexdigest()[:32]


def _try(paths: Sequence[Path]) -> None:
    """Read files in a child process."""
    given = json.dumps([entry for entry in sys.path if Path(entry).is_absolute()]) + "\n"
    given += json.dumps([str(path.absolute()) for path in paths]) + "\n"
    wait = _WAIT + sum(_WAIT_EACH + path.stat().st_size / _BYTES_PER_SECOND for path in paths)
    command = [sys.executable, "-P", "-S", "-E", str(_PROGRAM)]
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command, input=given.encode(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=wait, check=False
        )
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        output, code = error.stdout or b"", None
    except OSError:  # no process can be started here
        return
    answers = [json.loads(line) for line in output.splitlines()]
    for path, reason in zip(paths, answers, strict=False):
        if reason is not None:
            raise DataError(
                f"{path} is not read: {reason}. Write the file again, with all data in it. If you trust it, set "
                f"{TRUST}=1."
            )
    if len(answers) < len(paths) and (code is None or code < 0):
        raise DataError(
            f"{paths[len(answers)]} is damaged: reading it {_ended(code)}. Copy or download it again, or write it "
            "again with the program that made it."
        )


def _ended(code: int | None) -> str:
    if code is None or -code in (getattr(signal, "SIGXCPU", 0), signal.SIGTERM):
        return "does not end"
    with suppress(ValueError):
        return f"ends the process ({signal.Signals(-code).name})"
    return "ends the process"


def _kept_marks() -> list[str]:
    try:
        return (cache_folder() / "sound.txt").read_text(encoding="ascii").split()
    except (OSError, ValueError, RuntimeError):
        return []


def _keep_marks(marks: Sequence[str]) -> None:
    """Keep which files are sound, if the cache can be written."""
    _known.update(marks)
    with suppress(OSError, RuntimeError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "sound.txt"
        if file.exists() and file.stat().st_size > _MAX_CACHE:
            file.unlink()
        with file.open("a", encoding="ascii") as lines:
            lines.write("".join(f"{mark}\n" for mark in marks))
