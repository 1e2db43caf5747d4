"""The response of groups of cells to a target condition, anchored on what was measured in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.schema import Categorical, Schema
from genevae.data.states import dose_text, state_table
from genevae.errors import DataError
from genevae.metrics.response import log_normalised
from genevae.models.vae import VAE
from genevae.responses.answer import MODEL_MEMBERS, Answer, Request, Responses
from genevae.responses.link import mean_after_shift
from genevae.responses.profiles import Profiles, text_of
from genevae.responses.simple import similarity
from genevae.tasks.condition import TargetCondition, parse_condition
from genevae.tasks.inference import TrainedModel, on_device
from genevae.tasks.quantile_map import quantile_mapped

__all__ = [
    "Group",
    "GroupAnswer",
    "answer_of",
    "answers_of",
    "evenly_spaced",
    "groups_of",
    "logged",
    "model_shifts",
    "set_fields",
]  # fmt: skip

Numbers = NDArray[np.float64]

MAX_CELLS, MIN_CELLS, ALL_CELLS = 300, 50, 6_000
"""Cells of a group that the model's shift is computed from, at most and at least, and of all groups about."""
WIDTH = 0.4
"""Width of the similarity of contexts in latent arithmetic."""


@dataclass(frozen=True, eq=False)
class Group:
    """Cells with the same context and the same categories in the fields that are set.

    Parameters
    ----------
    context, source
        The context, and the level that the cells have.
    row_n
        Their rows.
    mean_g, variance_g
        Mean and variance of their expression on a log scale.
    level_g
        Mean of their expression in the units of answers.
    values
        The category of each field of the context.
    """

    context: str
    source: str
    row_n: NDArray[np.int64]
    mean_g: Numbers
    variance_g: Numbers
    level_g: Numbers
    values: Mapping[str, str]

    def level_after(self, shift_g: Numbers, counts: bool) -> Numbers:
        """Return the mean of the cells after a shift on the log scale, in the units of answers."""
        return mean_after_shift(self.level_g, self.mean_g, shift_g) if counts else self.level_g + shift_g

    @property
    def noise_g(self) -> Numbers:
        """The sampling variance of the mean."""
        return self.variance_g / max(len(self.row_n) - 1, 1)


@dataclass(frozen=True, eq=False)
class GroupAnswer:
    """A group, and the answer for it."""

    group: Group
    answer: Answer

    @property
    def name(self) -> str:
        """Return the context and the source level, such as "B (ctrl)"."""
        return f"{self.group.context} ({self.group.source})" if self.group.context else self.group.source


def logged(schema: Schema, x_ng: Any) -> Numbers:
    """Bring expression in the units of answers to a log scale: counts are log-normalised, other values stay."""
    return np.asarray(log_normalised(x_ng) if schema.output_kind.is_count else x_ng, dtype=np.float64)


def answers_of(
    model: TrainedModel, module: VAE, cells: Loader, condition: Mapping[str, object], answer: str, interval: float
) -> list[GroupAnswer]:
    """Predict the response of every group of cells. Empty where the model has no profiles of these conditions.

    Parameters
    ----------
    model, module
        A trained model, and its module in evaluation mode.
    cells
        The cells, in the units that the model is given.
    condition
        The fields that are set, with their values.
    answer
        "auto" for all members, weighted, or the name of one.
    interval
        Share of the intervals that hold the shift.

    Raises
    ------
    CategoryError
        If there is no such member.
    """
    fields = set_fields(model, condition)
    if not fields or answer == "model":
        return []
    assert model.responses is not None  # noqa: S101 - there are fields
    groups = groups_of(cells, model.responses.profiles.contexts(fields), fields)
    return [answer_of(model, module, cells, group, condition, answer, interval, len(groups)) for group in groups]


def set_fields(model: TrainedModel, condition: Mapping[str, object]) -> tuple[str, ...]:
    """Return the fields that are set and of which the model has profiles."""
    return () if model.responses is None else tuple(f for f in model.responses.profiles.fields if f in condition)


def answer_of(
    model: TrainedModel, module: VAE, cells: Loader, group: Group, condition: Mapping[str, object], answer: str,
    interval: float, n_groups: int = 1, contexts: tuple[str, ...] | None = None,
) -> GroupAnswer:  # fmt: skip
    """Predict the response of one group of cells.

    Parameters
    ----------
    model, module, cells, condition, answer, interval
        As for :func:`answers_of`.
    group
        The group.
    n_groups
        The number of groups: the more, the fewer cells of each the model's shift is computed from.
    contexts
        The fields that contexts are combinations of, by default all that there are.
    """
    responses, fields = model.responses, set_fields(model, condition)
    if responses is None or not fields or answer == "model":
        return _by_model(model, module, cells, group, condition)
    level, dose = _target(model.schema, responses, condition, fields)
    request = Request(
        fields, group.context, group.source, level, group.mean_g, group.noise_g, len(group.row_n), dose,
        contexts=contexts,
    )  # fmt: skip
    if answer == "auto" and level != group.source and not responses.describes(request):
        return _by_model(model, module, cells, group, condition)
    n_cells = int(np.clip(ALL_CELLS // max(n_groups, 1), MIN_CELLS, MAX_CELLS))
    some = cells.over(InOrder(evenly_spaced(group.row_n, n_cells), 512))
    target = parse_condition(model.schema, condition)
    request = replace(request, model=partial(model_shifts, module, some, target, responses.profiles, request))
    return GroupAnswer(group, responses.answer(request, interval, None if answer == "auto" else answer))


def _by_model(
    model: TrainedModel, module: VAE, cells: Loader, group: Group, condition: Mapping[str, object]
) -> GroupAnswer:
    """Return the answer of the model alone, of which nothing says how far off it is."""
    some = cells.over(InOrder(evenly_spaced(group.row_n, MAX_CELLS), 512))
    shifts = model_shifts(module, some, parse_condition(model.schema, condition))
    unknown_g = np.full(len(group.mean_g), np.nan)
    return GroupAnswer(group, Answer(shifts["model"], unknown_g, unknown_g, {"model": 1.0}, shifts))


def _target(
    schema: Schema, responses: Responses, condition: Mapping[str, object], fields: Sequence[str]
) -> tuple[str, tuple[str, float] | None]:
    """Return the level that is set, as text, and the dose in it; categories are named as the schema does.

    Dose zero of a drug is the control.
    """
    values, dose = {}, None
    for name in fields:
        covariate = schema[name]
        if isinstance(covariate, Categorical):
            values[name] = covariate.labels[covariate.code(condition[name])]
        else:
            dose = (name, float(str(condition[name])))
            values[name] = dose_text(dose[1])
    if dose is not None and dose[1] == 0 and all(name in responses.control for name in fields):
        return text_of(responses.control, fields), None
    return text_of(values, fields), dose


def groups_of(cells: Loader, contexts: Sequence[str], fields: Sequence[str], by: Sequence[str] = ()) -> list[Group]:
    """Read all cells once, and return the groups with their means and variances.

    Parameters
    ----------
    cells
        The cells.
    contexts, fields
        The columns that contexts are combinations of, and the fields that are set.
    by
        More columns in which the cells of a group agree.
    """
    if not cells.sampler.n_cells:
        raise DataError(f"{cells.source.name} has no cells.")
    more = [name for name in by if name not in contexts]
    table = state_table(cells.source.obs, cells.schema, [*contexts, *fields, *more]).iloc[cells.sampler.rows]
    code_n, keys = pd.factorize(pd.MultiIndex.from_frame(table))
    total = np.zeros((3, len(keys), len(cells.schema.genes)))
    at = 0
    for minibatch in cells:
        size_n1 = minibatch.condition.size_n1
        x_ng = cells.schema.transform.invert(minibatch.x.dense(), size_n1).double().cpu().numpy()
        log_ng = logged(cells.schema, x_ng)
        code_m, at = code_n[at : at + len(x_ng)], at + len(x_ng)
        for row, values_ng in enumerate((log_ng, np.square(log_ng), x_ng)):
            add_by_code(total[row], code_m, values_ng)
    mean_cg, square_cg, level_cg = total / np.bincount(code_n, minlength=len(keys))[:, None]
    found = []
    for code, key in enumerate(keys):
        named = dict(zip([*contexts, *fields, *more], key, strict=True))
        context, source = text_of(named, contexts), text_of(named, fields)
        variance_g = np.maximum(square_cg[code] - np.square(mean_cg[code]), 0)
        values = {name: value for name, value in named.items() if name not in fields}
        row_n = cells.sampler.rows[code_n == code]
        found.append(Group(context, source, row_n, mean_cg[code], variance_g, level_cg[code], values))
    return found


def add_by_code(total_cg: Numbers, code_n: NDArray[np.int64], x_ng: Numbers) -> None:
    """Add the sum of the rows of each code to a total, in place."""
    for code in np.unique(code_n):
        total_cg[code] += x_ng[code_n == code].sum(0)


def evenly_spaced(row_n: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return evenly spaced rows."""
    return row_n[np.unique(np.linspace(0, len(row_n) - 1, min(n, len(row_n))).round().astype(np.int64))]


def model_shifts(
    module: VAE,
    cells: Loader,
    target: TargetCondition,
    profiles: Profiles | None = None,
    request: Request | None = None,
) -> dict[str, Numbers]:
    """Return the shifts that a model predicts for cells: decoded in the target, and with latent arithmetic too.

    Parameters
    ----------
    module
        The model, in evaluation mode.
    cells
        Some cells of a group.
    target
        The target condition.
    profiles, request
        The latent means of the training cells, and the context and the levels, for latent arithmetic.
    """
    schema = cells.schema
    shift_k = None if profiles is None or request is None else _latent_shift(profiles, request)
    sums = np.zeros((1 + len(MODEL_MEMBERS), len(schema.genes)))
    n = 0
    for minibatch in on_device(module, cells):
        source = module.sized(minibatch)
        z_nk = module.posterior(minibatch).mean
        p, size_n1 = module.likelihood(z_nk, source), source.size_n1
        x_ng = schema.transform.invert(minibatch.x.dense(), size_n1)
        latents = [z_nk] if shift_k is None else [z_nk, z_nk + torch.from_numpy(shift_k).to(z_nk)]
        found = [
            quantile_mapped(
                schema,
                minibatch,
                p,
                module.likelihood(z, target.apply(source)),
                size_n1,
                number_n=torch.arange(n, n + minibatch.n_cells, device=z.device),
            )
            for z in latents
        ]
        for row, values in enumerate([x_ng, *found]):
            sums[row] += logged(schema, values.double().cpu().numpy()).sum(0)
        n += minibatch.n_cells
    names = MODEL_MEMBERS[: 1 if shift_k is None else 2]
    return {name: (sums[row] - sums[0]) / n for row, name in enumerate(names, 1)}


def _latent_shift(profiles: Profiles, request: Request) -> Numbers | None:
    """Return the mean shift of other contexts in the latent, weighted by the similarity of their profiles."""
    view = profiles.view(request.fields, request.contexts)
    contexts = view.alike(request.source, request.target, request.context)
    if not contexts:
        return None
    weight_m = similarity([view.mean[c, request.source] for c in contexts], request.reference_g, WIDTH)
    shift_mk = [view.latent[c, request.target] - view.latent[c, request.source] for c in contexts]
    return np.asarray(weight_m @ np.stack(shift_mk))
