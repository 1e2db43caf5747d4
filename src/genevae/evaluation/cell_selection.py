"""Which cells a section can use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from genevae.data.covariates import Categorical
from genevae.errors import CategoryError
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.model import EvaluatedModel
from genevae.metrics.sampling import subsample

__all__ = ["Selection", "known_n", "missing_requirement", "select", "trained_n", "usable_n"]

MIN_CELLS = 20
"""Fewer say too little about a model."""
MIN_TRAINING = 50
"""Fewer do not make a fair baseline."""


@dataclass(frozen=True, eq=False)
class Selection:
    """The cells of a section.

    Parameters
    ----------
    training
        What baselines are fitted to.
    evaluation
        What models and baselines are scored on.
    notes
        How they were chosen.
    """

    training: AnnData
    evaluation: AnnData
    notes: tuple[str, ...]


def missing_requirement(context: EvaluationContext, verb: str = "") -> str | None:
    """Return why no section about single cells is possible; None where one is.

    Parameters
    ----------
    context
        Models and data.
    verb
        What one model at least must be able to do.
    """
    if verb and not context.having(verb):
        return f"No model has the method {verb}."
    for name, model in context.models.items():
        schema = model.schema
        needed = [c.name for c in schema.categorical if not c.unknown] + [c.name for c in schema.continuous]
        if missing := [field for field in needed if field not in context.cells.obs]:
            return f"The data have no column '{missing[0]}', which {name} is conditioned on."
    if usable_n(context).sum() < MIN_CELLS:
        return (
            f"There are fewer than {MIN_CELLS} evaluation cells: cells that no model was trained on, of conditions "
            "that all models know."
        )
    return None


def usable_n(context: EvaluationContext, besides: str = "") -> NDArray[np.bool_]:
    """Return which evaluation cells have conditions that all models know, disregarding one field."""
    return np.asarray(context.evaluation_n & _known_to_all(context, besides))


def trained_n(context: EvaluationContext) -> NDArray[np.bool_]:
    """Return which training cells have conditions that all models know."""
    return np.asarray(context.trained_n & _known_to_all(context))


def _known_to_all(context: EvaluationContext, besides: str = "") -> NDArray[np.bool_]:
    known = [known_n(model, context.cells.obs, besides) for model in context.models.values()]
    return np.asarray(np.all(known, axis=0))


def select(context: EvaluationContext, usable: NDArray[np.bool_], n_evaluation: int, n_training: int) -> Selection:
    """Choose evaluation cells among the usable ones, and training cells that baselines are fitted to.

    Where the data have no training cells, half of the usable cells take their place.
    """
    notes = [context.evaluation_note]
    trained = trained_n(context)
    if trained.sum() < MIN_TRAINING:
        rows = np.random.default_rng(context.seed).permutation(np.flatnonzero(usable))
        trained, usable = np.zeros((2, len(usable)), dtype=bool)
        trained[rows[: len(rows) // 2]], usable[rows[len(rows) // 2 :]] = True, True
        notes.append(
            "The data have no training cells: baselines are fitted to half of the new cells, which helps them."
        )
    evaluation = subsample(usable, n_evaluation, context.seed)
    if len(evaluation) < usable.sum():
        notes.append(f"{len(evaluation):,} of the {usable.sum():,} cells were sampled, with seed {context.seed}.")
    training = subsample(trained, n_training, context.seed)
    notes.append(f"Baselines are fitted to {len(training):,} cells.")
    return Selection(context.cells[training], context.cells[evaluation], tuple(notes))


def known_n(model: EvaluatedModel, obs: pd.DataFrame, besides: str = "") -> NDArray[np.bool_]:
    """Return which cells have conditions that a model knows, disregarding one field."""
    known = np.ones(len(obs), dtype=bool)
    for field in model.schema.categorical:
        if not field.unknown and field.name != besides:
            known &= _among(field, obs[field.name])
    for number in model.schema.continuous:
        known &= np.isfinite(pd.to_numeric(obs[number.name], errors="coerce").to_numpy(dtype=np.float64))
    return known


def _among(field: Categorical, column: pd.Series[Any]) -> NDArray[np.bool_]:
    def is_known(value: object) -> bool:
        try:
            field.code(value)
        except CategoryError:
            return False
        return True

    values = column.astype(object)
    known = {value: is_known(value) for value in values.dropna().unique()}
    return np.asarray([bool(known.get(value, False)) for value in values], dtype=bool)
