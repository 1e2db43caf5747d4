"""Pictures of shares: how often intervals hold, and what categories add to genes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genevae.plotting.embedding import canvas
from genevae.plotting.literal import literal
from genevae.plotting.training import PALETTE

__all__ = ["calibration_picture", "contribution_picture", "draw_bars", "draw_calibration"]

MOST_GENES, MOST_PANELS, N_COLUMNS = 10, 12, 4
"""Genes in a panel, panels, and panels in a row."""


def calibration_picture(table: pd.DataFrame, path: Path) -> None:
    """Draw the share of values that fall in their central intervals, over the level of the interval.

    Parameters
    ----------
    table
        As :func:`~genevae.evaluation.fit.coverage.calibration` returns it.
    path
        The file to write.
    """
    figure = canvas(4.4, 4.2)
    draw_calibration(figure.subplots(), table)
    figure.savefig(path, dpi=150)


def draw_calibration(axis: Any, table: pd.DataFrame) -> None:
    """Draw the share of values in their intervals: the level in the index, a column for the model and each other."""
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="perfect")
    for number, name in enumerate(table):
        axis.plot(table.index, table[name], color=PALETTE[number], marker="o", markersize=4, label=literal(str(name)))
    axis.set(xlabel="level of the interval", ylabel="share of values in it", xlim=(0, 1), ylim=(0, 1), box_aspect=1)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="upper left")


def contribution_picture(table: pd.DataFrame, path: Path) -> None:
    """Draw the genes to which each category adds most, beyond the mean of its field: a panel for each category.

    Parameters
    ----------
    table
        As :func:`~genevae.tasks.influence.contributions` returns it; of more categories, the first have panels.
    path
        The file to write.
    """
    groups = [(key, rows) for key, rows in table.groupby([table.index, "category"], sort=False) if key[0] != "base"]
    groups = groups[:MOST_PANELS]
    n_columns = min(N_COLUMNS, len(groups))
    n_rows = math.ceil(len(groups) / n_columns)
    figure = canvas(3.1 * n_columns, 2.9 * n_rows)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    fields = list(dict.fromkeys(field for (field, _), _ in groups))
    for axis, ((field, category), rows) in zip(axes, groups, strict=False):
        top, colour = rows.head(MOST_GENES), PALETTE[fields.index(field) % len(PALETTE)]
        draw_bars(axis, list(top["gene"]), top["excess"], [colour] * len(top), f"{field}: {category}")
    for axis in axes[len(groups) :]:
        axis.set_visible(False)
    figure.supxlabel("contribution beyond the mean of the field", fontsize=10)
    figure.savefig(path, dpi=140)


def draw_bars(axis: Any, names: Sequence[str], lengths: Sequence[float], colours: Sequence[Any], title: str) -> None:
    """Draw bars with their names, from top to bottom.

    Parameters
    ----------
    axis
        Where to draw.
    names, lengths, colours
        Of each bar.
    title
        Of the axes.
    """
    place = np.arange(len(names))[::-1]
    axis.barh(place, lengths, color=colours)
    axis.set_yticks(place, [literal(str(name)) for name in names], fontsize=9)
    axis.set_title(literal(title), fontsize=11, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
