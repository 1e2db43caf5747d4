"""The cells of questions about labels: within a data set, of another study, and of a type left out of training."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import anndata as ad
import numpy as np
from anndata import AnnData
from benchmarks.real import folder
from benchmarks.results.data import TEST, VALIDATION, Sample
from benchmarks.results.jobs import Job
from benchmarks.results.settings import MAX_GENES
from numpy.typing import NDArray

import genevae as gv
from genevae.data.split import held_out_split, stratified_split
from genevae.evaluation.adapters.trained import as_evaluated
from genevae.evaluation.model import EvaluatedModel
from genevae.io.formats import open_source
from genevae.preprocessing.hvg import highly_variable
from genevae.tasks.classify import classify

__all__ = ["DIRECTIONS", "FIELDS", "LABEL", "WITHIN", "of_another_study", "posterior_of", "within", "without_a_type"]

LABEL = "label"
WITHIN: dict[str, str] = {
    "pbmc_facs_fasttopics": "cell_type",
    "mixology_celllines": "cell_line",
    "kang_merged": "cell_type",
    "pbmc68k_reduced_counts": "cell_type",
}
"""Each data set, and the column of its labels."""
FIELDS: dict[str, tuple[str, ...]] = {"kang_merged": ("condition",)}
"""Fields besides the label that models are conditioned on."""
STUDIES = {
    "Kang controls": "kang_merged",
    "PBMC 3k": "pbmc3k_labelled",
    "three technologies": "pbmc_3tech_symphony",
    "sorted PBMC": "pbmc_facs_fasttopics",
}
DIRECTIONS = tuple(f"{one} → {other}" for one, other in permutations(STUDIES, 2))
SAME = {
    "Naive CD4 T": "CD4 T", "Memory CD4 T": "CD4 T", "T_CD4": "CD4 T", "T_CD8": "CD8 T", "Mono_CD14": "CD14+ Mono",
    "Mono_CD16": "FCGR3A+ Mono", "Platelet": "Mk", "MK": "Mk", "NK cell": "NK", "B cell": "B", "CD14+": "CD14+ Mono",
    "HSC": "CD34+",
}  # fmt: skip
"""One name for each type."""
COARSE = {"CD4 T": "T cell", "CD8 T": "T cell"}
"""Names where one of the studies has T cells only."""
LEAST_CELLS, LEAST_LEFT_OUT = 10, 30
"""Training cells of a label, and of a type that is left out, at least."""


def within(job: Job) -> Sample:
    """Hold out a fifth of the cells; of mixology one batch of five, of Kang two donors of eight."""
    adata = gv.read(folder() / f"{job.data}.h5ad")
    adata.obs_names_make_unique()
    adata.obs[LABEL] = adata.obs[WITHIN[job.data]].astype(str)
    if job.data == "kang_merged":
        adata.obs[LABEL] = adata.obs[LABEL].replace({"CD14+ Mono": "Mono", "FCGR3A+ Mono": "Mono"})
    return _sample(adata, _is_query(adata, job), job.seed)


def without_a_type(job: Job) -> Sample:
    """Leave one type out of training, another one for each seed."""
    sample = within(job)
    adata, label_n = sample.adata, sample.labels(LABEL)
    names, counts = np.unique(label_n[sample.split.train], return_counts=True)
    names = names[counts >= LEAST_LEFT_OUT]
    left_out = names[job.seed % len(names)]
    return _sample(adata, (adata.obs["part"] == "query").to_numpy() | (label_n == left_out), job.seed)


def of_another_study(job: Job) -> Sample:
    """Train on one study and predict another, by the genes that both have."""
    one, other = (_study(STUDIES[name]) for name in job.data.split(" → "))
    genes = [gene for gene in one.var_names if gene in set(other.var_names)]
    adata = ad.concat({"one": one[:, genes], "other": other[:, genes]}, index_unique=" ", label="study")
    if "sorted PBMC" in job.data:
        adata.obs[LABEL] = adata.obs[LABEL].replace(COARSE)
    return _sample(adata, (adata.obs["study"] == "other").to_numpy(), job.seed)


def posterior_of(model: gv.Trained) -> EvaluatedModel:
    """Return a model that classifies by its own posterior alone."""
    return replace(
        as_evaluated(model),
        classify=lambda cells, field, seed: classify(model, cells, field=field, seed=seed, method="posterior"),
    )


def _is_query(adata: AnnData, job: Job) -> NDArray[np.bool_]:
    if job.data == "mixology_celllines":
        batch = adata.obs["batch"].astype(str)
        return (batch == sorted(batch.unique())[job.seed % 5]).to_numpy()
    if job.data == "kang_merged":
        donor = adata.obs["donor"].astype(str)
        named = [name for name in sorted(donor.unique()) if name != "unknown"]
        return donor.isin([named[(2 * job.seed + k) % len(named)] for k in (0, 1)]).to_numpy()
    return np.isin(np.arange(adata.n_obs), stratified_split(adata.obs[LABEL], 0.0, TEST, job.seed).test)


def _study(name: str) -> AnnData:
    adata = gv.read(folder() / f"{name}.h5ad")
    if name == "kang_merged":
        adata = adata[(adata.obs["condition"] == "ctrl").to_numpy()].copy()
    if "gene_symbol" in adata.var:
        adata.var_names = adata.var["gene_symbol"].astype(str)
    adata.var_names_make_unique()
    adata.obs_names_make_unique()
    adata.obs[LABEL] = adata.obs["cell_type"].astype(str).replace(SAME)
    return adata


def _sample(adata: AnnData, is_query: NDArray[np.bool_], seed: int) -> Sample:
    """Leave rare labels out of training, split, and keep the genes that vary most over the training cells."""
    counts = adata.obs[LABEL][~is_query].value_counts()
    common = adata.obs[LABEL].isin(counts.index[counts >= LEAST_CELLS]).to_numpy()
    kept = common | is_query
    adata, is_query = adata[kept].copy(), is_query[kept]
    adata.obs["part"] = np.where(is_query, "query", "training")
    how = {"hold_out": {"part": "query"}}
    split = held_out_split(adata.obs, how["hold_out"], VALIDATION, seed)
    genes = highly_variable(open_source(adata), min(MAX_GENES, adata.n_vars), rows=split.train)
    return Sample(adata[:, genes].copy(), split, seed, {**how, "validation": VALIDATION})
