"""Pictures of shares: how often intervals hold, and what categories add to genes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.plotting.embedding import canvas
from genevae.plotting.literal import literal
from genevae.plotting.training import PALETTE

__all__ = ["calibration_picture", "contribution_picture"]

MOST_GENES, MOST_PANELS, N_COLUMNS = 10, 12, 4
"""Genes in a panel, panels, and panels in a row."""


def calibration_picture(level_l: NDArray[Any], shares: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Draw the share of values that fall in their central intervals, over the level of the interval.

    Parameters
    ----------
    level_l
        Levels, from 0 to 1.
    shares
        For each name, such as the model and a baseline, the share at each level.
    path
        The file to write.
    """
    figure = canvas(4.4, 4.2)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="perfect")
    for number, (name, share_l) in enumerate(shares.items()):
        axis.plot(level_l, share_l, color=PALETTE[number], marker="o", markersize=4, label=literal(name))
    axis.set(xlabel="level of the interval", ylabel="share of values in it", xlim=(0, 1), ylim=(0, 1), box_aspect=1)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=150)


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
        top = rows.head(MOST_GENES).iloc[::-1]
        axis.barh(np.arange(len(top)), top["excess"], color=PALETTE[fields.index(field) % len(PALETTE)])
        axis.set_yticks(np.arange(len(top)), list(map(literal, top["gene"])), fontsize=9)
        axis.set_title(f"{literal(field)}: {literal(category)}", fontsize=11, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(groups) :]:
        axis.set_visible(False)
    figure.supxlabel("contribution beyond the mean of the field", fontsize=10)
    figure.savefig(path, dpi=140)
