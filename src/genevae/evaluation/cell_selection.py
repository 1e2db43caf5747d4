"""Which cells a question can be asked of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from genevae.data.covariates import Categorical
from genevae.data.schema import Schema
from genevae.errors import CategoryError
from genevae.evaluation.context import EvaluationContext

__all__ = ["Chosen", "chosen", "known_n", "lacks", "sample", "usable_n"]

MIN_CELLS = 20
"""Fewer tell nothing of a model."""
MIN_TRAINING = 50
"""Fewer do not make a fair baseline."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """The cells of a question.

    Parameters
    ----------
    training
        What baselines are fitted to.
    judged
        What all are judged by.
    notes
        How they were chosen.
    """

    training: AnnData
    judged: AnnData
    notes: tuple[str, ...]


def lacks(context: EvaluationContext) -> str | None:
    """Say in a sentence what the data lack that every question about single cells needs."""
    for name, run in context.runs.items():
        schema = run.schema
        needed = [c.name for c in schema.categorical if not c.unknown] + [c.name for c in schema.continuous]
        if missing := [field for field in needed if field not in context.cells.obs]:
            return f"The data have no column '{missing[0]}', which the run {name} is conditioned on."
    if usable_n(context).sum() < MIN_CELLS:
        return (
            f"There are fewer than {MIN_CELLS} cells to judge by: cells that no run was trained on, of conditions that "
            "all runs know."
        )
    return None


def usable_n(context: EvaluationContext, besides: str = "") -> NDArray[np.bool_]:
    """Say which cells are fair to judge by, and of conditions that all runs know, whatever they have of one field."""
    known = [known_n(run.schema, context.cells.obs, besides) for run in context.runs.values()]
    return np.asarray(context.evaluation_n & np.all(known, axis=0))


def chosen(context: EvaluationContext, usable: NDArray[np.bool_], n_evaluation: int, n_training: int) -> Chosen:
    """Choose cells to judge by, among the usable ones, and cells that baselines are fitted to.

    Those are training cells of the runs; where the data have none, half of the cells that could be judged by.
    """
    notes = [context.evaluation_note]
    trained = context.trained_n & np.all([known_n(run.schema, context.cells.obs) for run in context.runs.values()], axis=0)
    if trained.sum() < MIN_TRAINING:
        rows = np.random.default_rng(context.seed).permutation(np.flatnonzero(usable))
        trained, usable = np.zeros((2, len(usable)), dtype=bool)
        trained[rows[: len(rows) // 2]], usable[rows[len(rows) // 2 :]] = True, True
        notes.append(
            "The data have no training cells: baselines are fitted to half of the new cells, which helps them."
        )
    judged = sample(usable, n_evaluation, context.seed)
    if len(judged) < usable.sum():
        notes.append(f"{len(judged):,} of the {usable.sum():,} cells were drawn, with seed {context.seed}.")
    training = sample(trained, n_training, context.seed)
    notes.append(f"Baselines are fitted to {len(training):,} cells.")
    return Chosen(context.cells[training], context.cells[judged], tuple(notes))


def known_n(schema: Schema, obs: pd.DataFrame, besides: str = "") -> NDArray[np.bool_]:
    """Say which cells have conditions that a model knows, whatever they have of one field."""
    known = np.ones(len(obs), dtype=bool)
    for field in schema.categorical:
        if not field.unknown and field.name != besides:
            known &= _among(field, obs[field.name])
    for number in schema.continuous:
        known &= np.isfinite(pd.to_numeric(obs[number.name], errors="coerce").to_numpy(dtype=np.float64))
    return known


def _among(field: Categorical, column: pd.Series[Any]) -> NDArray[np.bool_]:
    def is_known(word: object) -> bool:
        try:
            field.code(word)
        except CategoryError:
            return False
        return True

    words = column.astype(object)
    known = {word: is_known(word) for word in words.dropna().unique()}
    return np.asarray([bool(known.get(word, False)) for word in words])


def sample(which_n: NDArray[np.bool_], n_most: int, seed: int) -> NDArray[np.int64]:
    """Return the rows that are marked, in order; some of them, drawn with a seed, where there are more than asked."""
    rows = np.flatnonzero(which_n)
    if len(rows) > n_most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, n_most, replace=False))
    return rows
