"""Some cells of a source, in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from genevae.data.sources.source import MemorySource, Source
from genevae.errors import DataError

__all__ = ["drawn"]


def drawn(source: Source, n: int, seed: int) -> MemorySource:
    """Read some cells, drawn at random where there are more, in the order of the source.

    Raises
    ------
    DataError
        If fewer than 3 are asked for.
    """
    if n < 3:
        raise DataError(f"cells must be 3 or more, not {n}.")
    rows = np.arange(len(source))
    if len(rows) > n:
        rows = np.sort(np.random.default_rng(seed).choice(rows, n, replace=False))
    panels = source.panels and replace(source.panels, panel_n=source.panels.panel_n[rows])
    return MemorySource(source.name, source.read(rows), source.genes, source.obs.iloc[rows], panels=panels)
