"""Charts of simulated and real cells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from genevae.evaluation.simulation.scores import Group, Simulated
from genevae.report.gene_scatter import gene_points
from genevae.report.records import Chart, Lines, Points

__all__ = ["charts_of"]

N_BINS = 30
N_DIGITS = 4


def charts_of(group: Group) -> list[Chart]:
    """Return, for each run, mean and share of zeros of every gene; and the library sizes of all."""
    runs = [made for made in group.made if made.role == "run"]
    genes = [
        _genes(group, made, name) for made in runs for name in ("mean", "zero fraction") if name in made.properties
    ]
    return [*genes, *_sizes(group)]


def _genes(group: Group, made: Simulated, name: str) -> Points:
    return gene_points(
        f"{name.capitalize()} of each gene, by {made.who}",
        group.genes,
        group.likeness.properties[name],
        made.properties[name],
        ("real cells", "simulated cells"),
        "The nearer to the line the better. The genes that are furthest off are named.",
    )


def _sizes(group: Group) -> Iterator[Chart]:
    """Chart the distribution of counts per cell, on a logarithmic axis."""
    name = "library size"
    if not group.likeness.has_counts:
        return
    shown = {"real cells": group.likeness.properties[name]}
    shown |= {made.who: made.properties[name] for made in group.made if made.role == "run"}
    logs = {who: np.log10(np.maximum(size_n, 1)) for who, size_n in shown.items()}
    edges = np.linspace(min(map(np.min, logs.values())), max(map(np.max, logs.values())) + 1e-6, N_BINS + 1)
    middle = ((edges[1:] + edges[:-1]) / 2).round(N_DIGITS).tolist()
    yield Lines(
        title="Counts per cell",
        series={
            who: (middle, (np.histogram(log_n, edges)[0] / len(log_n)).round(N_DIGITS).tolist())
            for who, log_n in logs.items()
        },
        x_label="log10 of counts per cell",
        y_label="share of cells",
        caption="How deep real and simulated cells are; the curves should lie on each other.",
    )
