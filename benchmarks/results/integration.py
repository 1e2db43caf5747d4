"""Whether a latent keeps what cells are, and loses which batch they came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from benchmarks.results import peers
from benchmarks.results.data import Sample, fitted, logged, sampled
from benchmarks.results.jobs import Job, Rows, settings_of
from benchmarks.results.numbers import shown, told
from benchmarks.results.table import Verdict, table
from numpy.typing import NDArray

import genevae as gv
from genevae.metrics.integration import integration_scores
from genevae.metrics.principal import Principal

__all__ = ["NAME", "jobs", "run", "section"]

NAME = "integration"
DATA = "pbmc_3tech_symphony"
LABEL, FIELD = "cell_type", "batch"
OURS = ("nb", "adversarial")
METHODS = ("SCVI", *OURS, "SCANVI", "Harmony", "PCA")
TOLD_TYPES = "SCANVI"
N_COMPONENTS = 30
COLUMNS = {
    "Total": "total", "Bio conservation": "biology", "Batch correction": "batches", "KMeans ARI": "KMeans ARI",
    "iLISI": "iLISI", "by scib-metrics": "total by scib-metrics, one seed",
}  # fmt: skip


def jobs(seed: int, quick: bool) -> list[Job]:
    """Return every method."""
    return [Job(NAME, DATA, method, seed, quick) for method in METHODS]


def run(job: Job) -> Rows:
    """Train on all cells, without their types but for SCANVI, and score the latent."""
    sample = sampled(DATA, job.seed, stratify=LABEL, test=0.0)
    x_ng = logged(sample.counts_ng)
    plain_nk = Principal.fit(x_ng, N_COMPONENTS, job.seed).embed(x_ng)
    found = latents_of(job, sample, plain_nk)
    return {name: scores(z_nk, plain_nk, sample, job.seed) for name, z_nk in found.items()}


def latents_of(job: Job, sample: Sample, plain_nk: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return the latent that a method makes; of SCVI, with its last and with its best weights."""
    if job.method == "PCA":
        return {"PCA": plain_nk}
    if job.method == "Harmony":
        return {"Harmony": harmony(plain_nk, sample, job.seed)}
    if job.method == "SCVI":
        models = peers.scvi(sample, NAME, job.quick, [FIELD], encode=False)
        return {
            f"SCVI, {name}": model.get_latent_representation()
            for name, model in zip((peers.LAST, peers.BEST), models, strict=True)
        }
    if job.method == "SCANVI":
        model = peers.scanvi(sample, NAME, job.quick, LABEL, [FIELD], hide_test=False)
        return {"SCANVI": model.get_latent_representation()}
    ours = fitted(sample, job.method, NAME, settings_of(job), job.quick, batch=FIELD)
    return {job.method: gv.embed(ours, sample.adata).obsm["X_genevae"]}


def harmony(plain_nk: NDArray[np.float64], sample: Sample, seed: int) -> NDArray[np.float64]:
    """Correct principal components by Harmony."""
    import harmonypy

    done = harmonypy.run_harmony(plain_nk, sample.adata.obs, FIELD, verbose=False, random_state=seed, ncores=1)
    return np.asarray(done.Z_corr, dtype=np.float64)


def scores(z_nk: NDArray[Any], plain_nk: NDArray[Any], sample: Sample, seed: int) -> dict[str, float]:
    """Score by our own functions; and by scib-metrics, which is slow, for the first seed."""
    ours = integration_scores(z_nk, sample.labels(LABEL), sample.labels(FIELD), plain_nk, seed)
    return {**ours, **({} if seed else {"by scib-metrics": total_by_scib(z_nk, plain_nk, sample)})}


def total_by_scib(z_nk: NDArray[Any], plain_nk: NDArray[Any], sample: Sample) -> float:
    """Return the total of scib-metrics."""
    from scib_metrics.benchmark import Benchmarker

    adata = AnnData(np.zeros((len(z_nk), 1), np.float32), obs=sample.adata.obs[[LABEL, FIELD]].astype(str))
    adata.obsm.update({"z": np.asarray(z_nk, np.float32), "plain": np.asarray(plain_nk, np.float32)})
    bench = Benchmarker(adata, FIELD, LABEL, ["z"], pre_integrated_embedding_obsm_key="plain", progress_bar=False)
    bench.benchmark()
    return float(bench.get_results(min_max_scale=False).loc["z"]["Total"])


def section(found: pd.DataFrame) -> tuple[list[str], list[Verdict]]:
    """Write the table of scores."""
    names = [*OURS, f"SCVI, {peers.LAST}", f"SCVI, {peers.BEST}", "SCANVI", "Harmony", "PCA"]
    means = {name: told(found, name, "Total").mean() for name in names}
    ours = max((means[name] for name in OURS), default=float("nan"))
    theirs = max(mean for name, mean in means.items() if name.startswith("SCVI"))
    rows = []
    for name in names:
        words = [shown(told(found, name, column)) for column in COLUMNS]
        behind = name in OURS and means[name] < theirs
        rows.append([f"{name} (told the types)" if name == TOLD_TYPES else name, *words])
        rows[-1][1] = f"**{rows[-1][1]}**, behind SCVI" if behind else rows[-1][1]
    return [INTRODUCTION, "", *table(["latent", *COLUMNS.values()], rows)], [Verdict(DATA, bool(ours >= theirs))]


INTRODUCTION = (
    "scIB scores of `pbmc_3tech_symphony` (1,200 cells, three 10x chemistries as batches, nine cell types): total = "
    "0.6 · biology + 0.4 · batches, not rescaled between methods, by `genevae.metrics.integration`, and for the "
    "first seed by scib-metrics too. All methods see all cells (one in ten validates). `nb` and `adversarial` are "
    f"given `--batch batch`; SCVI and SCANVI their defaults (negative binomial); Harmony corrects {N_COMPONENTS} "
    "principal components, which are PCA's row. SCANVI alone is told the cell types that it is judged by. Target: the"
    " better of ours against the better of SCVI's two."
)
