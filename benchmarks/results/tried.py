"""What was tried where a target was missed, beside the defaults."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from benchmarks.results.numbers import shown, told
from benchmarks.results.settings import TRIED
from benchmarks.results.table import table

__all__ = ["tried"]


def tried(found: pd.DataFrame, question: str, default: str, columns: Mapping[str, tuple[str, str | None]]) -> list[str]:
    """Write a table of the default and of all that was tried; a column is a score, perhaps of one data set."""
    names = [name for name in (default, *TRIED[question]) if name in set(found["row"])]
    rows = [[name, *(shown(told(found, name, score, data)) for score, data in columns.values())] for name in names]
    rows[0][0] = f"{default}, at its defaults"
    return ["", "Tried, because the target was missed; each differs from the defaults in what it says:", "",
            *table(["tried", *columns], rows)]  # fmt: skip
