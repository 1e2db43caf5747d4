"""What passes over millions of cells would take: rates of one core, memory, and from them time, disk and network.

Every pass runs in a process of its own, with one thread. Rates are by the processor's time, over cells of a generated
atlas of 20,000 genes, repeated without copying them. Peak memory is that of whole processes, over a real file, repeated
in the same way, for a growing number of cells. The tables are printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.repeated import DATA, Repeated

PASSES = ("hvg", "pseudobulk", "convert", "embed", "open", "join", "train")
SERIAL = {"hvg": ("open",), "pseudobulk": ("open",), "convert": ("open",), "embed": ("open", "join")}
"""What no further worker makes faster: each opens the table of all cells, and one process joins parts."""
GROWING = ("hvg", "embed", "evaluate", "train from disk", "train")
"""Passes whose memory is measured; training keeps expression in memory where it fits, unless it is limited."""
MEMORY = "400M"
"""What expression may take in training from disk."""
LIGHT = ("open", "join")
"""Passes that are so fast that their rates are measured on a hundred times as many cells."""
RATED, FEW = 10_240, 1_024
"""Cells that a rate is measured on: the time of the first less that of the second, which has what is done once."""
SIZES, NODES = (10**6, 10**7, 10**8), (1, 8, 64)
DRAWN = 128 * 512
"""Rows of random latents, which are repeated."""
WITHIN = 0.1
"""The share by which memory may grow."""


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="*", default=[10**5, 10**6], help="numbers of cells for the memory")
    parser.add_argument("--cores", type=int, default=16, help="workers of a node, each on a core")
    parser.add_argument("--folder", type=Path, default=Path("build/scale"))
    parser.add_argument("--one", choices={*PASSES, *GROWING}, help=argparse.SUPPRESS)
    parser.add_argument("--n", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, default=DATA, help="the real file")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.one, Repeated(arguments.data.absolute(), arguments.n), arguments.folder)))
        return
    atlas = made(arguments.folder)
    print(f"Load of the machine: {os.getloadavg()[0]:.1f}\n")
    rates = {
        name: in_own_process(name, RATED * (100 if name in LIGHT else 1), atlas, arguments.folder) for name in PASSES
    }
    print_rates(rates, arguments.cores, atlas.stat().st_size / 10_000)
    if arguments.cells:
        print_memory(arguments.cells, arguments.data, arguments.folder)


def made(folder: Path) -> Path:
    """Write the atlas and a model of it, unless they are there."""
    from benchmarks.atlas import write_atlas

    import genevae as gv

    write_atlas(folder / "atlas", "h5ad", 10_000, cells_per_shard=10_000)
    path = folder / "atlas" / "cells_0000.h5ad"
    for run, data in (("atlas_run", path), ("run", DATA)):
        if not (folder / run).exists():
            gv.fit(data, "nb", epochs=1, setting={"cells_per_epoch": 1000}, out=folder / run, progress=False)
    return path


def in_own_process(name: str, n: int, data: Path, folder: Path) -> dict[str, float]:
    """Run one pass in a process with one thread, and return what :func:`measured` does."""
    words = ["--one", name, "--n", str(n), "--data", str(data), "--folder", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *words],
        check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(name: str, cells: Repeated, folder: Path) -> dict[str, float]:
    """Run one pass, and return its seconds for each cell, peak memory, and the bytes of its result for each cell."""
    import genevae as gv

    gv.settings.progress = False
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out = Path(place) / "out.zarr"
        if name == "train from disk":
            os.environ["GENEVAE_MAX_MEMORY"] = MEMORY
        few = cells if name.startswith("train") else Repeated(cells.path, FEW)
        work_of(name, few, folder, Path(place) / "first.zarr", FEW)()  # loads and compiles what is needed
        least = timed(work_of(name, few, folder, Path(place) / "few.zarr", FEW))
        seconds = timed(work_of(name, cells, folder, out, RATED)) - least
        written = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) if out.exists() else 0
    seconds /= (RATED if name.startswith("train") else len(cells)) - FEW
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "peak": peak, "written": written / len(cells)}


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds of the processor that work took."""
    before = time.process_time()
    work()
    return time.process_time() - before


def work_of(name: str, cells: Repeated, folder: Path, out: Path, n: int) -> Callable[[], Any]:
    """Return a pass."""
    import genevae as gv
    from genevae.io.write.anndata import write_store
    from genevae.preprocessing.convert import convert
    from genevae.tasks.inference import open_cells

    run = folder / ("atlas_run" if "atlas" in str(cells.path) else "run")
    column = cells.source.obs.columns[0]

    def train() -> Any:
        options = {"validation": min(0.1, 1_000 / len(cells)), "setting": {"cells_per_epoch": n}}
        return gv.fit(cells, "nb", epochs=1, progress=False, **options)

    return {
        "open": lambda: open_cells(gv.load(run), cells, None, 512),
        "join": lambda: write_store(out, latents(len(cells)), pd.DataFrame(index=cells.obs.index), pd.DataFrame(), {}),
        "hvg": lambda: gv.highly_variable(cells),
        "pseudobulk": lambda: gv.pseudobulk(cells, by=column),
        "convert": lambda: convert(cells, out, shuffle=True),
        "embed": lambda: gv.embed(run, cells, out=out),
        "evaluate": lambda: gv.evaluate(run, cells, sections=["fit"], cells=500),
        "train from disk": train,
        "train": train,
    }[name]


def latents(n: int) -> Iterator[dict[str, Any]]:
    """Yield what embed writes of so many cells: slices of arrays that are larger than a chunk of a store."""
    rng = np.random.default_rng(0)
    drawn = {f"obsm/{name}": rng.normal(size=(DRAWN, 10)).astype(np.float32) for name in ("mean", "sd")}
    for start in range(0, n, 512):
        at = start % DRAWN
        yield {name: rows[at : at + min(512, n - start)] for name, rows in drawn.items()}


def print_rates(rates: dict[str, dict[str, float]], cores: int, bytes_per_cell: float) -> None:
    """Print the rate of each pass, and the time of many cells on some nodes."""
    print("| pass | cells/s of one core | bytes written for each cell |")
    print("|---|---|---|")
    for name, found in rates.items():
        print(f"| {name} | {1 / found['seconds']:,.0f} | {found['written']:,.0f} |")
    print(f"\n{cores} workers on each node; {bytes_per_cell / 1e3:.1f} kB on disk for each cell.\n")
    print("| cells | nodes | " + " | ".join(SERIAL) + " | data | read by embed, all nodes |")
    print("|---|---|" + "---|" * (len(SERIAL) + 2))
    for n in SIZES:
        for nodes in NODES:
            seconds = {
                name: n * (rates[name]["seconds"] / cores / nodes + sum(rates[each]["seconds"] for each in serial))
                for name, serial in SERIAL.items()
            }
            network = n * bytes_per_cell / seconds["embed"]
            times = " | ".join(map(in_words, seconds.values()))
            print(f"| {n:,} | {nodes} | {times} | {n * bytes_per_cell / 1e9:,.0f} GB | {network / 1e9:,.1f} GB/s |")
    print("\n| cells | an epoch of training, one core |\n|---|---|")
    for n in SIZES:
        print(f"| {n:,} | {in_words(n * rates['train']['seconds'])} |")


def in_words(seconds: float) -> str:
    """Return a time in seconds, minutes, hours or days."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def print_memory(sizes: list[int], data: Path, folder: Path) -> None:
    """Print the peak memory of each pass over a growing number of cells."""
    print("\n| pass | " + " | ".join(f"{n:,} cells" for n in sizes) + " | growth | bytes for each further cell |")
    print("|---|" + "---|" * (len(sizes) + 2))
    for name in GROWING:
        peaks = [in_own_process(name, n, data, folder)["peak"] for n in sizes]
        growth = peaks[-1] / peaks[0] - 1
        slope = (peaks[-1] - peaks[0]) / (sizes[-1] - sizes[0])
        shown = " | ".join(f"{peak / 1e6:,.0f} MB" for peak in peaks)
        print(
            f"| {name} | {shown} | {growth:.0%}{'' if growth <= WITHIN else ' (missed)'} | {slope:,.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
