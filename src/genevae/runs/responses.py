"""What a run keeps to answer "what if": training profiles, and predictions of states that models did not see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.data.covariates import JOIN
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.schema import Schema
from genevae.data.split import Split
from genevae.data.states import dose_text, state_fields, state_table
from genevae.models.vae import VAE
from genevae.progress import progress as shown_progress
from genevae.responses.answer import Request, Responses
from genevae.responses.profiles import Profiles, text_of
from genevae.runs.prepare import Prepared
from genevae.tasks.condition import parse_condition
from genevae.tasks.response import add_by_code, evenly_spaced, logged, model_shifts

__all__ = ["States", "fit_responses"]

N_FOLDS = 3
"""Models that are trained without some states, by default."""

MAX_CELLS = 1_000
"""Cells of a state that its profile is computed from, at most."""
MAX_ROWS = 200_000
"""Cells of all states that are read, about; fifty of each at least."""
MAX_NUMBERS = 50_000_000
"""States × genes, at most: the states with most cells are kept."""
SOME_CELLS = 300
"""Control cells from which a model's shift of a state is computed, at most."""
LEAST_CELLS = 20
"""Cells of a state that a model is trained without, at least."""


@dataclass(frozen=True, eq=False)
class States:
    """The states of all cells.

    Parameters
    ----------
    fields
        The columns that states are combinations of.
    keys
        Their categories, for each state.
    code_n
        The state of each cell.
    """

    fields: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    code_n: NDArray[np.int64]

    @classmethod
    def of(cls, obs: pd.DataFrame, schema: Schema, fields: tuple[str, ...]) -> States:
        """Return the states of a table, which are combinations of these columns."""
        code_n, keys = pd.factorize(pd.MultiIndex.from_frame(state_table(obs, schema, fields)), sort=True)
        names = tuple(tuple(map(str, key if isinstance(key, tuple) else (key,))) for key in keys)
        return cls(fields, names, np.asarray(code_n, dtype=np.int64))

    def values(self, state: int) -> dict[str, str]:
        """Return the categories of a state by field."""
        return dict(zip(self.fields, self.keys[state], strict=True))

    def rows(self, state: int, among: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of a state among some rows."""
        return np.asarray(among[self.code_n[among] == state])


def training_profiles(module: VAE, cells: Loader, states: States, split: Split, device: torch.device) -> Profiles:
    """Return the mean and variance of every state over its training cells, and its mean in the latent.

    Parameters
    ----------
    module
        The model with its final weights.
    cells
        A loader of the data.
    states, split
        The state of every cell, and which cells were trained on.
    device
        Where the model is.
    """
    rng, module = np.random.default_rng(0), module.eval()
    count_m = np.bincount(states.code_n[split.train], minlength=len(states.keys))
    most = max(1, MAX_NUMBERS // len(cells.schema.genes))
    kept = np.sort(np.argsort(-count_m, kind="stable")[:most])
    kept = kept[count_m[kept] > 0]
    by_state = split.train[np.argsort(states.code_n[split.train], kind="stable")]
    end_m = np.cumsum(count_m)
    rows = [by_state[end_m[m] - count_m[m] : end_m[m]] for m in kept]
    most = int(np.clip(MAX_ROWS // len(rows), 50, MAX_CELLS))
    rows = [row_n if len(row_n) <= most else rng.choice(row_n, most, replace=False) for row_n in rows]
    place_n = np.full(len(states.code_n), -1)
    place_n[states.code_n >= 0] = np.searchsorted(kept, states.code_n).clip(max=len(kept) - 1)
    sum_mg, square_mg = np.zeros((2, len(kept), len(cells.schema.genes)))
    latent_mk: NDArray[np.float64] | None = None
    for minibatch in cells.over(InOrder(np.sort(np.concatenate(rows)), 512)):
        at_n = place_n[minibatch.row_n.numpy()]
        z_nk = _latents(module, minibatch.to(device)).double().cpu().numpy()
        x_ng = logged(cells.schema, cells.schema.transform.invert(minibatch.x.dense(), minibatch.condition.size_n1))
        latent_mk = np.zeros((len(kept), z_nk.shape[1])) if latent_mk is None else latent_mk
        for total, values in ((latent_mk, z_nk), (sum_mg, x_ng), (square_mg, np.square(x_ng))):
            add_by_code(total, at_n, values)
    n_m = np.array([len(row_n) for row_n in rows])
    mean_mg = sum_mg / n_m[:, None]
    variance_mg = np.maximum(square_mg / n_m[:, None] - np.square(mean_mg), 0)
    assert latent_mk is not None  # noqa: S101 - there is a training cell
    return Profiles(
        states.fields, tuple(states.keys[m] for m in kept), n_m, mean_mg.astype(np.float32),
        variance_mg.astype(np.float32), (latent_mk / n_m[:, None]).astype(np.float32),
    )  # fmt: skip


@torch.no_grad()
def _latents(module: VAE, cells: object) -> Tensor:
    return module.posterior(cells).mean  # type: ignore[arg-type]


def control_levels(schema: Schema) -> dict[str, str]:
    """Return the control level of each condition that has one; dose zero for doses, where there is a control."""
    control = {c.name: c.control for c in schema.categorical if c.control is not None}
    return {**control, **({c.name: dose_text(0) for c in schema.continuous} if control else {})}


@dataclass(frozen=True)
class LeftOut:
    """A state that a model is trained without.

    Parameters
    ----------
    state, start
        The state, and the control state of its context.
    fields
        The fields in which the two differ, or might.
    """

    state: int
    start: int
    fields: tuple[str, ...]


def folds_of(states: States, schema: Schema, split: Split, n_folds: int) -> list[list[LeftOut]]:
    """Divide the perturbed states that a model can predict without having seen them.

    These are states whose level was also seen in another context, or is a combination of levels that were seen. States
    of one level are in different folds as far as possible. Where a level is known by a vector, any can be predicted,
    and all states of one level are in one fold: how well a level is predicted that was never seen.

    Parameters
    ----------
    states
        The state of every cell.
    schema
        With the control levels.
    split
        The training cells.
    n_folds
        How many folds.
    """
    control = control_levels(schema)
    fields = tuple(name for name in states.fields if name in control)
    if not fields or n_folds < 1:
        return []
    place = {key: m for m, key in enumerate(states.keys)}
    count_m = np.bincount(states.code_n[split.train], minlength=len(states.keys))
    levels = [tuple(states.values(m)[name] for name in fields) for m in range(len(states.keys))]
    embedded = schema.vectors_by_category.get(fields[0], {}) if len(fields) == 1 else {}
    vectors = {(level,) for level in embedded}
    n_seen = Counter(level for level, count in zip(levels, count_m, strict=True) if count)
    found: list[LeftOut] = []
    for m, level in enumerate(levels):
        start = place.get(tuple({**states.values(m), **{name: control[name] for name in fields}}.values()), m)
        known = level in vectors or _predictable(level, n_seen)
        if start != m and min(count_m[m], count_m[start]) >= LEAST_CELLS and known:
            found.append(LeftOut(m, start, fields))
    found.sort(key=lambda one: (tuple(states.values(one.state)[name] for name in fields), states.keys[one.state]))
    if vectors:
        order = {level: at for at, level in enumerate(dict.fromkeys(levels[one.state] for one in found))}
        folds = [[one for one in found if order[levels[one.state]] % n_folds == number] for number in range(n_folds)]
    else:
        folds = [found[number::n_folds] for number in range(n_folds)]
    return [fold for fold in folds if fold] if len(found) > 1 else []


def _predictable(level: tuple[str, ...], n_seen: Mapping[tuple[str, ...], int]) -> bool:
    """Return whether another context has a level too, or it is a combination of which each part was seen."""
    if n_seen[level] > 1:
        return True
    seen_f = [set(categories) for categories in zip(*n_seen, strict=True)]
    parts = [(at, part) for at, category in enumerate(level) if JOIN in category for part in category.split(JOIN)]
    return bool(parts) and all(part in seen_f[at] for at, part in parts)


def left_out_shifts(
    fold: Sequence[LeftOut],
    states: States,
    split: Split,
    train: Callable[[Split], tuple[VAE, Loader]],
    device: torch.device,
) -> dict[tuple[str, ...], dict[str, NDArray[np.float64]]]:
    """Train a model without the states of a fold, and return the shifts from control that it predicts for them.

    Parameters
    ----------
    fold
        The states.
    states, split
        The state of every cell, and the split of the whole fit.
    train
        Trains on a split, and returns the model and a loader of the data.
    device
        Where the model is.
    """
    gone = np.isin(states.code_n, [one.state for one in fold])
    part = Split(*(rows[~gone[rows]] for rows in (split.train, split.validation, split.test)))
    module, cells = train(part)
    kept = training_profiles(module, cells, states, part, device)
    found = {}
    with torch.no_grad():
        for one in fold:
            key, values = states.keys[one.state], states.values(one.state)
            request = _request(kept, states, one)
            some = evenly_spaced(states.rows(one.start, part.train), SOME_CELLS)
            target = parse_condition(cells.schema, {name: values[name] for name in one.fields})
            shifts = model_shifts(module, cells.over(InOrder(some, 512)), target, kept, request)
            found[key] = {name: x.astype(np.float32).astype(np.float64) for name, x in shifts.items()}  # as files keep
    return found


def _request(kept: Profiles, states: States, one: LeftOut) -> Request:
    """Return the request to the model for a state that was left out."""
    wanted = states.values(one.state)
    context, source = text_of(wanted, kept.contexts(one.fields)), text_of(states.values(one.start), one.fields)
    view = kept.view(one.fields)
    return Request(
        one.fields, context, source, text_of(wanted, one.fields), view.mean[context, source],
        view.variance[context, source], view.n[context, source],
    )  # fmt: skip


def fit_responses(
    module: VAE,
    prepared: Prepared,
    cells: Loader,
    context: Sequence[str],
    n_folds: int | None,
    train_on: Callable[[Split], tuple[VAE, Loader]],
    device: torch.device,
    stopped: Callable[[], bool],
    progress: bool,
) -> Responses | None:
    """Compute the profiles of the training cells, and train models without some of their states.

    Parameters
    ----------
    module
        The model with its final weights.
    prepared, cells
        The data, their split, and a loader.
    context
        Obs columns that are contexts, besides the conditions.
    n_folds
        How many models are trained without some states; None for the default.
    train_on
        Trains a model on a split.
    device
        Where the models are.
    stopped
        Whether a signal has requested a stop: no more models are trained then.
    progress
        Whether to show a bar.
    """
    schema, split = prepared.schema, prepared.split
    obs = prepared.source.obs
    fields = state_fields(schema, context, obs)
    if not fields:
        return None
    profiles = training_profiles(module, cells, States.of(obs, schema, fields), split, device)
    control = control_levels(schema)
    varied = tuple(name for name in fields if name in control)
    states = States.of(obs, schema, (*profiles.contexts(varied), *varied))
    folds = folds_of(states, schema, split, N_FOLDS if n_folds is None else n_folds)
    left_out: dict[tuple[str, ...], Mapping[str, NDArray[np.float64]]] = {}
    with shown_progress("training without some states", len(folds), progress) as advance:
        for fold in folds:
            found = {} if stopped() else left_out_shifts(fold, states, split, train_on, device)
            if stopped():
                break
            left_out |= found
            advance(1)
    return Responses(profiles, control, states.fields, left_out, schema.vectors_by_category)
