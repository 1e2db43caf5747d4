"""Every gene as a point: its true and its predicted value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.report.records import Points

__all__ = ["N_NAMED", "gene_points"]

N_NAMED = 8
"""Genes that are named: those furthest from the line."""
N_DIGITS = 4


def gene_points(
    title: str,
    genes: Sequence[str],
    true_g: NDArray[Any],
    predicted_g: NDArray[Any],
    labels: tuple[str, str],
    caption: str,
) -> Points:
    """Chart predicted against true values of each gene, ``(g,)`` each; ``labels`` are those of the two axes."""
    worst = np.argsort(-np.abs(true_g - predicted_g))[:N_NAMED]
    return Points(
        title=title,
        x=np.round(true_g, N_DIGITS).tolist(),
        y=np.round(predicted_g, N_DIGITS).tolist(),
        names=list(genes),
        x_label=labels[0],
        y_label=labels[1],
        highlighted=[genes[i] for i in worst],
        caption=caption,
    )
