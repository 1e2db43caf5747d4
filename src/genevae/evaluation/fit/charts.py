"""Charts of how well models fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genevae.evaluation.fit.measurements import Measured
from genevae.evaluation.predictions import Expected
from genevae.metrics.calibration import pit_histogram
from genevae.report.gene_scatter import N_NAMED, gene_points
from genevae.report.records import Bars, Chart, Points

__all__ = ["charts_of"]

N_BINS = 10
MAX_PICTURES = 4
"""Models that have charts of genes."""


def charts_of(runs: Sequence[Measured]) -> list[Chart]:
    """Chart the genes of each model, and the intervals of all."""
    charts: list[Chart] = []
    for run in runs[:MAX_PICTURES]:
        if run.expected is not None:
            charts.append(_mean_points(run, run.expected))
            if run.is_count:
                charts.append(_zero_points(run, run.expected))
    if any(run.entries is not None for run in runs):
        charts.append(_pit_bars(runs))
    return charts


def _pit_bars(runs: Sequence[Measured]) -> Bars:
    series = {}
    for run in runs:
        for who, each in ((run.name, run.entries), (run.base_name, run.base_entries)):
            if each is not None:
                series[who] = pit_histogram(each.below_ng, each.at_ng, N_BINS).tolist()
    return Bars(
        title="Where values fall in their predicted distributions",
        names=[f"{b / N_BINS:.1f}-{(b + 1) / N_BINS:.1f}" for b in range(N_BINS)],
        series=series,
        x_label="density; 1 in every bin is perfect",
        caption="A peak in the middle: the intervals are too wide. Peaks at both ends: they are too narrow. A slope: "
        "the model expects too much (to the left) or too little (to the right).",
    )  # fmt: skip


def _mean_points(run: Measured, found: Expected) -> Points:
    in_counts = run.model.schema.output_kind.is_count
    true, predicted = run.cells.true_ng.mean(0), found.predicted_ng.mean(0)
    if in_counts:
        true, predicted = np.log10(1 + np.maximum(true, 0)), np.log10(1 + np.maximum(predicted, 0))
    scale = "log10(1 + counts per 10,000)" if in_counts else str(run.model.schema.output_kind)
    return _points(run, f"{run.name}: mean of every gene", true, predicted, f"mean, {scale}")


def _zero_points(run: Measured, found: Expected) -> Points:
    true, predicted = (run.cells.x_ng == 0).mean(0), found.p_zero_ng.mean(0)
    return _points(run, f"{run.name}: share of zeros of every gene", true, predicted, "share of cells without a count")


def _points(run: Measured, title: str, true: NDArray[np.float64], predicted: NDArray[np.float64], label: str) -> Points:
    genes = run.model.schema.genes
    caption = (
        f"One point per gene, over the {len(run.cells.size_n):,} evaluation cells; the {min(N_NAMED, len(genes))} "
        "genes furthest from the line are named."
    )
    return gene_points(title, genes, true, predicted, (f"measured {label}", f"expected {label}"), caption)
