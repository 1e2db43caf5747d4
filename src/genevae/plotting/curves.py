"""Dose-response curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from genevae.plotting.embedding import canvas
from genevae.plotting.literal import literal
from genevae.plotting.training import PALETTE

__all__ = ["MOST", "dose_picture", "draw_doses", "largest_genes"]

MOST, N_COLUMNS = 9, 3
"""Genes that are drawn."""


def dose_picture(table: pd.DataFrame, path: Path) -> None:
    """Draw the curves of the genes that change most, with their intervals and EC50.

    Parameters
    ----------
    table
        As :func:`~genevae.tasks.dose_response.dose_response` returns it.
    path
        The file to write.
    """
    genes = largest_genes(table, MOST)
    n_rows = math.ceil(len(genes) / N_COLUMNS)
    figure = canvas(3.6 * N_COLUMNS, 2.7 * n_rows)
    axes = figure.subplots(n_rows, N_COLUMNS, squeeze=False).ravel()
    for axis, gene in zip(axes, genes, strict=False):
        draw_doses(axis, table, [gene])
        axis.set_title(literal(gene), fontsize=11, loc="left")
    for axis in axes[len(genes) :]:
        axis.set_visible(False)
    figure.supxlabel("dose", fontsize=10)
    figure.supylabel("mean expression", fontsize=10)
    figure.savefig(path, dpi=130)


def largest_genes(table: pd.DataFrame, n: int) -> list[str]:
    """Return the genes that change most."""
    largest = table.groupby(level=0, sort=False)["max_effect"].first().abs()
    return list(largest.sort_values(ascending=False, kind="stable").index[:n])


def draw_doses(axis: Any, table: pd.DataFrame, genes: Sequence[str]) -> None:
    """Draw the curves of some genes with their intervals, over the dose on a logarithmic scale that has zero.

    Parameters
    ----------
    axis
        Where to draw.
    table
        As for :func:`dose_picture`.
    genes
        The genes; one alone has its EC50 in the legend, several have their names there.
    """
    from matplotlib.ticker import SymmetricalLogLocator

    positive = table["dose"][table["dose"] > 0]
    lowest = float(positive.min()) if len(positive) else 1.0
    for number, gene in enumerate(genes):
        rows, colour = table.loc[[gene]], PALETTE[number % len(PALETTE)]
        axis.plot(rows["dose"], rows["mean"], color=colour, label=literal(gene) if len(genes) > 1 else None)
        axis.fill_between(rows["dose"], rows["lower"], rows["upper"], color=colour, alpha=0.2, linewidth=0)
        if math.isfinite(half := rows["ec50"].iloc[0]):
            alone = {"color": "0.4", "label": f"EC50 {half:.3g}"} if len(genes) == 1 else {"color": colour}
            axis.axvline(half, linestyle=":", **alone)
    if len(genes) == 1:
        axis.set_title(literal(genes[0]), fontsize=11, loc="left")
    elif table.loc[list(genes), "ec50"].notna().any():
        axis.plot([], [], color="0.4", linestyle=":", label="EC50")
    if axis.get_legend_handles_labels()[1]:
        axis.legend(frameon=False, fontsize=8)
    axis.set_xscale("symlog", linthresh=lowest, linscale=1)
    axis.set_xlim(0, table["dose"].max())
    axis.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=lowest))
    axis.spines[["top", "right"]].set_visible(False)
