"""Which tissue a bulk sample is of, when its study was never seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from benchmarks.real import folder
from benchmarks.results.data import logged
from benchmarks.results.jobs import Job, Rows, recipe_of
from benchmarks.results.numbers import shown, told
from benchmarks.results.settings import MAX_GENES, TRIED, epochs_for
from benchmarks.results.table import Verdict, table
from benchmarks.results.tried import tried
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

import genevae as gv
from genevae.metrics.labels import accuracy, macro_f1
from genevae.metrics.principal import Principal

__all__ = ["NAME", "jobs", "run", "section"]

NAME = "bulk"
DATA = "bulk_gtex_tcga_rnaseqdb"
FOLDS = ("first projects", "second projects")
BASELINES = ("PCA", "expression", "commonest tissue")
METHODS = ("bulk", *BASELINES)
N_LATENT, N_NEIGHBOURS = 32, 15
PER = 1e6


def jobs(seed: int, quick: bool) -> list[Job]:
    """Return every method on both folds."""
    return [Job(NAME, fold, method, seed, quick) for fold in FOLDS for method in (*METHODS, *TRIED[NAME])]


def run(job: Job) -> Rows:
    """Tell the tissue of samples of held-out projects by the nearest samples of others."""
    train, test = split(gv.read(folder() / f"{DATA}.h5ad"), FOLDS.index(job.data))
    seen, asked = (each.obs["tissue"].astype(str).to_numpy() for each in (train, test))
    if job.method == "commonest tissue":
        names, counts = np.unique(seen, return_counts=True)
        told_n = np.full(len(asked), names[counts.argmax()])
    else:
        z_train, z_test = latents(job, train, test)
        told_n = KNeighborsClassifier(N_NEIGHBOURS).fit(z_train, seen).predict(z_test)
    return {job.method: {"accuracy": accuracy(asked, told_n), "macro-F1": macro_f1(asked, told_n)}}


def split(adata: AnnData, fold: int) -> tuple[AnnData, AnnData]:
    """Hold out one project of each tissue that two have, and keep the genes that vary most in the others."""
    projects = adata.obs.groupby("tissue", observed=True)["project"].agg(lambda each: sorted(each.unique()))
    shared = projects[projects.map(len) > 1]
    adata = adata[adata.obs["tissue"].isin(shared.index).to_numpy()]
    is_test = adata.obs["project"].isin([names[fold % len(names)] for names in shared]).to_numpy()
    train = adata[~is_test]
    genes = np.sort(np.argsort(-logged(np.asarray(train.X), PER).var(0))[:MAX_GENES])
    return train[:, genes].copy(), adata[is_test][:, genes].copy()


def latents(job: Job, train: AnnData, test: AnnData) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return where training and held-out samples lie."""
    if job.method not in BASELINES:
        recipe, setting = recipe_of(job)
        setting = {"epochs": epochs_for(NAME, round(0.9 * train.n_obs), job.quick), **setting}
        model = gv.fit(train, recipe=recipe, setting=setting, seed=job.seed, device="cpu", progress=False)
        z_train, z_test = (gv.embed(model, each).obsm["X_genevae"] for each in (train, test))
        return z_train, z_test
    x, y = (logged(np.asarray(each.X), PER) for each in (train, test))
    mean_g, scale_g = x.mean(0), np.maximum(x.std(0), 1e-9)
    x, y = (x - mean_g) / scale_g, (y - mean_g) / scale_g
    if job.method == "expression":
        return x, y
    space = Principal.fit(x, N_LATENT, job.seed)
    return space.embed(x), space.embed(y)


def section(found: pd.DataFrame) -> tuple[list[str], list[Verdict]]:
    """Write the table."""
    folds, verdicts, rows = [fold for fold in FOLDS if fold in set(found["data"])], [], []
    for name in METHODS:
        words = [shown(told(found, name, s, f)) for f in folds for s in ("accuracy", "macro-F1")]
        for number, fold in enumerate(folds):
            if name == "bulk":
                ahead = told(found, name, "accuracy", fold).mean() >= told(found, "PCA", "accuracy", fold).mean()
                verdicts.append(Verdict(fold, bool(ahead)))
                words[2 * number] += "" if ahead else ", **behind PCA**"
        rows.append([name, *words])
    head = ["latent", *(f"{score}, {fold}" for fold in folds for score in ("accuracy", "macro-F1"))]
    columns = {f"accuracy, {fold}": ("accuracy", fold) for fold in folds}
    return [INTRODUCTION, "", *table(head, rows), *tried(found, NAME, "bulk", columns)], verdicts


INTRODUCTION = (
    "GTEx and TCGA (`bulk_gtex_tcga_rnaseqdb`), the tissues that two projects or more have; one project of each is "
    "held out, so that no study is on both sides, the first by name or the second. The 2,000 genes that vary most and"
    f" all scaling are from the other projects. Tissue by the {N_NEIGHBOURS} nearest samples: in the latent of `bulk` "
    f"and on as many principal components ({N_LATENT}), both of standardised log expression, and on that expression "
    "itself. The folds are fixed: only `bulk` depends on the seed."
)
