"""Train on an atlas that is read from disk: memory, and cells per second, of each format.

Each format is trained on in a process of its own, whose peak memory is that of the whole run: opening, splitting,
training, and all that follows it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from atlas import FORMATS, write_atlas

BATCH_SIZE = 128
TARGET = 2.0
"""Gigabytes that a training process may take."""


def main() -> None:
    """Print the memory and the rates of every format."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("build/atlas"))
    parser.add_argument("--cells", type=int, default=200_000, help="to train on, of the atlas's million")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(train(arguments.folder / arguments.one, arguments.cells)))
        return
    for form in arguments.formats:
        write_atlas(arguments.folder / form, form)
        command = [sys.executable, __file__, "--folder", str(arguments.folder), "--cells", str(arguments.cells)]
        done = subprocess.run([*command, "--one", form], check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{form:<6}{found['gigabytes']:.2f} GB at most (target: {TARGET:.0f}); "
            f"reads {found['read']:,.0f} cells/s, trains {found['trained']:,.0f} cells/s, "
            f"waits {found['waiting']:.1%} of the time; {found['seconds']:.0f} s in all"
        )


def train(path: Path, n_cells: int) -> dict[str, float]:
    """Train one epoch, then read as many cells without training, and say what it took."""
    import genevae as gv
    from genevae.io.formats import ReadOptions

    started = time.perf_counter()
    files = ReadOptions(path=path, keep="disk")
    model = gv.fit(files, recipe="nb", epochs=1, setting={"cells_per_epoch": n_cells}, validation=0.002, progress=False)
    seconds = time.perf_counter() - started
    history = model.history.iloc[-1]
    gigabytes = peak()
    return {
        "gigabytes": gigabytes,
        "trained": float(history["cells_per_second"]),
        "waiting": float(history["waiting_share"]),
        "seconds": seconds,
        "read": read_rate(path, n_cells),
    }


def read_rate(path: Path, n_cells: int) -> float:
    """Return the cells per second of the loader alone."""
    import numpy as np

    from genevae.data.loader import Loader
    from genevae.data.sampler import Shuffled
    from genevae.data.schema import Schema
    from genevae.data.value_kind import probe
    from genevae.io.formats import ReadOptions, open_source

    source = open_source(ReadOptions(path=path, keep="disk"))
    schema = Schema.fit(source.genes, source.obs, probe(source))
    sampler = Shuffled(np.arange(len(source)), BATCH_SIZE, n_cells_per_epoch=n_cells)
    started = time.perf_counter()
    n_read = sum(cells.x.n_cells for cells in Loader(source, schema, sampler))
    return n_read / (time.perf_counter() - started)


def peak() -> float:
    """Return the most memory that this process has held, in gigabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
