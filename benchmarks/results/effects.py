"""Tests of effects: what is called where labels are random, and what is found where genes were thinned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from anndata import AnnData
from benchmarks.real import folder
from benchmarks.results.jobs import Job, Rows
from benchmarks.results.settings import length_of_ours
from numpy.typing import NDArray
from scipy import sparse, stats

import genevae as gv
from genevae.io.formats import open_source
from genevae.metrics.metric import Metric
from genevae.metrics.response import log_normalised
from genevae.preprocessing.hvg import highly_variable

__all__ = ["DESIGNS", "SCORES", "run_of"]

DESIGNS = ("labels drawn over cells, within donors", "labels drawn over donors")
SCORES: dict[str, tuple[Metric, str]] = {
    "called": (Metric("called", "lower", 0, "Share of the genes that were not thinned."), ""),
    "found": (Metric("found", "higher", 1, "Share of the genes that were thinned to a half in one of the labels."), ""),
}
N_GENES, N_THINNED, FACTOR = 1000, 60, 0.5
LEVEL = 0.95
KIND = "CD14+ Mono"
Called = NDArray[np.bool_]


def run_of(job: Job) -> Rows:
    """Draw labels at random among untreated cells of one type, thin some genes in either, and test every gene."""
    rng = np.random.default_rng(job.seed)
    adata = _cells()
    donor = adata.obs["donor"].astype(str).to_numpy()
    label = _labels(rng, donor, over_donors=job.data == DESIGNS[1])
    thinned = _thin(adata, label, rng)
    adata.obs["label"] = np.where(label, "b", "a")
    found = {**_ours(adata, job), **_others(adata, donor, label)}
    return {
        name: {"called": float(called[~thinned].mean()), "found": float(called[thinned].mean())}
        for name, called in found.items()
    }


def _cells() -> AnnData:
    adata = gv.read(folder() / "kang_merged.h5ad")
    obs = adata.obs
    kept = (obs["condition"] == "ctrl") & (obs["cell_type"] == KIND) & (obs["donor"].astype(str) != "unknown")
    adata = adata[kept.to_numpy()].copy()
    large = adata.obs["donor"].value_counts()
    adata = adata[adata.obs["donor"].isin(large.index[large >= 15]).to_numpy()].copy()
    return adata[:, highly_variable(open_source(adata), N_GENES)].copy()


def _labels(rng: np.random.Generator, donor: NDArray[np.str_], over_donors: bool) -> Called:
    names = np.unique(donor)
    if over_donors:
        return np.isin(donor, rng.permutation(names)[: len(names) // 2])
    label = np.zeros(len(donor), dtype=bool)
    for name in names:
        rows = rng.permutation(np.flatnonzero(donor == name))
        label[rows[: len(rows) // 2]] = True
    return label


def _thin(adata: AnnData, label: Called, rng: np.random.Generator) -> Called:
    """Thin half of some genes in the cells of one label, and the other half in those of the other."""
    x_ng = adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)
    genes = rng.permutation(np.flatnonzero(x_ng.mean(0) > 0.2))[:N_THINNED]
    for number, gene in enumerate(genes):
        cells = label == bool(number % 2)
        x_ng[cells, gene] = rng.binomial(x_ng[cells, gene].astype(int), FACTOR)
    adata.X = sparse.csr_matrix(x_ng.astype(np.float32))
    return np.isin(np.arange(adata.n_vars), genes)


def _ours(adata: AnnData, job: Job) -> Mapping[str, Called]:
    model = gv.fit(
        adata, "nb", condition=["label"], control={"label": "a"}, context=["donor"], seed=job.seed, validation=0.0,
        setting=length_of_ours(job.question, adata.n_obs, job.quick), device="cpu", progress=False,
    )  # fmt: skip
    table = gv.effect(model, adata, field="label", by=(), interval=LEVEL, replicate="donor")
    table = table.set_index("gene").loc[list(adata.var_names)]
    return {
        "effect: 95 % interval without zero": ((table["lower"] > 0) | (table["upper"] < 0)).to_numpy(),
        "effect: probability of a change above 0.95": (table["probability"] > LEVEL).to_numpy(),
        "effect: p < 0.05 over donors": (table["p_value"] < 1 - LEVEL).to_numpy(),
    }


def _others(adata: AnnData, donor: NDArray[np.str_], label: Called) -> Mapping[str, Called]:
    log_ng = log_normalised(adata.X)
    p_g = stats.mannwhitneyu(log_ng[label], log_ng[~label]).pvalue
    profiles = pd.DataFrame(log_ng).groupby([donor, label]).mean()
    a, b = (profiles.xs(which, level=1) for which in (False, True))
    both = a.index.intersection(b.index)
    test = stats.ttest_rel(b.loc[both], a.loc[both]) if len(both) > 1 else stats.ttest_ind(b, a)
    return {
        "Wilcoxon over cells, p < 0.05": np.nan_to_num(p_g, nan=1.0) < 1 - LEVEL,
        "t-test of pseudobulk profiles of donors, p < 0.05": np.nan_to_num(test.pvalue, nan=1.0) < 1 - LEVEL,
    }
