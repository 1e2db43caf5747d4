"""Molecular cross-validation of runs: half of the molecules are hidden, and asked for."""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from genevae.evaluation.fit.measurements import Measured
from genevae.evaluation.predictions import TARGET
from genevae.metrics.denoising import normalised_error, poisson_deviance, thin
from genevae.metrics.principal import Principal
from genevae.report.records import Role, Score
from genevae.tasks.denoise import denoise

__all__ = ["METRIC", "can_be_hidden", "recovery_scores"]

METRIC = "hidden molecules, Poisson deviance"
LOGARITHMS = "hidden molecules, squared error of logarithms"
N_DRAWS = 5

Numbers = NDArray[np.float64]


def can_be_hidden(run: Measured) -> bool:
    """Say whether a run takes counts and answers in counts, so that molecules can be hidden from it and asked for."""
    return run.model.schema.kind.is_count and run.model.schema.answers_in.is_count


def recovery_scores(run: Measured) -> list[Score]:
    """Hide half of the molecules of the judged cells, and score what is expected of them given the other half."""
    counts = sparse.csr_matrix(run.judged[:, list(run.model.schema.genes)].X)
    first, second = thin(counts, 0.5, run.seed)
    kept = (_size_n(first) > 0) & (_size_n(second) > 0)
    first, second, obs = first[kept], second[kept], run.judged.obs[kept]
    half = AnnData(first, obs=obs)
    half.var_names = list(run.model.schema.genes)
    told = denoise(run.model, half, n_draws=N_DRAWS, seed=run.seed).X
    rows: list[tuple[str, Role, Numbers]] = [(run.name, "run", np.asarray(told, dtype=np.float64))]
    for rival, mean_ng in zip(run.baselines, _baselines(run, first), strict=True):
        rows.append((rival + run.answers, "baseline", mean_ng))
    typical = float(np.median(_size_n(second)))
    scores = []
    for who, role, mean_ng in rows:
        scaled = _scaled(mean_ng, _size_n(second))
        errors = (METRIC, poisson_deviance(second, scaled)), (LOGARITHMS, normalised_error(second, scaled, typical))
        scores += [
            Score(metric=metric, who=who, role=role, value=value, better="lower", ideal=0) for metric, value in errors
        ]
    return scores


def _baselines(run: Measured, first: sparse.csr_matrix) -> tuple[Numbers, Numbers, Numbers]:
    """Expect what was seen; what cells have on average; or what a few axes tell of square roots, which suit counts."""
    x_ng = first.toarray().astype(np.float64)
    share_g = run.trained.x_ng.sum(0) if run.is_count else run.trained.true_ng.mean(0)
    axes = Principal.fit(np.sqrt(run.trained.true_ng), run.n_latent, run.seed)
    roots = axes.reconstruct(np.sqrt(_scaled(x_ng, np.full(len(x_ng), TARGET))))
    return x_ng, np.tile(share_g, (len(x_ng), 1)), np.square(np.maximum(roots, 0))


def _size_n(counts: sparse.csr_matrix) -> Numbers:
    return np.asarray(counts.sum(1), dtype=np.float64).ravel()


def _scaled(x_ng: Numbers, size_n: Numbers) -> Numbers:
    """Scale cells to some sizes."""
    return np.asarray(x_ng * (size_n / np.maximum(x_ng.sum(1), 1e-12))[:, None])
