"""The results of jobs as one table, means over seeds with their intervals, and Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

__all__ = ["mean_and_half", "shown", "table", "table_of", "values_of"]


def table_of(results: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per question, data set, row, seed and score."""
    records = [
        {"question": r["question"], "data": r["data"], "row": row, "seed": r["seed"], "score": score, "value": value}
        for r in results
        for row, scores in r["rows"].items()
        for score, value in scores.items()
    ]
    return pd.DataFrame(records, columns=["question", "data", "row", "seed", "score", "value"])


def values_of(found: pd.DataFrame, row: str, score: str, data: str | None = None) -> pd.Series[float]:
    """Return a score of one row by seed, averaged over the data sets if none is named."""
    some = found[(found["row"] == row) & (found["score"] == score)]
    if data is not None:
        some = some[some["data"] == data]
    return some.groupby("seed")["value"].mean()


def mean_and_half(value_s: ArrayLike) -> tuple[float, float]:
    """Return the mean over seeds and half the width of its 95 % Student-t interval, NaN for a single seed.

    >>> mean, half = mean_and_half([1.0, 2.0, 3.0])
    >>> round(mean, 3), round(half, 3)
    (2.0, 2.484)
    """
    values: Any = np.asarray(value_s, dtype=np.float64)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def shown(value_s: ArrayLike, digits: int = 3, deviation: bool = False) -> str:
    """Format the mean over seeds with its interval, or with the standard deviation over seeds.

    >>> shown([1.0, 2.0, 3.0], 1), shown([0.5], 2)
    ('2.0 ± 2.5', '0.50')
    >>> shown([1.0, 2.0, 3.0], 1, deviation=True)
    '2.0 ± 1.0'
    """
    values = np.asarray(value_s, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        return "–"
    mean, half = mean_and_half(values)
    if deviation and len(values) > 1:
        half = float(values.std(ddof=1))
    return f"{mean:.{digits}f}" + ("" if np.isnan(half) or half == 0 else f" ± {half:.{digits}f}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str = "--:") -> list[str]:
    """Return the lines of a table; columns after the first are aligned to the right, or by ``align``.

    >>> table(["", "score"], [["a", "1"]])
    ['|  | score |', '|---|--:|', '| a | 1 |']
    """
    rule = "|" + "|".join(["---"] + [align] * (len(head) - 1)) + "|"
    written = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return [written[0], rule, *written[1:]]
