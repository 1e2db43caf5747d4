"""A picture of a search for settings: its progress, and what mattered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genevae.plotting.embedding import canvas
from genevae.plotting.literal import literal
from genevae.plotting.training import PALETTE

__all__ = ["tuning_picture"]

MOST_SETTINGS = 3


def tuning_picture(table: pd.DataFrame, importance: pd.Series[float], metric: str, path: Path) -> None:
    """Draw the value of each trial in the order of the search, and over the settings that mattered most.

    Parameters
    ----------
    table
        One row per trial: ``trial``, its settings, and ``value``, NaN where it did not end.
    importance
        The share of each setting in the differences between trials.
    metric
        What the values are.
    path
        The file to write.
    """
    ended = table[table["value"].notna()]
    settings = [name for name in importance.sort_values(ascending=False).index if name in table][:MOST_SETTINGS]
    figure = canvas(3.4 * (1 + len(settings)), 3.2)
    axes = figure.subplots(1, 1 + len(settings), sharey=True, squeeze=False)[0]
    axes[0].scatter(ended["trial"], ended["value"], color=PALETTE[0], s=18)
    axes[0].step(ended["trial"], ended["value"].cummax(), color=PALETTE[1], where="post", label="the best so far")
    axes[0].set(xlabel="trial", ylabel=literal(metric))
    axes[0].legend(frameon=False, loc="lower right")
    axes[0].set_ylim(*_limits(ended["value"].to_numpy()))
    for axis, name in zip(axes[1:], settings, strict=True):
        _draw_setting(axis, ended[name], ended["value"])
        axis.set_xlabel(literal(f"{name} ({importance[name]:.0%})"))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def _limits(value_n: Any) -> tuple[float, float]:
    """Return a range that has the better half of the trials, and some of the others: one bad trial hides all else."""
    best, middle = float(np.max(value_n)), float(np.median(value_n))
    room = max(best - middle, 1e-9 * max(abs(best), 1.0))
    return max(float(np.min(value_n)), middle - 3 * room) - 0.2 * room, best + 0.4 * room


def _draw_setting(axis: Any, given: pd.Series[Any], value: pd.Series[float]) -> None:
    """Draw values over the numbers of a setting, on a log scale where they span two decades, or over its categories."""
    numbers = pd.to_numeric(given, errors="coerce")
    if numbers.notna().all() and numbers.max() > numbers.min():
        axis.scatter(numbers, value, color=PALETTE[0], s=18)
        if numbers.min() > 0 and numbers.max() / numbers.min() >= 20:
            axis.set_xscale("log")
        return
    names = sorted(given.astype(str).unique())
    axis.scatter(given.astype(str).map(names.index), value, color=PALETTE[0], s=18)
    axis.set_xticks(range(len(names)), [literal(name) for name in names], fontsize=9)
    axis.margins(x=0.3)
