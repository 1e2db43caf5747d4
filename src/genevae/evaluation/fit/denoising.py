"""Molecular cross-validation of models: half of the molecules are hidden, and predicted from the other half."""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from genevae.evaluation.fit.measurements import Measured
from genevae.evaluation.predictions import TARGET
from genevae.metrics.denoising import NORMALISED_ERROR, POISSON_DEVIANCE, normalised_error, poisson_deviance, thin
from genevae.metrics.principal import Principal
from genevae.report.records import Role, Score

__all__ = ["can_be_hidden", "recovery_scores"]

N_DRAWS = 5

Numbers = NDArray[np.float64]


def can_be_hidden(run: Measured) -> bool:
    """Return whether a model can denoise counts, so that molecules can be hidden from it."""
    return run.model.denoise is not None and run.model.schema.output_kind.is_count


def recovery_scores(run: Measured) -> list[Score]:
    """Hide half of the molecules of the evaluation cells, and score what is expected of them given the other half."""
    if run.model.denoise is None:
        return []
    counts = sparse.csr_matrix(run.evaluation[:, list(run.model.schema.genes)].X)
    first, second = thin(counts, 0.5, run.seed)
    kept = (_size_n(first) > 0) & (_size_n(second) > 0)
    first, second, obs = first[kept], second[kept], run.evaluation.obs[kept]
    half = AnnData(first, obs=obs)
    half.var_names = list(run.model.schema.genes)
    predicted_ng = np.asarray(run.model.denoise(half, N_DRAWS, run.seed), dtype=np.float64)
    rows: list[tuple[str, Role, Numbers]] = [(run.name, "run", predicted_ng)]
    for name, mean_ng in zip(run.baselines, _baselines(run, first), strict=True):
        rows.append((name + run.answers, "baseline", mean_ng))
    typical = float(np.median(_size_n(second)))
    scores = []
    for who, role, mean_ng in rows:
        scaled = _scaled(mean_ng, _size_n(second))
        scores += [
            Score.of_metric(POISSON_DEVIANCE, who, poisson_deviance(second, scaled), role),
            Score.of_metric(NORMALISED_ERROR, who, normalised_error(second, scaled, typical), role),
        ]
    return scores


def _baselines(run: Measured, first: sparse.csr_matrix) -> tuple[Numbers, Numbers, Numbers]:
    """Return the counts that were seen, the mean of all cells, and principal components of square roots."""
    x_ng = first.toarray().astype(np.float64)
    share_g = run.trained.x_ng.sum(0) if run.is_count else run.trained.true_ng.mean(0)
    axes = Principal.fit(np.sqrt(run.trained.true_ng), run.n_latent, run.seed)
    roots = axes.reconstruct(np.sqrt(_scaled(x_ng, np.full(len(x_ng), TARGET))))
    return x_ng, np.tile(share_g, (len(x_ng), 1)), np.square(np.maximum(roots, 0))


def _size_n(counts: sparse.csr_matrix) -> Numbers:
    return np.asarray(counts.sum(1), dtype=np.float64).ravel()


def _scaled(x_ng: Numbers, size_n: Numbers) -> Numbers:
    """Scale cells to given sizes."""
    return np.asarray(x_ng * (size_n / np.maximum(x_ng.sum(1), 1e-12))[:, None])
