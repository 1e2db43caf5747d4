"""Where each run, and principal components, place the cells that a question is asked of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.evaluation.cell_selection import known_n, sample, usable_n
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.scale import log_scale
from genevae.metrics.principal import Principal
from genevae.runs.trained import Trained
from genevae.tasks.embed import embed

__all__ = ["Embeddings", "place"]

_Points = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Cells in the latent of every run.

    Parameters
    ----------
    context
        What the question is asked of.
    row_n
        The rows of the context's cells whose conditions all runs know.
    latents
        For each run the posterior means of those.
    judged
        Which of those are judged, as places in ``row_n``.
    """

    context: EvaluationContext
    row_n: NDArray[np.int64]
    latents: Mapping[str, _Points]
    judged: NDArray[np.int64]

    @property
    def runs(self) -> Mapping[str, Trained]:
        """The runs, by name."""
        return self.context.runs

    @property
    def obs(self) -> pd.DataFrame:
        """The table of the judged cells."""
        return self.context.cells.obs.iloc[self.row_n[self.judged]]

    @cached_property
    def everywhere(self) -> dict[str, _Points]:
        """All cells in the latent of every run, and in principal components of as many dimensions as each has."""
        asked = self.log_x(self.row_n)
        return {**self.latents, **{self.baseline(n): axes.embed(asked) for n, axes in self.principal.items()}}

    @cached_property
    def principal(self) -> dict[int, Principal]:
        """As many axes as the latent of each run has, fitted to the cells that baselines learn from."""
        fitted = self.log_x(self.learned_n)
        dimensions = sorted({z.shape[1] for z in self.latents.values()})
        return {n: Principal.fit(fitted, n, self.context.seed) for n in dimensions}

    @property
    def spaces(self) -> dict[str, _Points]:
        """The judged cells in the same spaces."""
        return {who: z[self.judged] for who, z in self.everywhere.items()}

    def beside(self, run: str) -> str:
        """Name the principal components that stand beside a run."""
        return self.baseline(self.latents[run].shape[1])

    @staticmethod
    def baseline(n: int) -> str:
        """Name principal components of so many dimensions."""
        return f"PCA ({n} dimensions)"

    @cached_property
    def learns(self) -> bool:
        """Whether training cells are at hand for baselines to learn from; else they learn from the judged."""
        n_trained = np.count_nonzero(self.context.trained_n)
        return bool(n_trained > max(z.shape[1] for z in self.latents.values()))

    @property
    def learned_n(self) -> NDArray[np.int64]:
        """The rows of the cells that baselines learn from."""
        return np.flatnonzero(self.context.trained_n) if self.learns else self.row_n[self.judged]

    def log_x(self, row_n: NDArray[np.int64]) -> Any:
        """Return log-normalised expression of some rows, in the genes that any run models."""
        return log_scale(self.context.cells.X[row_n][:, self._gene_g], self.context.kind)

    @property
    def genes(self) -> pd.Index[Any]:
        """The genes that any run models, in the order of the data."""
        return self.context.cells.var_names[self._gene_g]

    @cached_property
    def _gene_g(self) -> NDArray[np.int64]:
        modelled = set().union(*(run.schema.genes for run in self.runs.values()))
        found = np.flatnonzero(self.context.cells.var_names.isin(modelled))
        return found if len(found) else np.arange(self.context.cells.n_vars)  # the data name their genes in another way


def place(context: EvaluationContext, at_most: int) -> Embeddings:
    """Embed the cells, and draw those that are judged where there are more."""
    known = [known_n(run.schema, context.cells.obs) for run in context.runs.values()]
    row_n = np.flatnonzero(np.all(known, axis=0))
    judged = sample(usable_n(context)[row_n], at_most, context.seed)
    cells = context.cells[row_n]
    latents = {name: np.asarray(embed(m, cells).obsm["X_genevae"], dtype=np.float64) for name, m in context.runs.items()}
    return Embeddings(context, row_n, latents, judged)
