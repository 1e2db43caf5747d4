"""Dose-response curves."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from genevae.plotting.embedding import canvas
from genevae.plotting.literal import literal
from genevae.plotting.training import PALETTE

__all__ = ["dose_picture"]

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
    largest = table.groupby(level=0, sort=False)["max_effect"].first().abs()
    genes = list(largest.sort_values(ascending=False, kind="stable").index[:MOST])
    n_rows = math.ceil(len(genes) / N_COLUMNS)
    from matplotlib.ticker import SymmetricalLogLocator

    figure = canvas(3.6 * N_COLUMNS, 2.7 * n_rows)
    axes = figure.subplots(n_rows, N_COLUMNS, squeeze=False).ravel()
    positive = table["dose"][table["dose"] > 0]
    lowest = float(positive.min()) if len(positive) else 1.0
    for axis, gene in zip(axes, genes, strict=False):
        rows = table.loc[[gene]]
        axis.plot(rows["dose"], rows["mean"], color=PALETTE[0])
        axis.fill_between(rows["dose"], rows["lower"], rows["upper"], color=PALETTE[0], alpha=0.2, linewidth=0)
        if math.isfinite(half := rows["ec50"].iloc[0]):
            axis.axvline(half, color="0.4", linestyle=":", label=f"EC50 {half:.3g}")
            axis.legend(frameon=False, fontsize=8)
        axis.set_xscale("symlog", linthresh=lowest, linscale=1)
        axis.set_xlim(0, table["dose"].max())
        axis.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=lowest))
        axis.set_title(literal(gene), fontsize=11, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(genes) :]:
        axis.set_visible(False)
    figure.supxlabel("dose", fontsize=10)
    figure.supylabel("mean expression", fontsize=10)
    figure.savefig(path, dpi=130)
