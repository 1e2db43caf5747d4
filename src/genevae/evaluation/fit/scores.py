"""The scores of one model and of its baselines, on the same cells: how well it fits, and how well it denoises."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from genevae.evaluation.fit.measurements import MAX_BOUND, Measured
from genevae.evaluation.model import EvaluatedModel
from genevae.evaluation.predictions import TARGET, Entries, Expected
from genevae.metrics import agreement, bound, calibration, denoising
from genevae.metrics.bootstrap import interval
from genevae.metrics.metric import Metric
from genevae.metrics.principal import Principal
from genevae.metrics.response import GENE_MEANS_PEARSON, pearson
from genevae.report.records import Role, Score

__all__ = ["TOP", "can_be_hidden", "recovery_scores", "scores_of"]

Numbers = NDArray[np.float64]
Who = tuple[str, Role]

LEVEL = 0.9
TOP = "the most expressed tenth of the genes"
MIN_CELLS = 20
"""Of a category whose mean expression is compared."""
MAX_CATEGORIES = 12
N_RECOVERY_DRAWS = 5


def scores_of(run: Measured) -> list[Score]:
    """Return all scores of a model, and of its baselines."""
    return [
        *_bound_scores(run), *_expectation_scores(run), *_category_scores(run), *_calibration_scores(run),
    ]  # fmt: skip


def _bound_scores(run: Measured) -> list[Score]:
    if not run.has_noise_model:
        return []
    scores, seed = [], run.seed
    if run.expected is not None:
        scores.append(_mean(bound.RECONSTRUCTION, run.name, "run", run.expected.log_px_n, seed))
        scores.append(_mean(bound.RECONSTRUCTION, run.base_name, "baseline", run.base_log_prob, seed))
    if run.bounds is not None:
        for metric, bound_n in zip((bound.BOUND, bound.IMPORTANCE_WEIGHTED_BOUND), run.bounds, strict=True):
            scores.append(_mean(metric, run.name, "run", bound_n, seed))
            scores.append(_mean(metric, run.base_name, "baseline", run.base_log_prob[:MAX_BOUND], seed))
    return scores


def _mean(metric: Metric, who: str, role: Role, value_n: Numbers, seed: int, of: str = "") -> Score:
    """Score a mean over cells, with its bootstrap interval."""
    return Score.of_metric(metric, who, float(np.mean(value_n)), role, of, *interval(value_n, seed=seed))


def _expectation_scores(run: Measured) -> list[Score]:
    if run.expected is None:
        return []
    cells, trained = run.cells, run.trained
    _, mean, axes = (name + run.answers for name in run.baselines)
    line = Principal.fit(trained.true_ng, run.n_latent, run.seed).reconstruct(cells.true_ng)
    flat = np.tile(trained.true_ng.mean(0), (len(cells.size_n), 1))
    rows: list[tuple[str, Role, Numbers]] = [
        (run.name, "run", run.expected.predicted_ng),
        (axes, "baseline", line),
        (mean, "baseline", flat),
    ]
    scores = []
    for who, role, x_ng in rows:
        explained_g = agreement.r2_g(cells.true_ng, x_ng)
        for of, genes in (("", slice(None)), (TOP, run.top_g)):
            value = float(np.nanmedian(explained_g[genes]))
            scores.append(Score.of_metric(agreement.R2_PER_GENE, who, value, role, of))
    return scores + (_spread_scores(run, run.expected) if run.has_noise_model else [])


def _spread_scores(run: Measured, found: Expected) -> list[Score]:
    """Score the variance and the share of zeros that are expected of every gene."""
    x_ng, size_n, base = run.cells.x_ng, run.cells.size_n, run.base
    model: Who = (run.name, "run")
    baseline: Who = (run.base_name, "baseline")
    spreads: list[tuple[Who, Numbers, Numbers]] = [
        (model, found.mean_ng, found.variance_ng), (baseline, base.mean_ng(size_n), base.variance_ng(size_n)),
    ]  # fmt: skip
    zeros: list[tuple[Who, Numbers]] = []
    if run.is_count:
        zeros = [(model, found.p_zero_ng), (baseline, base.cdf_ng(np.zeros_like(x_ng), size_n))]
    return [
        *(Score.of_metric(agreement.VARIANCE_ERROR, who, agreement.variance_error(x_ng, mean_ng, variance_ng), role)
          for (who, role), mean_ng, variance_ng in spreads),
        *(Score.of_metric(agreement.ZERO_FRACTION_ERROR, who, agreement.zero_fraction_error(x_ng, zero_ng), role)
          for (who, role), zero_ng in zeros),
    ]  # fmt: skip


def _category_scores(run: Measured) -> list[Score]:
    """Compare the mean expression of every category, on a log scale where it is in counts."""
    if run.expected is None:
        return []
    in_counts = run.model.schema.output_kind.is_count

    def profile(x_ng: Numbers) -> Numbers:
        mean_g = np.asarray(x_ng.mean(0))
        return np.log1p(mean_g) if in_counts else mean_g

    all_cells = profile(run.trained.true_ng)
    scores = []
    for of, here in _categories(run.model, run.evaluation.obs):
        true = profile(run.cells.true_ng[here])
        rows: list[tuple[str, Role, Numbers]] = [
            (run.name, "run", profile(run.expected.predicted_ng[here])),
            (f"mean of all training cells{run.answers}", "baseline", all_cells),
        ]
        for who, role, predicted in rows:
            value = pearson(true, predicted)
            scores.append(Score.of_metric(GENE_MEANS_PEARSON, who, value, role, of))
    return scores


def _categories(model: EvaluatedModel, obs: pd.DataFrame) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the categories of each condition that have enough cells."""
    found = []
    for field in model.schema.categorical:
        if field.name in obs and len(field.categories) <= MAX_CATEGORIES:
            label_n = obs[field.name].astype(str).to_numpy()
            found += [(f"{field.name}: {category}", label_n == category) for category in field.categories]
    return [(name, here) for name, here in found if here.sum() >= MIN_CELLS]


def _calibration_scores(run: Measured) -> list[Score]:
    if run.entries is None or run.base_entries is None:
        return []
    top = run.top_g[run.genes]
    both: list[tuple[str, Role, Entries]] = [
        (run.name, "run", run.entries), (run.base_name, "baseline", run.base_entries)
    ]  # fmt: skip
    scores = []
    for who, role, each in both:
        cover_ng = calibration.covered(each.below_ng, each.at_ng, LEVEL)
        for of, genes in (("", slice(None)), (TOP, top)):
            scores.append(_mean(calibration.COVERAGE, who, role, cover_ng[:, genes].mean(1), run.seed, of))
        distance = calibration.distance_from_uniform(calibration.pit(each.below_ng, each.at_ng, run.seed))
        score_n = calibration.crps(each.x_ng, each.sample_sng).mean(1)
        scores += [
            Score.of_metric(calibration.PIT, who, distance, role),
            _mean(calibration.CRPS, who, role, score_n, run.seed),
            *_predictive_scores(run, who, role, each),
        ]
    return scores


def _predictive_scores(run: Measured, who: str, role: Role, each: Entries) -> list[Score]:
    """Score how often data that the model generates have more of something than the data."""
    statistics = {"share of zeros": lambda x: np.mean(x == 0)} if run.is_count else {}
    statistics |= {"variance": lambda x: np.mean(np.var(x, axis=0))}
    return [
        Score.of_metric(
            calibration.PREDICTIVE_P, who, calibration.predictive_p(each.x_ng, each.sample_sng, statistic), role, name
        )
        for name, statistic in statistics.items()
    ]


def can_be_hidden(run: Measured) -> bool:
    """Return whether a model can denoise counts, so that molecules can be hidden from it."""
    return run.model.denoise is not None and run.model.schema.output_kind.is_count


def recovery_scores(run: Measured) -> list[Score]:
    """Hide half of the molecules of the evaluation cells, and score what is expected of them given the other half."""
    if run.model.denoise is None or not can_be_hidden(run):
        return []
    counts = sparse.csr_matrix(run.evaluation[:, list(run.model.schema.genes)].X)
    first, second = denoising.thin(counts, 0.5, run.seed)
    kept = (_size_n(first) > 0) & (_size_n(second) > 0)
    first, second, obs = first[kept], second[kept], run.evaluation.obs[kept]
    half = AnnData(first, obs=obs)
    half.var_names = list(run.model.schema.genes)
    predicted_ng = np.asarray(run.model.denoise(half, N_RECOVERY_DRAWS, run.seed), dtype=np.float64)
    rows: list[tuple[str, Role, Numbers]] = [(run.name, "run", predicted_ng)]
    for name, mean_ng in zip(run.baselines, _recovered(run, first), strict=True):
        rows.append((name + run.answers, "baseline", mean_ng))
    typical = float(np.median(_size_n(second)))
    scores = []
    for who, role, mean_ng in rows:
        scaled = _scaled(mean_ng, _size_n(second))
        scores += [
            Score.of_metric(denoising.POISSON_DEVIANCE, who, denoising.poisson_deviance(second, scaled), role),
            Score.of_metric(denoising.NORMALISED_ERROR, who, denoising.normalised_error(second, scaled, typical), role),
        ]
    return scores


def _recovered(run: Measured, first: sparse.csr_matrix) -> tuple[Numbers, Numbers, Numbers]:
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
