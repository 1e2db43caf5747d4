"""The cells of a job: drawn, split and cut to genes before any method sees them, so that all see the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from benchmarks.real import folder
from benchmarks.results.settings import MAX_CELLS, MAX_GENES, epochs_for
from numpy.typing import NDArray

import genevae as gv
from genevae.data.split import Split, held_out_split, stratified_split
from genevae.io.formats import open_source
from genevae.preprocessing.hvg import highly_variable

__all__ = ["Sample", "fitted", "logged", "opened", "sampled"]

VALIDATION, TEST = 0.1, 0.2


@dataclass(frozen=True)
class Sample:
    """Counts of the genes that are modelled, and the part of every cell; ``how`` is what makes `gv.fit` split alike."""

    adata: AnnData
    split: Split
    seed: int
    how: dict[str, Any]

    @property
    def train(self) -> AnnData:
        """The training cells, without those that validate."""
        return self.adata[self.split.train]

    @property
    def test(self) -> AnnData:
        """The cells that nothing was trained or chosen on."""
        return self.adata[self.split.test]

    @property
    def counts_ng(self) -> NDArray[np.float64]:
        """All counts, dense."""
        x: Any = self.adata.X
        return np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float64)

    def labels(self, field: str) -> NDArray[np.str_]:
        """Return a column as text."""
        return self.adata.obs[field].astype(str).to_numpy()


def opened(name: str) -> AnnData:
    """Read a data set, of which at most so many cells are drawn."""
    adata = gv.read(folder() / f"{name}.h5ad")
    if adata.n_obs > MAX_CELLS:
        adata = adata[np.sort(np.random.default_rng(0).choice(adata.n_obs, MAX_CELLS, replace=False))].copy()
    return adata


def sampled(
    name: str, seed: int, *, stratify: str | None = None, hold_out: dict[str, str] | None = None, test: float = TEST
) -> Sample:
    """Open, split, and keep the genes that vary most over the training cells."""
    adata = opened(name)
    if hold_out is not None:
        split, how = held_out_split(adata.obs, hold_out, VALIDATION, seed), {"hold_out": hold_out}
    else:
        split = stratified_split(adata.obs[stratify], VALIDATION, test, seed)
        how = {"stratify": stratify, "test": test}
    genes = highly_variable(open_source(adata), min(MAX_GENES, adata.n_vars), rows=split.train)
    return Sample(adata[:, genes].copy(), split, seed, {**how, "validation": VALIDATION})


def fitted(sample: Sample, recipe: str, question: str, setting: dict[str, Any], quick: bool, **told: Any) -> gv.Trained:
    """Train one of our recipes on the training cells of a sample, and see that it took the same."""
    epochs = epochs_for(question, len(sample.split.train), quick)
    settings = {"epochs": epochs, **setting}
    model = gv.fit(
        sample.adata,
        recipe=recipe,
        setting=settings,
        seed=sample.seed,
        device="cpu",
        progress=False,
        **sample.how,
        **told,
    )
    if not np.array_equal(np.flatnonzero(model.split == "training"), sample.split.train):
        raise AssertionError("genevae split the cells in another way than the peers are given them.")
    return model


def logged(counts_ng: NDArray[np.float64], target: float = 1e4) -> NDArray[np.float64]:
    """Return log(1 + counts scaled to a size)."""
    size_n1 = np.maximum(counts_ng.sum(1, keepdims=True), 1)
    return np.asarray(np.log1p(target * counts_ng / size_n1))
