"""Training throughput of two processes of one thread beside one process of two threads, in one run.

Both fit the same recipe to the same cells in the same minibatches, of which two processes have half each. They are
started in turn, as `torchrun` starts them. Cells per second are those that the run's history has for the steps of each
epoch, without the first, in which much is done for the first time: the median over epochs and rounds.

What two processes send each other at every step is as long as the weights, whatever the minibatch: the larger the
minibatch, the smaller its share.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from stores import counts_like_cells

EPOCHS = 4
WAYS = {"one process, two threads": (1, 2), "two processes, one thread each": (2, 1)}
"""Processes, and threads of each."""


def main() -> None:
    """Print cells per second of both ways and their ratio, for each number of genes and each size of a minibatch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, nargs="+", default=[2_000, 10_000])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 1_024])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{arguments.cells:,} cells; cells/s, median of {arguments.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        for n_genes in arguments.genes:
            data = Path(folder) / f"{n_genes}.h5ad"
            counts_like_cells(arguments.cells, n_genes, 0.10).write_h5ad(data)
            for batch_size in arguments.batch_sizes:
                one, two = measure(data, batch_size, arguments.rounds)
                rates = ", ".join(f"{way} {rate:,.0f}" for way, rate in zip(WAYS, (one, two), strict=True))
                print(f"{n_genes:,} genes, minibatches of {batch_size:,}: {rates}; ratio {two / one:.2f}", flush=True)


def measure(data: Path, batch_size: int, rounds: int) -> list[float]:
    """Return the cells per second of each way."""
    rates: list[list[float]] = [[] for _ in WAYS]
    for _ in range(rounds):
        for found, (n_processes, n_threads) in zip(rates, WAYS.values(), strict=True):
            found.extend(fit(data, batch_size, n_processes, n_threads))
    return [statistics.median(found) for found in rates]


def fit(data: Path, batch_size: int, n_processes: int, n_threads: int) -> list[float]:
    """Fit in so many processes, and return the cells per second of each epoch but the first."""
    out = data.with_suffix(".run")
    command = ["fit", str(data), "--epochs", str(EPOCHS), "--batch-size", str(batch_size), "--out", str(out)]
    shared = {**os.environ, "OMP_NUM_THREADS": str(n_threads), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    several = [{"RANK": str(rank), "WORLD_SIZE": str(n_processes)} for rank in range(n_processes)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "genevae", *command, "--device", "cpu", "--force"],
            env={**shared, **(rank if n_processes > 1 else {})},
            stdout=subprocess.DEVNULL,
        )
        for rank in several
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("a process has failed")
    return pd.read_csv(out / "history.csv")["cells_per_second"].tolist()[1:]


def free_port() -> str:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


if __name__ == "__main__":
    main()
