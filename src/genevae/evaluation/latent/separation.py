"""Which fields of the cells separate in a latent, and which conditions can still be read from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.evaluation.latent.embeddings import Embeddings
from genevae.metrics.bootstrap import interval, paired
from genevae.metrics.latent import (
    CALINSKI_HARABASZ,
    NEIGHBOUR_ACCURACY,
    SILHOUETTE,
    calinski_harabasz,
    categories_of,
    right_n,
    scored_n,
    silhouette_n,
)
from genevae.metrics.leakage import LEAKAGE, NUMBER_LEAKAGE, chance, readable_n, readable_number
from genevae.metrics.metric import Metric
from genevae.metrics.sampling import subsample
from genevae.report.records import Score, Verdict

__all__ = ["leakage", "separation"]

COMMONEST = "commonest category"
N_READ = 2000
"""Cells on which classifiers are trained to read what leaks."""
NUISANCE = (
    "batch", "donor", "patient", "individual", "subject", "sample", "lane", "replicate", "plate", "experiment", "run",
    "study", "library", "site", "pool",
)  # fmt: skip
"""Words in the names of fields that say where a cell is from."""
FEWEST = 10
"""Cells of a category, below which no classifier can learn it."""


def separation(embeddings: Embeddings) -> tuple[list[Score], list[Verdict]]:
    """Score how well fields that a model was not given separate in it, beside principal components."""
    scores: list[Score] = []
    gaps: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in embeddings.models}
    for field, blind in _fields_not_given(embeddings).items():
        labels = categories_of(embeddings.obs[field])
        kept = None if labels is None else scored_n(labels)
        if labels is None or kept is None or len(set(labels[kept])) < 2:
            continue
        label_n = labels[kept].astype(str)
        spaces = {who: z[kept] for who, z in embeddings.spaces.items()}
        right = {who: right_n(z, label_n, embeddings.context.seed) for who, z in spaces.items()}
        scores += _of_field(embeddings, field, label_n, spaces, right)
        for name in blind:
            found = paired(right[name], right[embeddings.baseline(name)], embeddings.context.seed)
            gaps[name][field] = (found.low, found.high)
    verdicts = []
    for name, each in gaps.items():
        nuisance = {field: gap for field, gap in each.items() if _is_nuisance(field)}
        others = {field: gap for field, gap in each.items() if field not in nuisance}
        verdicts += [_verdict(name, embeddings.baseline(name), others)] if others else []
        verdicts += [_of_nuisance(name, embeddings.baseline(name), field, *gap) for field, gap in nuisance.items()]
    return scores, verdicts


def _is_nuisance(field: str) -> bool:
    """Return whether a field is named as one that says where a cell is from, not what it is."""
    return any(word in NUISANCE for word in re.split(r"[^a-z]+", field.lower()))


def _of_nuisance(name: str, baseline: str, field: str, low: float, high: float) -> Verdict:
    """Say whether a latent holds more of a nuisance than principal components: less is better."""
    how = "less" if high < 0 else "more" if low > 0 else "as much"
    tone: Any = "good" if high < 0 else "bad" if low > 0 else "plain"
    of = "as" if how == "as much" else "than"
    return Verdict(
        f"The latent of {name} holds {how} of {field} {of} {baseline}, by a cell's nearest neighbours.", tone, name
    )


def _fields_not_given(embeddings: Embeddings) -> dict[str, list[str]]:
    """Return the fields that some model was not given, each with those models."""
    blind = {
        str(field): [name for name, model in embeddings.models.items() if field not in model.schema.fields]
        for field in embeddings.context.fields
    }
    return {field: names for field, names in blind.items() if names}


def _of_field(
    embeddings: Embeddings, field: str, label_n: NDArray[Any], spaces: dict[str, Any], right: dict[str, NDArray[Any]]
) -> Iterator[Score]:
    for who, z in spaces.items():
        role, width_n, correct_n = embeddings.role(who), silhouette_n(z, label_n), right[who]
        ends = [interval(value_n, seed=embeddings.context.seed) for value_n in (width_n, correct_n)]
        yield Score.of_metric(SILHOUETTE, who, float(width_n.mean()), role, field, *ends[0])
        yield Score.of_metric(CALINSKI_HARABASZ, who, calinski_harabasz(z, label_n), role, field)
        yield Score.of_metric(NEIGHBOUR_ACCURACY, who, float(correct_n.mean()), role, field, *ends[1])
    yield Score.of_metric(SILHOUETTE, "labels at random", 0.0, "baseline", field)
    yield Score.of_metric(CALINSKI_HARABASZ, "labels at random", 1.0, "baseline", field)
    yield Score.of_metric(NEIGHBOUR_ACCURACY, COMMONEST, chance(label_n), "baseline", field)


def _verdict(name: str, baseline: str, gaps: dict[str, tuple[float, float]]) -> Verdict:
    """Compare nearest neighbours in the latent with those among principal components, field by field."""
    better = [field for field, (low, _) in gaps.items() if low > 0]
    worse = [field for field, (_, high) in gaps.items() if high < 0]
    n_alike = len(gaps) - len(better) - len(worse)
    parts = [
        f"predicts {', '.join(better)} better than {baseline}" if better else "",
        f"is as good as {baseline} on {n_alike} field{'s' * (n_alike > 1)}" if n_alike else "",
        f"predicts {', '.join(worse)} worse than {baseline}" if worse else "",
    ]
    tone: Any = "good" if better and not worse else "bad" if worse and not better else "mixed" if worse else "plain"
    text = f"By a cell's nearest neighbours, {name} {'; '.join(filter(None, parts))}."
    counts = [
        f"{len(some)} {how}" for some, how in ((better, "better"), (worse, "worse"), (range(n_alike), "alike")) if some
    ]
    return Verdict(text, tone, name, f"{', '.join(counts)} (fields, against {baseline})")


def leakage(embeddings: Embeddings) -> tuple[list[Score], list[Verdict]]:
    """Score how much of the conditions that a model was given can still be read from its latent."""
    given = [
        f for f in dict.fromkeys(f for m in embeddings.models.values() for f in m.schema.fields) if f in embeddings.obs
    ]
    scores: list[Score] = []
    verdicts: list[Verdict] = []
    for field in given:
        found = _readable(embeddings, field)
        if found is None:
            continue
        metric, nothing, values = found
        scores += [
            Score.of_metric(metric, who, value, embeddings.role(who), field, low, high, ideal=nothing)
            for who, (value, low, high) in values.items()
        ]
        baseline = COMMONEST if metric is LEAKAGE else "mean"
        scores.append(Score.of_metric(metric, baseline, nothing, "baseline", field, ideal=nothing))
        verdicts += [
            _leaks(embeddings, field, name, found)
            for name, model in embeddings.models.items()
            if field in model.schema.fields
        ]
    return scores, verdicts


Values = dict[str, tuple[float, float | None, float | None]]


def _readable(embeddings: Embeddings, field: str) -> tuple[Metric, float, Values] | None:
    """Return what is measured, what it is where nothing leaks, and of each space the number and its interval."""
    column, seed = embeddings.obs[field], embeddings.context.seed
    labels = categories_of(column)
    if labels is None and not pd.api.types.is_numeric_dtype(column):
        return None
    kept = _enough(column) if labels is None else _enough(pd.Series(labels), FEWEST)
    kept = kept[subsample(np.ones(len(kept), dtype=bool), N_READ, seed)]
    if len(kept) < 2 * FEWEST or (labels is not None and len(set(labels[kept])) < 2):
        return None
    if labels is None:
        value_n = column.to_numpy(dtype=np.float64)[kept]
        numbers = {who: readable_number(z[kept], value_n, seed) for who, z in embeddings.spaces.items()}
        return NUMBER_LEAKAGE, 0.0, {who: (number, None, None) for who, number in numbers.items()}
    label_n = labels[kept].astype(str)
    right = {who: readable_n(z[kept], label_n, seed=seed) for who, z in embeddings.spaces.items()}
    return LEAKAGE, chance(label_n), {who: (float(r.mean()), *interval(r, seed=seed)) for who, r in right.items()}


def _enough(column: pd.Series[Any], fewest: int = 0) -> NDArray[np.int64]:
    """Return the cells with a value, of a category that is not too rare."""
    known = column.notna().to_numpy()
    if fewest:
        known &= column.map(column.value_counts()).fillna(0).to_numpy() >= fewest
    return np.flatnonzero(known)


def _leaks(embeddings: Embeddings, field: str, name: str, found: tuple[Metric, float, Values]) -> Verdict:
    """Say how much of what principal components hold is left in the latent."""
    if field in embeddings.models[name].in_latent:
        return Verdict(f"{name} has a part of its latent for {field}, by design.", who=name)
    metric, nothing, values = found
    baseline = embeddings.baseline(name)
    value, plain = values[name][0], values[baseline][0]
    unit = "of cells" if metric is LEAKAGE else "of its variance"
    numbers = f"from {value:.0%} {unit} ({baseline} {plain:.0%}, chance {nothing:.0%})"
    if plain - nothing < 0.02:
        return Verdict(f"{field} can hardly be read from expression; in {name} it is read {numbers}.", "plain", name)
    left = (value - nothing) / (plain - nothing)
    if left <= 0.25:
        text = f"{name} was given {field} and has removed it: its latent predicts it right {numbers}."
        return Verdict(text, "good", name)
    how = "still holds much of" if left < 0.9 else "holds as much as expression does of"
    tone: Any = "mixed" if left < 0.9 else "bad"
    text = f"The latent of {name} {how} {field}, which it was given: that is read right {numbers}."
    return Verdict(text, tone, name)
