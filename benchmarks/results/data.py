"""The cells of a job: sampled, split and restricted to genes before training, so that all methods use the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from benchmarks.real import folder
from benchmarks.results.settings import MAX_CELLS, MAX_GENES, length_of_ours
from numpy.typing import NDArray

import genevae as gv
from genevae.data.split import Split, held_out_split, stratified_split
from genevae.io.formats import open_source
from genevae.metrics.response import log_normalised
from genevae.metrics.sampling import subsample
from genevae.preprocessing.hvg import highly_variable

__all__ = ["Sample", "fitted", "held_out_projects", "sampled"]

VALIDATION, TEST = 0.1, 0.2


@dataclass(frozen=True)
class Sample:
    """Counts of the modelled genes, and the split; ``how`` are the options with which `gv.fit` splits the same way."""

    adata: AnnData
    split: Split
    seed: int
    how: dict[str, Any]

    def labels(self, field: str) -> NDArray[np.str_]:
        """Return a column as text."""
        return self.adata.obs[field].astype(str).to_numpy()


def sampled(
    name: str, seed: int, *, stratify: str | None = None, hold_out: dict[str, str] | None = None, test: float = TEST
) -> Sample:
    """Open a data set, split it, and keep the genes that vary most over the training cells."""
    adata = gv.read(folder() / f"{name}.h5ad")
    adata = adata[subsample(np.ones(adata.n_obs), MAX_CELLS, seed=0)].copy()
    if hold_out is not None:
        split, how = held_out_split(adata.obs, hold_out, VALIDATION, seed), {"hold_out": hold_out}
    else:
        split = stratified_split(adata.obs[stratify], VALIDATION, test, seed)
        how = {"stratify": stratify, "test": test}
    genes = highly_variable(open_source(adata), min(MAX_GENES, adata.n_vars), rows=split.train)
    return Sample(adata[:, genes].copy(), split, seed, {**how, "validation": VALIDATION})


def fitted(
    sample: Sample, recipe: str, question: str, setting: dict[str, Any], quick: bool, **options: Any
) -> gv.Trained:
    """Train one of our recipes on the training cells of a sample, and check that it used the same cells."""
    settings = {**length_of_ours(question, len(sample.split.train), quick), **setting}
    fixed = {"seed": sample.seed, "device": "cpu", "progress": False}
    model = gv.fit(sample.adata, recipe=recipe, setting=settings, **fixed, **sample.how, **options)
    if not np.array_equal(np.flatnonzero(model.split == "training"), sample.split.train):
        raise AssertionError("genevae split the cells differently from the other methods.")
    return model


def held_out_projects(name: str, fold: int) -> tuple[AnnData, AnnData]:
    """Hold out one project of each tissue with two or more; keep the genes that vary most in the other projects."""
    adata = gv.read(folder() / f"{name}.h5ad")
    projects = adata.obs.groupby("tissue", observed=True)["project"].agg(lambda each: sorted(each.unique()))
    shared = projects[projects.map(len) > 1]
    adata = adata[adata.obs["tissue"].isin(shared.index).to_numpy()]
    is_test = adata.obs["project"].isin([names[fold % len(names)] for names in shared]).to_numpy()
    genes = np.sort(np.argsort(-log_normalised(adata[~is_test].X, 1e6).var(0))[:MAX_GENES])
    return adata[~is_test, genes].copy(), adata[:, genes].copy()
