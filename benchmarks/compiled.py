"""Whether compiled loops change what is learned: the held-out bound after equal epochs, with and without them.

`python -m benchmarks.compiled` trains `nb` on seven sets, from the same cells, seeds and number of epochs, in a process
that compiles and in one that does not (NUMBA_DISABLE_JIT=1: the plain form, in which loops were first written). The
bound is importance-weighted, in nats per held-out cell; ± is the standard deviation over seeds. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings

import numpy as np
import torch
from benchmarks.epochs import bound, split
from benchmarks.real import folder

import genevae as gv

SETS = (
    "kang_merged", "pbmc_facs_fasttopics", "mixology_celllines", "pbmc_3tech_symphony", "papalexi_thp1_sceptre",
    "pbmc68k_reduced_counts", "pbmc3k_labelled",
)  # fmt: skip
MOST = 2_000
"""Training cells."""


def main() -> None:
    """Print a row for each set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=SETS, help="data sets by name")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--one", help="print bounds and seconds of this set, as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(bounds(arguments.one, arguments.epochs, arguments.seeds)))
        return
    print("| data | compiled | plain | difference | seconds, compiled and plain |\n|---|--:|--:|--:|--:|")
    for name in arguments.data:
        command = [sys.executable, "-m", "benchmarks.compiled", "--one", name]
        command += ["--epochs", str(arguments.epochs), "--seeds", str(arguments.seeds)]
        found = [
            json.loads(subprocess.run(command, env={**os.environ, **off}, check=True, stdout=subprocess.PIPE).stdout)
            for off in ({}, {"NUMBA_DISABLE_JIT": "1"})
        ]
        (one, one_s), (other, other_s) = found
        cells = [f"{statistics.fmean(each):.2f} ± {statistics.stdev(each):.2f}" for each in (one, other)]
        apart = statistics.fmean(one) - statistics.fmean(other)
        print(f"| {name} | {' | '.join(cells)} | {apart:+.2f} | {one_s:.1f} and {other_s:.1f} |", flush=True)


def bounds(name: str, epochs: int, n_seeds: int) -> tuple[list[float], float]:
    """Return the bound for each seed, and the processor's seconds of the last fit, in which nothing is compiled."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    gv.settings.progress = False
    training, held_out = split(gv.read(folder() / f"{name}.h5ad"), 0, inner=False)
    kept = np.sort(np.random.default_rng(0).permutation(training.n_obs)[:MOST])
    training, found, seconds = training[kept].copy(), [], 0.0
    for seed in range(n_seeds):
        started = time.process_time()
        model = gv.fit(training, epochs=epochs, seed=seed)
        seconds = time.process_time() - started
        found.append(bound(model, held_out[:MOST]))
    return found, seconds


if __name__ == "__main__":
    main()
