"""Effects where experiments are nested in perturbations: the slope of observed on predicted fold changes.

Kang et al. (2018), with donor × condition as experiments, and the recipe conditional. Three ways: without the
experiment; with it, cells keeping theirs; with it, cells taking one that occurs with the target, as `genevae effect`
does. The ideal is 1; above it, predicted effects are too small.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd
from anndata import AnnData
from real import kang

import genevae as gv

TYPES = ("CD4 T", "CD14+ Mono", "B", "FCGR3A+ Mono")


def main() -> None:
    """Print a table of slopes, one row for each way, one column for each cell type."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--genes", type=int, default=500)
    arguments = parser.parse_args()
    cells = kang()
    cells.obs["experiment"] = cells.obs["donor"].astype(str) + "_" + cells.obs["condition"].astype(str)

    def fit(*fields: str) -> gv.Trained:
        return gv.fit(
            cells, recipe="conditional", condition=["condition", "cell_type", *fields], control={"condition": "ctrl"},
            genes=arguments.genes, epochs=arguments.epochs, device="cpu", progress=False,
        )  # fmt: skip

    nested = fit("experiment")
    models = {
        "without the experiment": fit(),
        "cells keep their experiment": replace(nested, schema=replace(nested.schema, nested=())),
        "experiments of the target": nested,
    }
    print(pd.DataFrame({name: slopes(model, cells) for name, model in models.items()}).T.round(2).to_string())


def slopes(model: gv.Trained, cells: AnnData) -> dict[str, float]:
    """Return Σ predicted · observed / Σ predicted² over genes, for each cell type."""
    cells = cells[:, list(model.schema.genes)].copy()
    counts = cells.X.toarray()
    x_ng = np.log1p(1e4 * counts / np.maximum(counts.sum(1, keepdims=True), 1)) / np.log(2)
    table = gv.effect(model, cells, field="condition", to=["stim"], by=["cell_type"], n_draws=5)
    found = {}
    for name in TYPES:
        stim, ctrl = (
            ((cells.obs["cell_type"] == name) & (cells.obs["condition"] == c)).to_numpy() for c in ("stim", "ctrl")
        )
        observed_g = x_ng[stim].mean(0) - x_ng[ctrl].mean(0)
        predicted_g = table[table["cell_type"] == name].set_index("gene")["lfc"][list(cells.var_names)].to_numpy()
        found[name] = float(predicted_g @ observed_g / (predicted_g @ predicted_g))
    return found


if __name__ == "__main__":
    main()
