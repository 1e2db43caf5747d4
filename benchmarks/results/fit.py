"""How probable held-out cells are, and whether they fall where the model says they would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.results import peers
from benchmarks.results.data import Sample, fitted, sampled
from benchmarks.results.jobs import Job, Rows, settings_of
from benchmarks.results.numbers import shown, told
from benchmarks.results.table import Verdict, met, table
from numpy.typing import NDArray

import genevae as gv
from genevae.distributions import ExpressionDistribution, NegativeBinomial
from genevae.evaluation.predictions import log_weights_sn
from genevae.metrics.bound import bound, importance_weighted_bound
from genevae.metrics.calibration import coverage
from genevae.tasks.inference import evaluation_mode, open_cells, seeded
from genevae.tasks.posterior_expectation import latents_snk

__all__ = ["NAME", "coverage_section", "jobs", "run", "section"]

NAME = "fit"
OURS = ("nb", "zinb", "poisson")
SCVI, NO_LATENT = "SCVI", "no latent"
N_DRAWS, AT_ONCE = 100, 10
"""K of the bound, and how many of the draws are held at once."""
MAX_COVERED, COVER_DRAWS = 400, 20
"""Held-out cells whose intervals are looked at, and draws of z for each."""


@dataclass(frozen=True)
class Set:
    """What a data set is stratified by, and what every model of it is told."""

    stratify: str
    fields: tuple[str, ...] = ()


SETS = {
    "kang_merged": Set("cell_type", ("condition", "cell_type")),
    "papalexi_thp1_sceptre": Set("perturbation", ("replicate",)),
    "pbmc_facs_fasttopics": Set("cell_type"),
    "pbmc3k_labelled": Set("cell_type"),
    "pbmc68k_reduced_counts": Set("cell_type"),
    "mixology_celllines": Set("cell_line", ("batch",)),
    "pbmc_3tech_symphony": Set("cell_type", ("batch",)),
}


def jobs(seed: int, quick: bool) -> list[Job]:
    """Return every method on every data set."""
    return [Job(NAME, data, method, seed, quick) for data in SETS for method in (SCVI, *OURS, NO_LATENT)]


def run(job: Job) -> Rows:
    """Train, and score the held-out cells."""
    chosen = SETS[job.data]
    sample = sampled(job.data, job.seed, stratify=chosen.stratify)
    if job.method == SCVI:
        models = zip((peers.LAST, peers.BEST), peers.scvi(sample, NAME, job.quick, chosen.fields), strict=True)
        return {f"SCVI, {name}": scores_of_scvi(model, sample) for name, model in models}
    if job.method == NO_LATENT:
        return {NO_LATENT: {"bound": float(without_latent(sample))}}
    model = fitted(sample, job.method, NAME, settings_of(job), job.quick, condition=chosen.fields)
    return {job.method: scores_of_ours(model, sample)}


def scores_of_ours(model: gv.Trained, sample: Sample) -> dict[str, float]:
    """Return both bounds of the held-out cells, in nats per cell, and the coverage of their counts."""
    log_w_sn = log_weights_sn(model, sample.test, N_DRAWS, sample.seed)
    with evaluation_mode(model) as module, seeded(module, sample.seed):
        some = open_cells(model, sample.test[:: stride(sample)], None, 64)
        ends = [ends_of(module.likelihood(latents_snk(module, c, COVER_DRAWS), c.condition), c.x.dense()) for c in some]
    return summary(log_w_sn, ends)


def scores_of_scvi(model: Any, sample: Sample) -> dict[str, float]:
    """Return the same numbers of SCVI."""
    torch.manual_seed(sample.seed)
    passes = [list(peers.log_weights_sn(model, sample.split.test, AT_ONCE)) for _ in range(N_DRAWS // AT_ONCE)]
    log_w = np.concatenate([np.concatenate(each, axis=1) for each in passes])
    some = sample.split.test[:: stride(sample)]
    ends = [ends_of(peers.as_ours(px), x) for _, _, px, x in peers.scvi_parts(model, some, COVER_DRAWS)]
    return summary(log_w, ends)


def summary(log_w_sn: NDArray[np.float64], ends: list[tuple[Any, Any]]) -> dict[str, float]:
    """Make the scores of weights, and of F(x⁻) and F(x)."""
    below, at = (np.concatenate(each) for each in zip(*ends, strict=True))
    return {
        "bound": float(importance_weighted_bound(log_w_sn).mean()),
        "plain bound": float(bound(log_w_sn).mean()),
        "coverage": coverage(below, at),
    }


def ends_of(p: ExpressionDistribution, x_ng: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return F(x⁻) and F(x) of every entry, averaged over the draws of z."""
    at_ng, below_ng = (p.cdf(each.expand(p.batch_shape)).mean(0).numpy() for each in (x_ng, x_ng - 1))
    return np.where(x_ng.numpy() > 0, below_ng, 0.0), at_ng


def stride(sample: Sample) -> int:
    """Return how many held-out cells there are for each whose intervals are looked at."""
    return max(1, len(sample.split.test) // MAX_COVERED)


def without_latent(sample: Sample) -> float:
    """Return log p of the held-out cells, each gene a negative binomial of one proportion and one θ: no latent at all.

    The θ of each gene is the best of 25 for the training cells.
    """
    train, test = (torch.from_numpy(sample.counts_ng[rows]).float() for rows in (sample.split.train, sample.split.test))
    share_g = (train.sum(0) + 1e-3) / (train.sum(0) + 1e-3).sum()

    def log_p_ng(x_ng: torch.Tensor, theta_g: torch.Tensor) -> torch.Tensor:
        return NegativeBinomial(x_ng.sum(1, keepdim=True) * share_g, theta_g).log_prob(x_ng)

    thetas = torch.logspace(-2, 4, 25)
    best = torch.stack([log_p_ng(train, theta.expand(len(share_g))).sum(0) for theta in thetas]).argmax(0)
    return float(log_p_ng(test, thetas[best]).sum(1).mean())


def gaps(found: pd.DataFrame, data: str) -> pd.DataFrame:
    """Return, by seed, how much better nb is than SCVI with its last and with its best weights, in percent."""
    ours = told(found, "nb", "bound", data)
    theirs = {name: told(found, f"SCVI, {name}", "bound", data) for name in (peers.LAST, peers.BEST)}
    return pd.DataFrame({name: 100 * (ours - each) / each.abs() for name, each in theirs.items()})


def section(found: pd.DataFrame) -> tuple[list[str], list[Verdict]]:
    """Write the table of bounds."""
    rows, columns = [], (*OURS, f"SCVI, {peers.LAST}", f"SCVI, {peers.BEST}", NO_LATENT)
    verdicts = []
    for data in [name for name in SETS if name in set(found["data"])]:
        gap = gaps(found, data)
        bounds = [shown(told(found, column, "bound", data), 1) for column in columns]
        ahead = bool((gap.mean() >= 0).all())
        verdicts.append(Verdict(data, ahead))
        rows.append([data, *bounds, *(shown(gap[name], 2, "+") + " %" for name in gap), met(ahead)])
    head = ["held-out cells of", *columns, "nb − SCVI, last", "nb − SCVI, best", "nb ≥ both"]
    return [INTRODUCTION, "", *table(head, rows)], verdicts


INTRODUCTION = (
    "Importance-weighted bound on log p(x), K = 100, nats per held-out cell, higher is better: the same estimator for"
    " all, log of the mean over draws of p(x | z) p(z) / q(z | x). 70 % of the cells train, 10 % validate, 20 % are "
    "held out; 2,000 highly variable genes at most, chosen on the training cells; the same split, epochs, rise of β "
    "(over the first half), optimiser, widths, latent and conditions. SCVI (`gene_likelihood='nb'`, conditions in "
    "encoder and decoder) is shown with its last weights, which are its default, and with those of its best "
    "validation epoch, which ours keep by default; differences are paired by seed. *no latent*: one proportion and "
    "one θ per gene."
)


def coverage_section(found: pd.DataFrame) -> tuple[list[str], list[Verdict]]:
    """Write the table of coverage."""
    columns = ("nb", "zinb", "poisson", f"SCVI, {peers.LAST}", f"SCVI, {peers.BEST}")
    rows, verdicts = [], []
    for data in [name for name in SETS if name in set(found["data"])]:
        each = [100 * told(found, column, "coverage", data) for column in columns]
        good = bool(86 <= each[0].mean() <= 94)
        verdicts.append(Verdict(data, good))
        rows.append([data, *(shown(values, 1) + " %" for values in each), met(good)])
    return [COVERAGE, "", *table(["counts of held-out cells of", *columns, "nb within 86–94 %"], rows)], verdicts


COVERAGE = (
    "Share of the counts of held-out cells within the central 90 % of what the model says of them, z drawn from the "
    "cell's own posterior. 90 % is right; intervals of whole counts would hold more where most counts are zero, so "
    "this is the share of the randomised probability integral transform (Czado et al. 2009), which is exact for "
    f"counts. {MAX_COVERED} held-out cells, all genes, the models of the table above."
)
