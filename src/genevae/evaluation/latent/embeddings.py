"""Where each model, and principal components, place the cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genevae.evaluation.cell_selection import known_n, usable_n
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.model import EvaluatedModel
from genevae.evaluation.scale import log_scale
from genevae.metrics.principal import Principal
from genevae.metrics.sampling import subsample
from genevae.report.records import Role

__all__ = ["Embeddings", "embed_cells"]

_Points = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Cells in the latent of every model.

    Parameters
    ----------
    context
        Models and data.
    row_n
        The rows of the context's cells whose conditions all models know.
    latents
        For each model the posterior means of those.
    evaluation
        Which of those are evaluation cells, as places in ``row_n``.
    """

    context: EvaluationContext
    row_n: NDArray[np.int64]
    latents: Mapping[str, _Points]
    evaluation: NDArray[np.int64]

    @property
    def models(self) -> dict[str, EvaluatedModel]:
        """The models, by name."""
        return {name: self.context.models[name] for name in self.latents}

    @property
    def obs(self) -> pd.DataFrame:
        """The table of the evaluation cells."""
        return self.context.cells.obs.iloc[self.row_n[self.evaluation]]

    @cached_property
    def everywhere(self) -> dict[str, _Points]:
        """All cells in the latent of every model, and in principal components of as many dimensions as each has."""
        x_ng = self.log_x(self.row_n)
        return {**self.latents, **{self.components(n): axes.embed(x_ng) for n, axes in self.principal.items()}}

    @cached_property
    def principal(self) -> dict[int, Principal]:
        """As many axes as the latent of each model has, fitted to the training cells."""
        fitted = self.log_x(self.fitted_n)
        dimensions = sorted({z.shape[1] for z in self.latents.values()})
        return {n: Principal.fit(fitted, n, self.context.seed) for n in dimensions}

    @property
    def spaces(self) -> dict[str, _Points]:
        """The evaluation cells in the same spaces."""
        return {who: z[self.evaluation] for who, z in self.everywhere.items()}

    def role(self, who: str) -> Role:
        """Return whether this is a model or a baseline."""
        return "run" if who in self.latents else "baseline"

    def baseline(self, name: str) -> str:
        """Name the principal components that a model is compared with."""
        return self.components(self.latents[name].shape[1])

    @staticmethod
    def components(n: int) -> str:
        """Name principal components of so many dimensions."""
        return f"PCA ({n} dimensions)"

    @cached_property
    def has_training_cells(self) -> bool:
        """Whether there are enough training cells for baselines; else they are fitted to the evaluation cells."""
        n_trained = np.count_nonzero(self.context.trained_n)
        return bool(n_trained > max(z.shape[1] for z in self.latents.values()))

    @property
    def fitted_n(self) -> NDArray[np.int64]:
        """The rows of the cells that baselines are fitted to."""
        return np.flatnonzero(self.context.trained_n) if self.has_training_cells else self.row_n[self.evaluation]

    def log_x(self, row_n: NDArray[np.int64]) -> Any:
        """Return log-normalised expression of some rows, in the genes of any model."""
        return log_scale(self.context.cells.X[row_n][:, self._gene_g], self.context.kind)

    @property
    def genes(self) -> pd.Index[Any]:
        """The genes of any model, in the order of the data."""
        return self.context.cells.var_names[self._gene_g]

    @cached_property
    def _gene_g(self) -> NDArray[np.int64]:
        modelled = set().union(*(model.schema.genes for model in self.models.values()))
        found = np.flatnonzero(self.context.cells.var_names.isin(modelled))
        return found if len(found) else np.arange(self.context.cells.n_vars)  # the data name their genes otherwise


def embed_cells(context: EvaluationContext, at_most: int) -> Embeddings:
    """Embed the cells by every model that can, and sample evaluation cells where there are more."""
    known = [known_n(model, context.cells.obs) for model in context.models.values()]
    row_n = np.flatnonzero(np.all(known, axis=0))
    evaluation = subsample(usable_n(context)[row_n], at_most, context.seed)
    cells = context.cells[row_n]
    latents = {
        name: np.asarray(model.embed(cells), dtype=np.float64)
        for name, model in context.models.items()
        if model.embed is not None
    }
    return Embeddings(context, row_n, latents, evaluation)
