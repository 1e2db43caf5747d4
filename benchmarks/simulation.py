"""Can simulated cells be told from real ones? `python benchmarks/simulation.py`.

A random forest is asked, type by type, to tell held-out real cells from as many simulated ones, by log-normalised
expression. Its cross-validated AUC is 0.5 where it cannot and 1 where it always can. Beside the recipes stand two that
need no model: training cells themselves, which is as good as it gets; and genes resampled one by one from the training
cells of the type, which have every gene's distribution right and nothing else. Then how well the mean, the variance and
the share of zeros of each gene agree within types (correlation over genes of log mean and log variance, and mean
absolute difference of the share of zeros). Target: recipe convolutional-nb no easier to tell than recipe nb.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from real import folder

import genevae as gv
from genevae.evaluation.response import log_normalised
from genevae.evaluation.simulation import two_sample_auc

Counts = NDArray[np.float64]
N_TREES = 200
RECIPES: dict[str, dict[str, Any]] = {
    "nb": {},
    "convolutional": {},
    "convolutional, plain sum": {"reconstruction_weight": 1},
    "convolutional, in order of expression": {"order": "expression"},
    "convolutional, genes as given": {"order": "given"},
    "convolutional-nb": {},
    "convolutional-nb, genes as given": {"order": "given"},
}


def main() -> None:
    """Print the AUC and the agreement of every way to simulate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pbmc68k_reduced_counts.h5ad")
    parser.add_argument("--genes", type=int, default=765)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--least", type=int, default=15, help="held-out cells of a type at least")
    parser.add_argument("--seeds", type=int, default=3, help="of the draws and of the forest")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    adata = gv.read(folder() / arguments.data)
    print(f"{arguments.data}: {adata.n_obs:,} cells, {arguments.genes:,} genes; AUC over {arguments.seeds} seeds")
    print(f"{'':<40}{'AUC':>16}{'mean r':>9}{'variance r':>12}{'zeros off':>11}")
    models = {name: fitted(adata, name.split(",")[0], settings, arguments) for name, settings in RECIPES.items()}
    any_model = models["nb"]
    counts = np.asarray(adata[:, list(any_model.schema.genes)].X.toarray(), dtype=np.float64)
    label_n, part_n = adata.obs["cell_type"].astype(str).to_numpy(), any_model.split.to_numpy()
    real, train = (
        {t: counts[(label_n == t) & (part_n == p)] for t in np.unique(label_n)} for p in ("test", "training")
    )
    real = {t: x for t, x in real.items() if len(x) >= arguments.least}
    report("training cells", real, (drawn(train, real, seed) for seed in range(arguments.seeds)))
    report("genes resampled one by one", real, (resampled(train, real, seed) for seed in range(arguments.seeds)))
    for name, model in models.items():
        report(name, real, (simulated(model, real, seed) for seed in range(arguments.seeds)))


def fitted(adata: Any, recipe: str, settings: Mapping[str, Any], arguments: argparse.Namespace) -> gv.Trained:
    """Train on the same seven tenths of the cells."""
    return gv.fit(
        adata, recipe=recipe, condition=["cell_type"], genes=arguments.genes, epochs=arguments.epochs,
        stratify="cell_type", test=0.3, setting=settings, progress=False, device="cpu",
    )  # fmt: skip


def simulated(model: gv.Trained, real: Mapping[str, Counts], seed: int) -> dict[str, Counts]:
    """Generate as many cells of each type as are held out."""
    made = {t: gv.generate(model, n=len(x), condition={"cell_type": t}, seed=seed).X for t, x in real.items()}
    return {t: np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float64) for t, x in made.items()}


def drawn(train: Mapping[str, Counts], real: Mapping[str, Counts], seed: int) -> dict[str, Counts]:
    """Draw training cells of each type."""
    rng = np.random.default_rng(seed)
    return {t: train[t][rng.choice(len(train[t]), len(x), replace=False)] for t, x in real.items()}


def resampled(train: Mapping[str, Counts], real: Mapping[str, Counts], seed: int) -> dict[str, Counts]:
    """Permute each gene over the training cells of each type."""
    rng = np.random.default_rng(seed)
    return {t: rng.permuted(train[t], axis=0)[: len(x)] for t, x in real.items()}


def report(name: str, real: Mapping[str, Counts], made: Iterator[Mapping[str, Counts]]) -> None:
    """Print a line."""
    aucs, agreements = [], []
    for seed, each in enumerate(made):
        aucs.append(
            np.mean([two_sample_auc(log_normalised(real[t]), log_normalised(each[t]), seed, 200) for t in real])
        )
        agreements.append(np.mean([agreement(real[t], each[t]) for t in real], axis=0))
    mean, variance, zeros = np.mean(agreements, axis=0)
    print(
        f"{name:<40}{np.mean(aucs):>8.3f} ± {np.std(aucs):.3f}{mean:>9.3f}{variance:>12.3f}{zeros:>11.3f}", flush=True
    )


def agreement(real: Counts, made: Counts) -> tuple[float, float, float]:
    """Compare mean, variance and share of zeros of each gene."""
    both = [log_normalised(x) for x in (real, made)]
    mean = [np.log(1e-3 + x.mean(0)) for x in both]
    variance = [np.log(1e-3 + x.var(0)) for x in both]
    zeros = [(x == 0).mean(0) for x in (real, made)]
    return np.corrcoef(mean)[0, 1], np.corrcoef(variance)[0, 1], float(np.abs(zeros[0] - zeros[1]).mean())


if __name__ == "__main__":
    main()
