"""Some trained models side by side, and the cells that they are judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from genevae.data.value_kind import Kind
from genevae.report.records import Better
from genevae.runs.trained import Trained

__all__ = ["EvaluationContext", "Metric", "parts_of"]

Part = NDArray[np.bool_]


@dataclass(frozen=True)
class EvaluationContext:
    """What every question is asked of.

    Parameters
    ----------
    runs
        The models, by name.
    cells
        The cells, with all genes of every run, in memory: a sample with a seed where there were more.
    kind
        What the numbers in ``cells.X`` are.
    seed
        Of all that is drawn.
    fields
        Categorical columns of obs that may be asked about.
    n_left_out
        Cells of the data that were not drawn.
    gene_sets
        A GMT file of gene sets that similar genes are compared with, where one was given.
    """

    runs: Mapping[str, Trained]
    cells: AnnData
    kind: Kind
    seed: int = 0
    fields: Sequence[str] = ()
    n_left_out: int = 0
    gene_sets: Path | None = None

    def part_n(self, run: str) -> pd.Series[Any]:
        """Return the part that each cell had in a run's training: training, validation or test; or new."""
        return parts_of(self.runs[run], self.cells.obs_names)

    @property
    def trained_n(self) -> Part:
        """Which cells any run was trained on."""
        return self._any("training")

    @property
    def evaluation_n(self) -> Part:
        """Which cells are fair to judge by: new or test cells; without such, those that chose the best weights."""
        seen = self.trained_n
        fair = ~seen & ~self._any("validation")
        return fair if fair.any() else ~seen

    @property
    def evaluation_note(self) -> str:
        """Say in words which cells these are, for the notes of a section."""
        parts = {part for run in self.runs for part in self.part_n(run)[self.evaluation_n]}
        n = int(self.evaluation_n.sum())
        if not n:
            return "Every cell was trained on, by one run at least: there is none to judge by."
        if parts == {"validation"}:
            return f"{n:,} cells that were not trained on, but chose the best epoch."
        return f"{n:,} cells that no run was trained on ({', '.join(sorted(parts))})."

    def _any(self, part: str) -> Part:
        return np.asarray(np.any([(self.part_n(run) == part).to_numpy() for run in self.runs], axis=0))


def parts_of(run: Trained, names: pd.Index[Any]) -> pd.Series[Any]:
    """Return the part that each cell had in a run's training, by name: training, validation or test; or new.

    Where training had several cells of one name, each of them counts as the one that was seen most.
    """
    split = run.split
    if not split.index.is_unique:
        order = ["training", "validation", "test"]
        split = split.sort_values(key=lambda part: part.map(order.index), kind="stable")
        split = split[~split.index.duplicated()]
    return split.reindex(names).fillna("new").astype(str)


class Metric(NamedTuple):
    """Which way a score is better, and what a perfect model has."""

    better: Better
    ideal: float
