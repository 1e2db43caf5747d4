"""Time to a good model: the bound of held-out cells against the seconds of `fit`, beside scvi-tools: `make bench`.

A fifth of the cells is held out; at most 2,000 highly variable genes, chosen on the others. Every model is trained from
the same cells: ours at its defaults and with other numbers of epochs, SCVI (negative binomial) at its defaults, with
the weights of its last epoch and of its best validation epoch. Seconds are those of the whole call, one thread, by the
clock and of the processor, which other programs disturb less; SCVI's include a validation after each epoch, which finds
its best. The bound is importance-weighted, in nats per cell, by the same estimator for all. The defaults were chosen on
parts of the training cells of these sets and of two more (`--inner` repeats that), not on the held-out cells.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from anndata import AnnData
from benchmarks.real import folder
from benchmarks.results.methods import keep_best

import genevae as gv
from genevae.evaluation.load_cells import load_cells
from genevae.evaluation.model import EvaluatedModel
from genevae.io.formats import open_source
from genevae.metrics.bound import importance_weighted_bound

SETS = ("kang_merged", "pbmc_facs_fasttopics", "mixology_celllines")
CHOSEN_ON = (*SETS, "pbmc_3tech_symphony", "pbmc3k_labelled")
EPOCHS = (10, 20, 40, 80)
DRAWS = 100


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", help="data sets by name")
    parser.add_argument("--inner", action="store_true", help="split the training cells again, and leave out SCVI")
    parser.add_argument("--ours", action="store_true", help="leave out SCVI")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    gv.settings.progress = False
    compile_first()
    print("| data | model | seconds | processor's seconds | bound, nats per held-out cell | epochs |")
    print("|---|---|--:|--:|--:|--:|")
    for name in arguments.data or (CHOSEN_ON if arguments.inner else SETS):
        training, held_out = split(gv.read(folder() / f"{name}.h5ad"), arguments.seed, arguments.inner)
        for train in (ours,) if arguments.ours or arguments.inner else (ours, theirs):
            for row in train(training, held_out, arguments.seed):
                print(f"| {name} | {row} |", flush=True)


def compile_first() -> None:
    """Compile what is not compiled yet, which is timed elsewhere."""
    counts = np.random.default_rng(0).poisson(1.0, (300, 50)).astype(np.float32)
    gv.fit(AnnData(counts), epochs=1, progress=False)


def split(adata: AnnData, seed: int, inner: bool) -> tuple[AnnData, AnnData]:
    """Hold out a fifth of the cells; or, within the other cells, a fifth of those."""
    rows = np.random.default_rng(seed).permutation(adata.n_obs)
    for _ in range(1 + inner):
        held_out, rows = rows[: len(rows) // 5], rows[len(rows) // 5 :]
    training = adata[np.sort(rows)].copy()
    if training.n_vars > 2_000:
        genes = gv.highly_variable(training, n_genes=2_000)
        training = training[:, genes].copy()
    return training, adata[np.sort(held_out), training.var_names].copy()


def ours(training: AnnData, held_out: AnnData, seed: int) -> Iterator[str]:
    """Train with the default number of epochs, and with others."""
    for epochs in (None, *EPOCHS):
        timed = stopwatch()
        model = gv.fit(training, epochs=epochs, seed=seed)
        seconds = timed()
        name = "genevae, defaults" if epochs is None else f"genevae, {epochs} epochs"
        yield f"{name} | {seconds} | {bound(model, held_out):.2f} | {len(model.history)}"


def theirs(training: AnnData, held_out: AnnData, seed: int) -> Iterator[str]:
    """Train SCVI at its defaults, and return it with its last and its best weights."""
    import scvi

    scvi.settings.seed, scvi.settings.verbosity = seed, 40
    adata = training.copy()
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata, gene_likelihood="nb")
    keeper = keep_best(after_warm_up=False)  # its default warm-up lasts for all epochs
    timed = stopwatch()
    model.train(
        accelerator="cpu", enable_progress_bar=False, logger=False, check_val_every_n_epoch=1, callbacks=[keeper]
    )
    seconds, epochs = timed(), model.trainer.current_epoch
    yield f"SCVI, defaults | {seconds} | {bound(gv.adapters.scvi(model), held_out):.2f} | {epochs}"
    model.module.load_state_dict(keeper.weights)
    yield f"SCVI, defaults, best epoch | {seconds} | {bound(gv.adapters.scvi(model), held_out):.2f} | {epochs}"


def stopwatch() -> Callable[[], str]:
    """Start a clock, and return what reads it: seconds by the clock, and of the processor."""
    started = time.perf_counter(), time.process_time()
    return lambda: f"{time.perf_counter() - started[0]:.1f} | {time.process_time() - started[1]:.1f}"


def bound(model: gv.Trained | EvaluatedModel, held_out: AnnData) -> float:
    """Return the mean importance-weighted bound of the held-out cells."""
    context, _ = load_cells({"model": model}, open_source(held_out), held_out.n_obs, 0)
    log_weights_sn = context.models["model"].log_weights(context.cells, DRAWS, 0)
    return float(importance_weighted_bound(log_weights_sn).mean())


if __name__ == "__main__":
    main()
