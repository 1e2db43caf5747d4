"""A picture of the genes that differ between two groups."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genevae.plotting.embedding import canvas
from genevae.plotting.literal import literal

__all__ = ["draw_volcano", "volcano_picture"]

MOST_PANELS, MOST_NAMES, N_STEPS = 9, 12, 5
CALLED = 0.95
LEAST = 1e-6
"""Probability of no change at which the axis ends."""
COLOURS = {False: "#b5b5b5", True: "#b2352c"}


def volcano_picture(table: pd.DataFrame, path: Path) -> None:
    """Draw the probability that a gene does not change against its log fold change, a panel for each comparison.

    Parameters
    ----------
    table
        As :func:`~genevae.tasks.differential_expression.differential_expression` returns it; the first nine comparisons
        are drawn.
    path
        The file to write.
    """
    panels = list(table.groupby(["group1", "group2"], sort=False))[:MOST_PANELS]
    n_columns = min(3, len(panels))
    n_rows = -(-len(panels) // n_columns)
    figure = canvas(4.2 * n_columns, 3.8 * n_rows)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis, ((one, other), rows) in zip(axes, panels, strict=False):
        draw_volcano(axis, rows, f"{one} against {other}")
    figure.savefig(path, dpi=130)


def draw_volcano(axis: Any, rows: pd.DataFrame, title: str) -> None:
    """Draw one comparison; the genes that change most have their names.

    Parameters
    ----------
    axis
        Where to draw.
    rows
        A row for each gene, with ``gene``, ``lfc``, ``probability``, and perhaps ``called``; without, genes whose
        probability is 0.95 or more are called.
    title
        What is compared.
    """
    probability = rows["probability"].to_numpy(dtype=float)
    height, lfc = -np.log10(np.maximum(1 - probability, LEAST)), rows["lfc"].to_numpy(dtype=float)
    called = rows["called"].to_numpy(dtype=bool) if "called" in rows else probability >= CALLED
    for is_called, colour in COLOURS.items():
        chosen = called == is_called
        axis.scatter(lfc[chosen], height[chosen], s=8, color=colour, linewidths=0, alpha=0.8)
    names = np.flatnonzero(called)[np.argsort(-np.abs(lfc[called]), kind="stable")][:MOST_NAMES]
    end, n_at_end = -math.log10(LEAST), 0
    for at in sorted(names, key=lambda at: lfc[at]):
        step = n_at_end % N_STEPS if height[at] >= end else 0  # names at the end of the axis would overlap
        n_at_end += height[at] >= end
        axis.annotate(
            literal(rows["gene"].iloc[at]), (lfc[at], height[at]), fontsize=6.5, xytext=(0, 3 + 8 * step),
            textcoords="offset points", ha="center", annotation_clip=False,
        )  # fmt: skip
    if n_at_end:
        axis.axhline(end, color="0.8", linewidth=0.8, zorder=0)
        axis.set_ylim(top=end * (1 + 0.06 * min(n_at_end, N_STEPS)))
    axis.set_title(f"{literal(title)}: {called.sum():,} genes" if title else f"{called.sum():,} genes", fontsize=9)
    axis.set(xlabel="log2 fold change", ylabel=f"−log10 probability of no change, at most {end:.0f}")
    axis.spines[["top", "right"]].set_visible(False)
