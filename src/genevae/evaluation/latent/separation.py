"""Which fields of the cells a latent tells apart, and which of its conditions it still tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.evaluation.cell_selection import sample
from genevae.evaluation.latent.embeddings import Embeddings
from genevae.metrics.bootstrap import interval, paired
from genevae.metrics.latent import SCORES, calinski_harabasz, categories_of, right_n, scored_n, silhouette_n
from genevae.metrics.leakage import chance, readable_n, readable_number
from genevae.models.additive import Additive
from genevae.report.records import Score, Verdict

__all__ = ["LEAKAGE", "LEAKAGE_OF_NUMBERS", "leakage", "separation"]

COMMONEST = "commonest category"
LEAKAGE = "leakage"
LEAKAGE_OF_NUMBERS = "leakage (R²)"
N_READ = 2000
"""Cells on which classifiers are trained to read what leaks."""
FEWEST = 10
"""Cells of a category, below which no classifier learns it."""


def separation(embeddings: Embeddings) -> tuple[list[Score], list[Verdict]]:
    """Score how well fields that a run was not given lie apart in it, beside principal components."""
    scores: list[Score] = []
    gaps: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in embeddings.runs}
    for field, asking in _asked_apart(embeddings).items():
        labels = categories_of(embeddings.obs[field])
        kept = None if labels is None else scored_n(labels)
        if labels is None or kept is None or len(set(labels[kept])) < 2:
            continue
        told = labels[kept].astype(str)
        spaces = {who: z[kept] for who, z in embeddings.spaces.items()}
        right = {who: right_n(z, told, embeddings.context.seed) for who, z in spaces.items()}
        scores += _of_field(embeddings, field, told, spaces, right)
        for run in asking:
            found = paired(right[run], right[embeddings.beside(run)], embeddings.context.seed)
            gaps[run][field] = (found.low, found.high)
    return scores, [_verdict(run, embeddings.beside(run), found) for run, found in gaps.items() if found]


def _asked_apart(embeddings: Embeddings) -> dict[str, list[str]]:
    """Return the fields to ask about, each with the runs that were not given it."""
    asking = {
        str(field): [name for name, run in embeddings.runs.items() if field not in run.schema.fields]
        for field in embeddings.context.fields
    }
    return {field: names for field, names in asking.items() if names}


def _of_field(
    embeddings: Embeddings, field: str, told: NDArray[Any], spaces: dict[str, Any], right: dict[str, NDArray[Any]]
) -> Iterator[Score]:
    silhouette, between, accuracy = SCORES
    for who, z in spaces.items():
        role: Any = "run" if who in embeddings.runs else "baseline"
        width_n = silhouette_n(z, told)
        low, high = interval(width_n, seed=embeddings.context.seed)
        yield Score(metric=silhouette, who=who, value=float(width_n.mean()), role=role, of=field, low=low, high=high)
        yield Score(metric=between, who=who, value=calinski_harabasz(z, told), role=role, of=field)
        low, high = interval(right[who], seed=embeddings.context.seed)
        yield Score(
            metric=accuracy, who=who, value=float(right[who].mean()), role=role, of=field, low=low, high=high, ideal=1
        )
    yield Score(metric=silhouette, who="labels at random", value=0.0, role="baseline", of=field)
    yield Score(metric=between, who="labels at random", value=1.0, role="baseline", of=field)
    yield Score(metric=accuracy, who=COMMONEST, value=chance(told), role="baseline", of=field, ideal=1)


def _verdict(run: str, beside: str, gaps: dict[str, tuple[float, float]]) -> Verdict:
    """Count the fields that neighbours in the latent tell better, as well as, and worse than those among components."""
    better = [field for field, (low, _) in gaps.items() if low > 0]
    worse = [field for field, (_, high) in gaps.items() if high < 0]
    n_alike = len(gaps) - len(better) - len(worse)
    parts = [
        f"tells {', '.join(better)} better than {beside}" if better else "",
        f"is as good as {beside} on {n_alike} field{'s' * (n_alike > 1)}" if n_alike else "",
        f"tells {', '.join(worse)} worse than {beside}" if worse else "",
    ]
    tone: Any = "good" if better and not worse else "bad" if worse and not better else "mixed" if worse else "plain"
    return Verdict(f"By a cell's nearest neighbours, {run} {'; '.join(filter(None, parts))}.", tone)


def leakage(embeddings: Embeddings) -> tuple[list[Score], list[Verdict]]:
    """Score how much of the conditions that a run was given can still be read from its latent."""
    given = [f for f in dict.fromkeys(f for r in embeddings.runs.values() for f in r.schema.fields) if f in embeddings.obs]
    scores: list[Score] = []
    verdicts: list[Verdict] = []
    for field in given:
        found = _readable(embeddings, field)
        if found is None:
            continue
        metric, nothing, values = found
        scores += [
            Score(metric=metric, who=who, value=value, role="run" if who in embeddings.runs else "baseline", of=field,
                  low=low, high=high, better="lower", ideal=nothing)
            for who, (value, low, high) in values.items()
        ]  # fmt: skip
        nobody = COMMONEST if metric == LEAKAGE else "mean"
        scores.append(
            Score(metric=metric, who=nobody, value=nothing, role="baseline", of=field, better="lower", ideal=nothing)
        )
        verdicts += [
            _leaks(embeddings, field, name, found) for name, run in embeddings.runs.items() if field in run.schema.fields
        ]
    return scores, verdicts


Values = dict[str, tuple[float, float | None, float | None]]


def _readable(embeddings: Embeddings, field: str) -> tuple[str, float, Values] | None:
    """Return what is measured, what it is where nothing leaks, and of each space the number and its interval."""
    column, seed = embeddings.obs[field], embeddings.context.seed
    labels = categories_of(column)
    if labels is None and not pd.api.types.is_numeric_dtype(column):
        return None
    kept = _enough(column) if labels is None else _enough(pd.Series(labels), FEWEST)
    kept = kept[sample(np.ones(len(kept), dtype=bool), N_READ, seed)]
    if len(kept) < 2 * FEWEST or (labels is not None and len(set(labels[kept])) < 2):
        return None
    if labels is None:
        value_n = column.to_numpy(dtype=np.float64)[kept]
        numbers = {who: readable_number(z[kept], value_n, seed) for who, z in embeddings.spaces.items()}
        return LEAKAGE_OF_NUMBERS, 0.0, {who: (number, None, None) for who, number in numbers.items()}
    told = labels[kept].astype(str)
    right = {who: readable_n(z[kept], told, seed=seed) for who, z in embeddings.spaces.items()}
    return LEAKAGE, chance(told), {who: (float(r.mean()), *interval(r, seed=seed)) for who, r in right.items()}


def _enough(column: pd.Series[Any], fewest: int = 0) -> NDArray[np.int64]:
    """Return the cells with a value, of a category that is not too rare."""
    known = column.notna().to_numpy()
    if fewest:
        known &= column.map(column.value_counts()).fillna(0).to_numpy() >= fewest
    return np.flatnonzero(known)


def _leaks(embeddings: Embeddings, field: str, run: str, found: tuple[str, float, Values]) -> Verdict:
    """Say how much of what components tell is left in the latent."""
    if isinstance(embeddings.runs[run].module, Additive):
        return Verdict(f"{run} has a part of its latent for {field}, by design: it is meant to be read from there.")
    metric, nothing, values = found
    beside = embeddings.beside(run)
    value, plain = values[run][0], values[beside][0]
    unit = "of cells" if metric == LEAKAGE else "of its variance"
    numbers = f"from {value:.0%} {unit} ({beside} {plain:.0%}, chance {nothing:.0%})"
    if plain - nothing < 0.02:
        return Verdict(f"{field} can hardly be read from expression; in {run} it is read {numbers}.", "plain")
    left = (value - nothing) / (plain - nothing)
    if left <= 0.25:
        return Verdict(f"{run} was given {field} and has put it aside: its latent tells it right {numbers}.", "good")
    words = "still tells much of" if left < 0.9 else "tells as much as expression does of"
    tone: Any = "mixed" if left < 0.9 else "bad"
    return Verdict(f"The latent of {run} {words} {field}, which it was given: that is read right {numbers}.", tone)
