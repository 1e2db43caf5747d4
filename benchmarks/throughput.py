"""Training throughput beside scvi-tools, in one run: `make bench`.

Both train a VAE of counts with a negative binomial likelihood at their defaults (one hidden layer of 128, 10 latent
dimensions, minibatches of 128, nine tenths of the cells) on the same matrix, in the same process, with the same number
of threads, in turn: short run, long run, the other's short run, the other's long run, and so on. Cells per second are
those of the added epochs of the median long run over the median short run, so that set-up does not count; whatever
either does in each epoch does. scvi-tools is measured once more at its best settings: torch's fused Adam, and cells
loaded as sparse tensors. Two figures: by the clock; and by the processor's time, which other programs disturb
less (with one thread: several that wait for each other spend it too).
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from anndata import AnnData
from stores import counts_like_cells

import genevae as gv

EPOCHS = (1, 5)


def main() -> None:
    """Print cells per second of both, their ratio, and the share of the matrix products."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--density", type=float, default=0.10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    adata = counts_like_cells(arguments.cells, arguments.genes, arguments.density)
    stored = adata.X.nnz / (adata.n_obs * adata.n_vars)
    print(f"{adata.n_obs:,} cells, {adata.n_vars:,} genes, density {stored:.1%}, {torch.get_num_threads()} threads")
    products = product_seconds(128, arguments.genes, 128)
    train_genevae(adata, 1)  # compiles what is not compiled yet
    seconds: dict[str, list[list[tuple[float, float]]]] = {name: [[] for _ in EPOCHS] for name in TRAINERS}
    for _ in range(arguments.rounds):
        for name, train in TRAINERS.items():
            for number, epochs in enumerate(EPOCHS):
                started = time.perf_counter(), time.process_time()
                train(adata, epochs)
                seconds[name][number].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    cells = 0.9 * adata.n_obs * (EPOCHS[1] - EPOCHS[0])
    for at, what in enumerate(("by the clock", "by the processor's time")):
        rate = {
            name: cells / (statistics.median(run[at] for run in long) - statistics.median(run[at] for run in short))
            for name, (short, long) in seconds.items()
        }
        rates = ", ".join(f"{name} {value:,.0f} cells/s" for name, value in rate.items())
        print(f"{what}: {rates}; {arguments.rounds} rounds")
        for name, target in TARGETS.items():
            print(f"{what}: {rate['genevae'] / rate[name]:.2f} times {name} (target: {target})")
        share = products[at] * rate["genevae"] / 128
        print(f"the five matrix products of a step alone: {products[at] * 1e3:.2f} ms, {share:.0%} of genevae's step")


def train_genevae(
    adata: AnnData, epochs: int, batch_size: int = 128, device: str = "cpu", cuda_graphs: bool = False
) -> None:
    """Train at our defaults."""
    options: dict[str, Any] = {"device": device, "cuda_graphs": cuda_graphs, "progress": False}
    gv.fit(adata, recipe="nb", epochs=epochs, batch_size=batch_size, **options)


def train_scvi(adata: AnnData, epochs: int, batch_size: int = 128, device: str = "cpu", best: bool = False) -> None:
    """Train at scvi-tools' defaults, or with its optimiser fused and sparse tensors."""
    import scvi

    scvi.settings.verbosity = 40
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours_not = adata.copy()
        scvi.model.SCVI.setup_anndata(ours_not)
        model = scvi.model.SCVI(ours_not, gene_likelihood="nb")
        accelerator = "gpu" if device == "cuda" else "cpu"
        options: dict[str, Any] = {"enable_progress_bar": False, "logger": False}
        if best:
            adam = partial(torch.optim.Adam, lr=1e-3, eps=0.01, weight_decay=1e-6, fused=True)  # but for that, its own
            plan = {"optimizer": "Custom", "optimizer_creator": adam}
            options |= {"load_sparse_tensor": True, "plan_kwargs": plan}
        model.train(max_epochs=epochs, batch_size=batch_size, accelerator=accelerator, **options)


TRAINERS: dict[str, Callable[..., None]] = {
    "genevae": train_genevae,
    "scvi-tools": train_scvi,
    "scvi-tools at its best": partial(train_scvi, best=True),
}
TARGETS = {"scvi-tools": 4, "scvi-tools at its best": 3}


def product_seconds(n_cells: int, n_genes: int, n_hidden: int, repeats: int = 200) -> tuple[float, float]:
    """Return the time of one step's five products of cells × genes × hidden, by the clock and by the processor's time.

    They are: into the first layer, out of the last, and the gradients of both weights and of the last hidden units.
    """
    x_ng, h_nh = torch.rand(n_cells, n_genes), torch.rand(n_cells, n_hidden)
    w_gh = torch.rand(n_genes, n_hidden)
    times = []
    for _ in range(repeats):
        started = time.perf_counter(), time.process_time()
        x_ng @ w_gh
        h_nh @ w_gh.T
        x_ng.T @ h_nh
        x_ng.T @ h_nh
        x_ng @ w_gh
        times.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    return statistics.median(clock for clock, _ in times), statistics.median(processor for _, processor in times)


if __name__ == "__main__":
    import logging

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
