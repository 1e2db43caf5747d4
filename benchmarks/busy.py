"""Training beside busy processes: cells per second with two threads, one, and as many as are fastest just then."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

CODE = """
import sys, warnings
warnings.simplefilter("ignore")
import genevae as gv
from stores import counts_like_cells
gv.settings.num_threads = sys.argv[1]
model = gv.fit(counts_like_cells(4000, 2000, 0.1), "nb", epochs=12, progress=False)
print(model.history["cells_per_second"].median())
"""
BUSY = "while True: pass"


def pace(n_threads: int | str, **policy: str) -> float:
    """Return the cells per second of a process of its own."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - a text for the environment
    environment = {**os.environ, **policy, "PYTHONPATH": here}
    command = [sys.executable, "-c", CODE, str(n_threads)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print("two threads: as here by default | sleep while they wait | spin while they wait | one thread | auto")
    for title, n_busy in (("alone", 0), ("beside one busy process", 1), ("beside two", 2)):
        others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n_busy)]
        try:
            found = [pace(2), pace(2, OMP_WAIT_POLICY="PASSIVE"), pace(2, OMP_WAIT_POLICY="ACTIVE")]
            found += [pace(1), pace("auto")]
        finally:
            for each in others:
                each.kill()
        print(f"{title}: " + " | ".join(f"{each:,.0f}" for each in found), flush=True)


if __name__ == "__main__":
    main()
