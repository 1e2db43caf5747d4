"""The scores of one run and of the baselines beside it, on the same cells: how well it fits."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.evaluation.fit.measurements import MAX_BOUND, Measured
from genevae.evaluation.predictions import Entries
from genevae.metrics.agreement import r2_g, variance_error, zero_fraction_error
from genevae.metrics.bootstrap import interval
from genevae.metrics.calibration import covered, crps, distance_from_uniform, pit, predictive_p
from genevae.metrics.principal import Principal
from genevae.metrics.response import pearson
from genevae.report.records import Role, Score
from genevae.runs.trained import Trained

__all__ = ["COVERAGE", "R2", "TOP", "scores_of"]

LEVEL = 0.9
BOUND = "importance-weighted bound, nats per cell"
COVERAGE = "coverage of 90 % intervals"
PIT = "PIT, distance from uniform"
R2 = "R² per gene, median"
TOP = "the most expressed tenth of the genes"
MIN_CELLS = 20
"""Of a category whose mean expression is compared."""
MAX_CATEGORIES = 12


class Averaged(TypedDict):
    """A mean over cells, and the ends of its interval."""

    value: float
    low: float
    high: float


def scores_of(run: Measured) -> list[Score]:
    """Return all scores of a run, and of the baselines beside it."""
    return [
        *_bound_scores(run), *_expectation_scores(run), *_category_scores(run), *_calibration_scores(run),
    ]  # fmt: skip


def _bound_scores(run: Measured) -> list[Score]:
    if not run.model.schema.knows_scatter:
        return []
    name, seed = "log-likelihood of the reconstruction, nats per cell", run.seed
    scores = [
        Score(metric=name, who=run.name, **_mean(run.expected.log_px_n, seed)),
        Score(metric=name, who=run.base_name, role="baseline", **_mean(run.base_log_prob, seed)),
    ]
    if run.bounds is not None:
        base = _mean(run.base_log_prob[:MAX_BOUND], seed)
        for name, bound_n in zip(("bound, nats per cell", BOUND), run.bounds, strict=True):
            scores.append(Score(metric=name, who=run.name, **_mean(bound_n, seed)))
            scores.append(Score(metric=name, who=run.base_name, role="baseline", **base))
    return scores


def _mean(value_n: NDArray[np.float64], seed: int) -> Averaged:
    low, high = interval(value_n, seed=seed)
    return {"value": float(np.mean(value_n)), "low": low, "high": high}


def _expectation_scores(run: Measured) -> list[Score]:
    told, trained = run.expected, run.trained
    _, mean, axes = (name + run.answers for name in run.baselines)
    line = Principal.fit(trained.true_ng, run.n_latent, run.seed).reconstruct(told.true_ng)
    flat = np.tile(trained.true_ng.mean(0), (len(told.size_n), 1))
    rows: list[tuple[str, Role, NDArray[np.float64]]] = [
        (run.name, "run", told.predicted_ng),
        (axes, "baseline", line),
        (mean, "baseline", flat),
    ]
    scores = []
    for who, role, x_ng in rows:
        explained_g = r2_g(told.true_ng, x_ng)
        for of, genes in (("", slice(None)), (TOP, run.top_g)):
            value = float(np.nanmedian(explained_g[genes]))
            scores.append(Score(metric=R2, of=of, who=who, role=role, value=value, ideal=1))
    if run.model.schema.knows_scatter:
        scores += _spread_scores(run)
    return scores


def _spread_scores(run: Measured) -> list[Score]:
    told, base = run.expected, run.base
    mean_ng, variance_ng = base.mean_ng(told.size_n), base.variance_ng(told.size_n)
    rows: list[tuple[str, Role, str, float]] = [
        ("error of variance, doublings", "run", run.name, variance_error(told.x_ng, told.mean_ng, told.variance_ng)),
        ("error of variance, doublings", "baseline", run.base_name, variance_error(told.x_ng, mean_ng, variance_ng)),
    ]
    if run.is_count:
        zero_ng = base.cdf_ng(np.zeros_like(mean_ng), told.size_n)
        name = "error of the share of zeros"
        rows += [
            (name, "run", run.name, zero_fraction_error(told.x_ng, told.p_zero_ng)),
            (name, "baseline", run.base_name, zero_fraction_error(told.x_ng, zero_ng)),
        ]
    return [
        Score(metric=metric, who=who, role=role, value=value, better="lower", ideal=0)
        for metric, role, who, value in rows
    ]


def _category_scores(run: Measured) -> list[Score]:
    """Compare the mean expression of every category, on a log scale where it is in counts."""
    in_counts = run.model.schema.answers_in.is_count

    def profile(x_ng: NDArray[np.float64]) -> NDArray[np.float64]:
        mean_g = np.asarray(x_ng.mean(0))
        return np.log1p(mean_g) if in_counts else mean_g

    all_cells = profile(run.trained.true_ng)
    baselines: tuple[tuple[str, Role, NDArray[np.float64] | None], ...] = (
        (run.name, "run", None),
        (f"mean of all training cells{run.answers}", "baseline", all_cells),
    )
    scores = []
    for of, here in _categories(run.model, run.judged.obs):
        true = profile(run.expected.true_ng[here])
        for who, role, flat in baselines:
            value = pearson(true, profile(run.expected.predicted_ng[here]) if flat is None else flat)
            scores.append(Score(metric="Pearson of gene means", of=of, who=who, role=role, value=value, ideal=1))
    return scores


def _categories(model: Trained, obs: pd.DataFrame) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the categories of each condition that have cells enough."""
    found = []
    for field in model.schema.categorical:
        if field.name in obs and len(field.categories) <= MAX_CATEGORIES:
            words = obs[field.name].astype(str).to_numpy()
            found += [(f"{field.name}: {word}", words == word) for word in field.categories]
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
            mean = _mean(cover_ng[:, genes].mean(1), run.seed)
            scores.append(Score(metric=COVERAGE, of=of, who=who, role=role, better="closer", ideal=LEVEL, **mean))
        distance = distance_from_uniform(pit(each.below_ng, each.at_ng, run.seed))
        score_n = crps(each.x_ng, each.sample_sng).mean(1)
        scores += [
            Score(metric=PIT, who=who, role=role, better="lower", ideal=0, value=distance),
            Score(metric="CRPS", who=who, role=role, better="lower", ideal=0, **_mean(score_n, run.seed)),
            *_predictive_scores(run, who, role, each),
        ]
    return scores


def _predictive_scores(run: Measured, who: str, role: Role, each: Entries) -> list[Score]:
    """Say how often data that the model makes have more of something than the data."""
    statistics = {"share of zeros": lambda x: np.mean(x == 0)} if run.is_count else {}
    statistics |= {"variance": lambda x: np.mean(np.var(x, axis=0))}
    return [
        Score(metric="predictive p-value", of=name, who=who, role=role, better="closer", ideal=0.5,
              value=predictive_p(each.x_ng, each.sample_sng, statistic))
        for name, statistic in statistics.items()
    ]  # fmt: skip
