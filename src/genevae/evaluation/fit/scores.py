"""The scores of one model and of its baselines, on the same cells: how well it fits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.evaluation.fit.measurements import MAX_BOUND, Measured
from genevae.evaluation.model import EvaluatedModel
from genevae.evaluation.predictions import Entries, Expected
from genevae.metrics.agreement import (
    R2_PER_GENE,
    VARIANCE_ERROR,
    ZERO_FRACTION_ERROR,
    r2_g,
    variance_error,
    zero_fraction_error,
)
from genevae.metrics.bootstrap import interval
from genevae.metrics.bound import BOUND, IMPORTANCE_WEIGHTED_BOUND, RECONSTRUCTION
from genevae.metrics.calibration import (
    COVERAGE,
    CRPS,
    PIT,
    PREDICTIVE_P,
    covered,
    crps,
    distance_from_uniform,
    pit,
    predictive_p,
)
from genevae.metrics.metric import Metric
from genevae.metrics.principal import Principal
from genevae.metrics.response import GENE_MEANS_PEARSON, pearson
from genevae.report.records import Role, Score

__all__ = ["TOP", "scores_of"]

LEVEL = 0.9
TOP = "the most expressed tenth of the genes"
MIN_CELLS = 20
"""Of a category whose mean expression is compared."""
MAX_CATEGORIES = 12


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
        scores.append(_mean(RECONSTRUCTION, run.name, "run", run.expected.log_px_n, seed))
        scores.append(_mean(RECONSTRUCTION, run.base_name, "baseline", run.base_log_prob, seed))
    if run.bounds is not None:
        for metric, bound_n in zip((BOUND, IMPORTANCE_WEIGHTED_BOUND), run.bounds, strict=True):
            scores.append(_mean(metric, run.name, "run", bound_n, seed))
            scores.append(_mean(metric, run.base_name, "baseline", run.base_log_prob[:MAX_BOUND], seed))
    return scores


def _mean(metric: Metric, who: str, role: Role, value_n: NDArray[np.float64], seed: int, of: str = "") -> Score:
    """Score a mean over cells, with its bootstrap interval."""
    return Score.of_metric(metric, who, float(np.mean(value_n)), role, of, *interval(value_n, seed=seed))


def _expectation_scores(run: Measured) -> list[Score]:
    if run.expected is None:
        return []
    cells, trained = run.cells, run.trained
    _, mean, axes = (name + run.answers for name in run.baselines)
    line = Principal.fit(trained.true_ng, run.n_latent, run.seed).reconstruct(cells.true_ng)
    flat = np.tile(trained.true_ng.mean(0), (len(cells.size_n), 1))
    rows: list[tuple[str, Role, NDArray[np.float64]]] = [
        (run.name, "run", run.expected.predicted_ng),
        (axes, "baseline", line),
        (mean, "baseline", flat),
    ]
    scores = []
    for who, role, x_ng in rows:
        explained_g = r2_g(cells.true_ng, x_ng)
        for of, genes in (("", slice(None)), (TOP, run.top_g)):
            value = float(np.nanmedian(explained_g[genes]))
            scores.append(Score.of_metric(R2_PER_GENE, who, value, role, of))
    return scores + (_spread_scores(run, run.expected) if run.has_noise_model else [])


def _spread_scores(run: Measured, found: Expected) -> list[Score]:
    cells, base = run.cells, run.base
    mean_ng, variance_ng = base.mean_ng(cells.size_n), base.variance_ng(cells.size_n)
    rows: list[tuple[Metric, Role, str, float]] = [
        (VARIANCE_ERROR, "run", run.name, variance_error(cells.x_ng, found.mean_ng, found.variance_ng)),
        (VARIANCE_ERROR, "baseline", run.base_name, variance_error(cells.x_ng, mean_ng, variance_ng)),
    ]
    if run.is_count:
        zero_ng = base.cdf_ng(np.zeros_like(mean_ng), cells.size_n)
        rows += [
            (ZERO_FRACTION_ERROR, "run", run.name, zero_fraction_error(cells.x_ng, found.p_zero_ng)),
            (ZERO_FRACTION_ERROR, "baseline", run.base_name, zero_fraction_error(cells.x_ng, zero_ng)),
        ]
    return [Score.of_metric(metric, who, value, role) for metric, role, who, value in rows]


def _category_scores(run: Measured) -> list[Score]:
    """Compare the mean expression of every category, on a log scale where it is in counts."""
    if run.expected is None:
        return []
    in_counts = run.model.schema.output_kind.is_count

    def profile(x_ng: NDArray[np.float64]) -> NDArray[np.float64]:
        mean_g = np.asarray(x_ng.mean(0))
        return np.log1p(mean_g) if in_counts else mean_g

    all_cells = profile(run.trained.true_ng)
    scores = []
    for of, here in _categories(run.model, run.evaluation.obs):
        true = profile(run.cells.true_ng[here])
        rows: list[tuple[str, Role, NDArray[np.float64]]] = [
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
        cover_ng = covered(each.below_ng, each.at_ng, LEVEL)
        for of, genes in (("", slice(None)), (TOP, top)):
            scores.append(_mean(COVERAGE, who, role, cover_ng[:, genes].mean(1), run.seed, of))
        distance = distance_from_uniform(pit(each.below_ng, each.at_ng, run.seed))
        score_n = crps(each.x_ng, each.sample_sng).mean(1)
        scores += [
            Score.of_metric(PIT, who, distance, role),
            _mean(CRPS, who, role, score_n, run.seed),
            *_predictive_scores(run, who, role, each),
        ]
    return scores


def _predictive_scores(run: Measured, who: str, role: Role, each: Entries) -> list[Score]:
    """Score how often data that the model generates have more of something than the data."""
    statistics = {"share of zeros": lambda x: np.mean(x == 0)} if run.is_count else {}
    statistics |= {"variance": lambda x: np.mean(np.var(x, axis=0))}
    return [
        Score.of_metric(PREDICTIVE_P, who, predictive_p(each.x_ng, each.sample_sng, statistic), role, name)
        for name, statistic in statistics.items()
    ]
