"""Files, disks, signals and run folders that once went wrong: `make cases` runs each script, and prints a line for it.

The scripts stand beside the checkout, in shared/cases. Each makes its own input, prints what it saw, and exits with 0
when the right thing happens. Names of modules that moved are replaced before a script runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from real import folder

MOVED = {
    "genevae.data.convert": "genevae.preprocessing.convert",
    "genevae.data.sources": "genevae.io.formats",
    "genevae.recipes.fit": "genevae.runs.fit",
    "genevae.training.memory": "genevae.runs.reference",
}
"""The module of each that has another name now."""
LIMIT_S = 900


def main() -> int:
    """Run the scripts, and return how many exited with another code than 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="run the scripts whose paths contain one of these only")
    parser.add_argument("--cases", type=Path, default=folder().parent / "cases")
    arguments = parser.parse_args()
    if not arguments.cases.is_dir():
        print(f"There are no scripts in {arguments.cases}: give their folder with --cases.")
        return 1
    failed = [name for name, passed in run(arguments.cases, arguments.names) if not passed]
    print(f"{len(failed)} failed{': ' if failed else ''}{', '.join(failed)}")
    return len(failed)


def run(cases: Path, names: list[str]) -> Iterator[tuple[str, bool]]:
    """Run scripts, print a line for each, and yield whether it passed."""
    with tempfile.TemporaryDirectory() as copies:
        for script in sorted(cases.rglob("*.*")):
            name = str(script.relative_to(cases))
            if script.suffix not in {".py", ".sh"} or script.parent.name == "lib":
                continue
            if names and not any(each in name for each in names):
                continue
            started = time.monotonic()
            code, said = execute(script, Path(copies))
            last = said.strip().splitlines()[-1:] or [""]
            verdict, seconds = "ok" if code == 0 else f"FAILED ({code})", time.monotonic() - started
            print(f"{verdict:12} {name:40} {seconds:4.0f} s  {last[0][:160]}", flush=True)
            yield name, code == 0


def execute(script: Path, copies: Path) -> tuple[int | str, str]:
    """Run one script, and return its exit code and what it printed."""
    if script.suffix == ".py" and any(old in script.read_text() for old in MOVED):
        text = script.read_text()
        for old, new in MOVED.items():
            text = text.replace(old, new)
        script = copies / script.name
        script.write_text(text)
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
        "GENEVAE": str(binaries / "genevae"),
        "GENEVAE_DATA": str(folder()),
        "OMP_NUM_THREADS": "1",
    }
    call = [sys.executable, "-P", str(script)] if script.suffix == ".py" else ["bash", str(script)]
    try:
        done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"longer than {LIMIT_S} s", ""
    return done.returncode, done.stdout or done.stderr


if __name__ == "__main__":
    sys.exit(main())
