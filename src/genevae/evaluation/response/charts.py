"""Charts of predicted responses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genevae.evaluation.response.summary import PARTS, StateResult
from genevae.metrics.response import SHIFT_PEARSON
from genevae.report.gene_scatter import gene_points
from genevae.report.records import Bars, Chart, Points

__all__ = ["charts_of"]

MAX_POINTS = 6
"""Charts of genes: those of the states that are predicted worst."""
MAX_BARS = 16


def charts_of(results: Sequence[StateResult]) -> list[Chart]:
    """Return bars of every state, and the genes of the states that were predicted worst."""
    bars = [_bars([one for one in results if one.case.held_out is held_out], part) for held_out, part in PARTS.items()]
    pairs = [(one, who) for one in results for who in one.predictions]
    pairs.sort(key=lambda pair: (not pair[0].case.held_out, pair[0].value(pair[1], SHIFT_PEARSON)))
    return [*(chart for each in bars for chart in each), *(_genes(*pair) for pair in pairs[:MAX_POINTS])]


def _bars(here: Sequence[StateResult], part: str) -> list[Chart]:
    if not here:
        return []
    shown = sorted(here, key=lambda one: max(one.value(who, SHIFT_PEARSON) for who in one.predictions))[:MAX_BARS]
    names = dict.fromkeys(one.case.name for one in shown)
    series = {
        who: [next((one.value(who, SHIFT_PEARSON) for one in shown if one.case.name == n and who in one.scores), np.nan)
              for n in names]
        for who in dict.fromkeys(who for one in shown for who in one.scores)
    }  # fmt: skip
    some = "" if len(shown) == len(here) else f" The {MAX_BARS} that are predicted worst, of {len(here)}."
    return [
        Bars(
            title=f"How well shifts are predicted: {part}",
            names=list(names),
            series={who: values for who, values in series.items() if np.nan_to_num(values).any()},
            x_label=SHIFT_PEARSON.name,
            caption=f"Pearson's correlation over genes of the predicted and the true shift; 1 is best.{some}",
        )
    ]


def _genes(one: StateResult, who: str) -> Points:
    return gene_points(
        f"{one.case.name}: the shift of each gene, by {who}",
        one.genes,
        one.truth.shift_g,
        one.predictions[who].mean_g - one.truth.reference_g,
        ("true shift", "predicted shift"),
        f"A {PARTS[one.case.held_out][:-1]}; Pearson {one.value(who, SHIFT_PEARSON):.2f}. The genes that are predicted "
        "worst are named.",
    )
