"""Embed many cells in one process, on two worker processes of Dask, and on two of which one is killed half-way.

The cells are those of a file, repeated without copying them: every row is read from the file as often as it occurs. By
default they are generated, with a thousand values among 20,000 genes, as in an atlas; `--data` takes a real file.
Seconds are by the clock, from the call to the complete result; workers have been started, and have embedded a few cells
before. One process reads in a second thread, so it is measured on one core, which is what a worker has, and on all.
Processor seconds are those of all processes together. Two processes that embed half of the cells each, and know nothing
of each other, say what the machine allows.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from repeated import Repeated

TARGET = 1.7
"""Times the rate of one process on one core."""


def main() -> None:
    """Print rates, their ratios, and whether the results are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a file with cells; by default they are generated")
    parser.add_argument("--cells", type=int, default=1_000_000)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of this process and of each worker
    import genevae as gv

    gv.settings.progress = False
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        data = arguments.data or atlas(folder / "atlas")
        gv.fit(data, "nb", epochs=1, setting={"cells_per_epoch": 1_000}, out=folder / "run", progress=False)
        measure(gv.load(folder / "run"), Repeated(data.absolute(), arguments.cells), folder)


def atlas(folder: Path) -> Path:
    """Write a file of generated cells."""
    from atlas import write_atlas

    write_atlas(folder, "h5ad", 10_000, cells_per_shard=10_000)
    return folder / "cells_0000.h5ad"


def measure(model: Any, cells: Repeated, folder: Path) -> None:
    """Embed several times, and compare."""
    from dask.distributed import Client, LocalCluster

    import genevae as gv

    print(f"{len(cells):,} cells × {len(cells.genes):,} genes; load of the machine before: {os.getloadavg()[0]:.1f}")
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for n in (20_000, len(cells) // 2):  # the first is for the start
            halves = list(pool.map(half, [model.folder] * 2, [cells.path] * 2, [n] * 2))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        gv.embed(model, Repeated(cells.path, 20_000), executor=client)  # starts what a worker needs
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, set(sorted(allowed)[:1]))
        alone = timed(lambda: gv.embed(model, cells, out=folder / "alone.zarr"))
        print(f"one process, one core       {line(alone, len(cells))}", flush=True)
        os.sched_setaffinity(0, allowed)
        free = timed(lambda: gv.embed(model, cells, out=folder / "free.zarr"))
        print(f"one process, all cores      {line(free, len(cells))}, {ratio(alone, free)}", flush=True)

        apart = max(seconds for seconds, _ in halves), sum(processor for _, processor in halves)
        print(f"two processes, half each    {line(apart, len(cells))}, {ratio(alone, apart)}", flush=True)

        def on_workers(out: str) -> tuple[float, float]:
            before = sum(client.run(time.process_time).values())
            seconds, here = timed(lambda: gv.embed(model, cells, out=folder / out, executor=client))
            return seconds, here + sum(client.run(time.process_time).values()) - before

        both = on_workers("both.zarr")
        print(f"two workers                 {line(both, len(cells))}, {ratio(alone, both)}", flush=True)
        victim = next(iter(client.run(os.getpid).values()))
        timer = threading.Timer(both[0] / 2, os.kill, (victim, signal.SIGKILL))
        timer.start()
        killed = timed(lambda: gv.embed(model, cells, out=folder / "killed.zarr", executor=client))
        timer.cancel()
        print(f"two, one killed half-way    {line(killed, len(cells))}, {ratio(alone, killed)}")
    same = all(equal(folder / "alone.zarr", folder / other) for other in ("free.zarr", "both.zarr", "killed.zarr"))
    print(f"equal to the last bit: {same}; load afterwards: {os.getloadavg()[0]:.1f}; target: {TARGET} times the rate")


def half(run: Path, path: Path, n: int) -> tuple[float, float]:
    """Embed some cells in a process of its own, without writing them."""
    import genevae as gv

    gv.settings.progress = False
    model = gv.load(run)
    return timed(lambda: gv.embed(model, Repeated(path, n)))


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the seconds that work took, by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def line(took: tuple[float, float], n: int) -> str:
    """Return seconds and rate."""
    return f"{took[0]:7.1f} s {n / took[0]:9,.0f} cells/s ({took[1]:.1f} processor seconds)"


def ratio(one: tuple[float, float], other: tuple[float, float]) -> str:
    """Return how many times faster."""
    return f"{one[0] / other[0]:.2f} times one process on one core"


def equal(one: Path, other: Path) -> bool:
    """Return whether two results have the same bits."""
    import anndata

    ours, theirs = anndata.read_zarr(one), anndata.read_zarr(other)
    return all(ours.obsm[key].tobytes() == theirs.obsm[key].tobytes() for key in ours.obsm)


if __name__ == "__main__":
    main()
