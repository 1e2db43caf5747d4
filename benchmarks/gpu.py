"""Training throughput on a GPU beside scvi-tools, for several sizes of minibatches: `python benchmarks/gpu.py`.

As `throughput.py`, by the clock; genevae also with CUDA graphs, where a warning says if steps are not replayed. The
first run of each compiles, and does not count.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from functools import partial

import torch
from stores import counts_like_cells
from throughput import EPOCHS, TRAINERS, train_genevae

ON_GPU = {**TRAINERS, "genevae with CUDA graphs": partial(train_genevae, cuda_graphs=True)}


def main() -> int:
    """Print cells per second of both, and their ratio, for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, nargs="*", default=[128, 1024, 8192])
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("torch finds no GPU here.")
        return 1
    adata = counts_like_cells(arguments.cells, arguments.genes, 0.10)
    print(f"{torch.cuda.get_device_name()}, {adata.n_obs:,} cells, {adata.n_vars:,} genes")
    for batch_size in arguments.batch_size:
        rates = {name: [] for name in ON_GPU}
        for number in range(arguments.rounds + 1):
            for name, train in ON_GPU.items():
                seconds = []
                for epochs in EPOCHS:
                    started = time.perf_counter()
                    train(adata, epochs, batch_size, "cuda")
                    torch.cuda.synchronize()
                    seconds.append(time.perf_counter() - started)
                if number:
                    rates[name].append(0.9 * adata.n_obs * (EPOCHS[1] - EPOCHS[0]) / (seconds[1] - seconds[0]))
        median = {name: statistics.median(each) for name, each in rates.items()}
        found = (f"{name} {rate:,.0f} cells/s ({median['genevae'] / rate:.1f} times)" for name, rate in median.items())
        print(f"minibatches of {batch_size:,}: {', '.join(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
