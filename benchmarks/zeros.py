"""Zeros of generated log-normalised cells: ways to turn samples of a Gaussian into expression, beside held-out cells.

`python -m benchmarks.zeros DATA --condition cell_type --condition condition` fits the recipe gaussian to four fifths of
the cells and generates as many as are held out. Of each gene it compares the share of zeros, the mean and the variance
with the held-out cells, as the mean absolute difference over genes; training cells show what chance leaves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

import genevae as gv
from genevae.models.reference import Hurdle

Rows = NDArray[np.float32]


class _Raw(Hurdle):
    """The samples as they are."""

    def apply(self, x_ng: torch.Tensor) -> torch.Tensor:
        """Return them."""
        return x_ng


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--condition", action="append", default=[])
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=40)
    given = parser.parse_args()
    adata = gv.read(given.data)
    model = gv.fit(adata, "gaussian", condition=given.condition, genes=given.genes, epochs=given.epochs, test=0.2)
    counts = dense(adata[:, list(model.schema.genes)].X)
    size_n1 = np.maximum(counts.sum(1, keepdims=True), 1)
    part = model.split.reindex(adata.obs_names).to_numpy()
    x_ng = np.log1p(1e4 * counts / size_n1) if model.schema.kind.is_count else counts
    held_out = x_ng[part == "test"]
    print("| samples | share of zeros | mean | variance |\n|---|---|---|---|")
    for name, rows in ways(model, len(held_out), x_ng[part == "training"]):
        off = [np.abs(np.subtract(*pair)).mean() for pair in zip(moments(rows), moments(held_out), strict=True)]
        print(f"| {name} | {' | '.join(f'{each:.3f}' for each in off)} |")


def ways(model: gv.Trained, n: int, training: Rows) -> Iterator[tuple[str, Rows]]:
    """Yield each way and its cells."""
    hurdle = model.reference.hurdle
    if hurdle is None:
        raise SystemExit("The data are not counts or log-normalised expression.")
    rng = np.random.default_rng(0)
    raw = replace(model, reference=replace(model.reference, hurdle=_Raw(**vars(hurdle))))
    samples = gv.generate(raw, n=n)
    x_ng, size_n1 = dense(samples.X), samples.obs["size"].to_numpy()[:, None]
    yield "as they are", x_ng
    yield "cut at zero", np.maximum(x_ng, 0)
    yield "zero below each gene's threshold", np.where(x_ng < hurdle.threshold_g.numpy(), 0, np.maximum(x_ng, 0))
    expected = np.expm1(np.maximum(x_ng, 0)) * size_n1 / 1e4
    yield "rounded to counts", np.log1p(1e4 * np.rint(expected) / size_n1)
    yield "Poisson counts", np.log1p(1e4 * rng.poisson(expected) / size_n1)
    yield "genevae: threshold, and the mean of the others", dense(gv.generate(model, n=n).X)
    yield "training cells", training[rng.choice(len(training), min(n, len(training)), replace=False)]


def moments(x_ng: Rows) -> tuple[Rows, Rows, Rows]:
    """Return the share of zeros, the mean and the variance of each gene."""
    return (x_ng == 0).mean(0), x_ng.mean(0), x_ng.var(0)


def dense(x: object) -> Rows:
    """Return a matrix with all values."""
    return np.asarray(x.toarray() if sparse.issparse(x) else x)


if __name__ == "__main__":
    main()
