"""The response of groups of cells to a target condition, anchored on what was measured in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import Cells
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.schema import Categorical, Schema
from genevae.data.states import dose_text, state_table
from genevae.data.value_kind import Kind
from genevae.distributions import ExpressionDistribution, Poisson
from genevae.errors import CategoryError, nearest
from genevae.metrics.response import log_normalised
from genevae.models.vae import VAE
from genevae.responses.answer import FEWEST, LEAST_ALIKE, MODEL_MEMBERS, Answer, Request, Responses
from genevae.responses.link import mean_after_shift
from genevae.responses.profiles import SEPARATOR, Profiles
from genevae.responses.simple import similarity
from genevae.tasks.condition import TargetCondition, parse_condition
from genevae.tasks.inference import TrainedModel, on_device

__all__ = [
    "Anchor", "Group", "GroupAnswer", "answer_of", "answers_of", "groups_of", "logged", "model_shifts",
    "quantile_mapped", "set_fields", "spread",
]  # fmt: skip

Numbers = NDArray[np.float64]

MAX_CELLS, MIN_CELLS, ALL_CELLS = 300, 50, 6_000
"""Cells of a group that the model's shift is computed from, at most and at least, and of all groups about."""
N_STEPS, TOLERANCE = 12, 0.002
"""Steps to the factor of a gene at which its mean is as wanted, at most, and how near is near enough."""
MAX_STEP, MAX_LOG = 2.0, 8.0
"""The largest step, and the largest factor, as natural logarithms."""
FIT_CELLS = 1_000
"""Cells of a group that factors are fitted to, at most."""
SMALLEST = 1e-4
TARGET = 1e4
"""Size of log-normalised cells."""
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
        """Return the context, or the source where there is none."""
        return self.group.context or self.group.source


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
    if level != group.source and (answer in MODEL_MEMBERS or (answer == "auto" and responses.needs_model(request))):
        n_cells = int(np.clip(ALL_CELLS // max(n_groups, 1), MIN_CELLS, MAX_CELLS))
        some = cells.over(InOrder(spread(group.row_n, n_cells), 512))
        shifts = model_shifts(module, some, parse_condition(model.schema, condition), responses.profiles, request)
        request = replace(request, model=shifts)
    try:
        return GroupAnswer(group, responses.answer(request, interval, None if answer == "auto" else answer))
    except KeyError:
        known = ["auto", *MODEL_MEMBERS, *responses.member_names(request)]
        raise CategoryError(
            f"There is no answer '{answer}' for '{group.context or 'these cells'}'. {nearest(answer, known)}"
        ) from None


def _by_model(
    model: TrainedModel, module: VAE, cells: Loader, group: Group, condition: Mapping[str, object]
) -> GroupAnswer:
    """Return the answer of the model alone, of which nothing says how far off it is."""
    some = cells.over(InOrder(spread(group.row_n, MAX_CELLS), 512))
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
        return responses.profiles.level(responses.control, fields), None
    return responses.profiles.level(values, fields), dose


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
        for code in np.unique(code_m):
            here = code_m == code
            total[0, code] += log_ng[here].sum(0)
            total[1, code] += np.square(log_ng[here]).sum(0)
            total[2, code] += x_ng[here].sum(0)
    mean_cg, square_cg, level_cg = total / np.bincount(code_n, minlength=len(keys))[:, None]
    found = []
    for code, key in enumerate(keys):
        named = dict(zip([*contexts, *fields, *more], key, strict=True))
        context, source = (SEPARATOR.join(named[name] for name in names) for names in (contexts, fields))
        variance_g = np.maximum(square_cg[code] - np.square(mean_cg[code]), 0)
        values = {name: value for name, value in named.items() if name not in fields}
        row_n = cells.sampler.rows[code_n == code]
        found.append(Group(context, source, row_n, mean_cg[code], variance_g, level_cg[code], values))
    return found


def spread(row_n: NDArray[np.int64], n: int) -> NDArray[np.int64]:
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
            quantile_mapped(schema, minibatch, p, module.likelihood(z, target.apply(source)), size_n1) for z in latents
        ]
        for row, values in enumerate([x_ng, *found]):
            sums[row] += logged(schema, values.double().cpu().numpy()).sum(0)
        n += minibatch.n_cells
    names = MODEL_MEMBERS[: 1 if shift_k is None else 2]
    return {name: (sums[row] - sums[0]) / n for row, name in enumerate(names, 1)}


def _latent_shift(profiles: Profiles, request: Request) -> Numbers | None:
    """Return the mean shift of other contexts in the latent, weighted by the similarity of their profiles."""
    view = profiles.view(request.fields, request.contexts)
    contexts = [
        context
        for context, level in view.mean
        if level == request.target and context != request.context and (context, request.source) in view.mean
    ]
    if not contexts:
        return None
    large = [c for c in contexts if min(view.n[c, request.target], view.n[c, request.source]) >= FEWEST]
    contexts = large if len(large) >= LEAST_ALIKE else contexts
    weight_m = similarity([view.mean[c, request.source] for c in contexts], request.reference_g, WIDTH)
    shift_mk = [view.latent[c, request.target] - view.latent[c, request.source] for c in contexts]
    return np.asarray(weight_m @ np.stack(shift_mk))


def quantile_mapped(
    schema: Schema, cells: Cells, source: ExpressionDistribution, target: ExpressionDistribution, size_n1: Tensor,
    scale_g: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Map the cells from the source to the target distribution at equal ranks, in the units of the result.

    If the model has no noise model for counts, they are taken as Poisson around its expectation. A gene that was not
    measured has no rank, and is sampled from the target.

    Parameters
    ----------
    scale_g
        What the means of counts in the target are multiplied by; or, for other values, what is added to them.
    """
    invert, counts = partial(schema.transform.invert, size_n1=size_n1), schema.output_kind.is_count
    x_ng = cells.x.dense()
    if not schema.has_noise_model:
        x_ng, source, target = (
            invert(x_ng).round(),
            *(Poisson(invert(p.mean), validate_args=False) for p in (source, target)),
        )
    if counts and scale_g is not None:
        target = target.scaled(scale_g)
    mapped_ng = source.quantile_map(x_ng, target, ranks_within(cells.row_n, x_ng.shape[1]))
    measured_ng = cells.condition.measured_ng
    if measured_ng is not None:
        mapped_ng = torch.where(measured_ng, mapped_ng, target.sample().to(mapped_ng))
    mapped_ng = invert(mapped_ng) if schema.has_noise_model else mapped_ng
    return mapped_ng if counts or scale_g is None else mapped_ng + scale_g


def ranks_within(row_n: Tensor, n_genes: int) -> Tensor:
    """Return uniform numbers, ``n, g``, that depend on the row of the cell and the gene alone.

    u = frac(row · α_g + β_g), with random α and β: over the cells of a gene they are evenly spread, so that the mean of
    a gene over mapped cells varies less than with independent numbers; any two genes are independent.
    """
    generator = torch.Generator().manual_seed(0)
    alpha_g, beta_g = torch.rand(2, n_genes, dtype=torch.float64, generator=generator).to(row_n.device)
    uniform_ng: Tensor = (row_n.double().unsqueeze(-1) * alpha_g + beta_g) % 1
    return uniform_ng


class Anchor:
    """What brings the mean of quantile-mapped cells to the measured mean plus the predicted shift, for every group.

    Parameters
    ----------
    module
        The model, in evaluation mode.
    cells
        The cells.
    target
        The target condition.
    found
        The answers; each cell is in one group at most.
    """

    def __init__(self, module: VAE, cells: Loader, target: TargetCondition, found: Sequence[GroupAnswer]) -> None:
        self.found = found
        n_cells = int(np.clip(ALL_CELLS // max(len(found), 1), MIN_CELLS, FIT_CELLS))
        self.schema = cells.schema
        self._group_n = np.full(len(cells.source), len(found))
        rows = []
        for number, one in enumerate(found):
            self._group_n[one.group.row_n] = number
            row_n = spread(one.group.row_n, n_cells)
            some = cells.over(InOrder(row_n, len(row_n)))
            rows.append(_scale(module, some, target, one))
        self.scale_cg = torch.stack([*rows, torch.full_like(rows[0], float(self.counts))])

    @property
    def counts(self) -> bool:
        """Whether means are multiplied; otherwise something is added to them."""
        return self.schema.output_kind.is_count

    def scale_ng(self, cells: Cells) -> Tensor:
        """Return what the mean of each cell and gene is multiplied by, or what is added."""
        return self._rows(self.scale_cg, cells)

    def ends_ng(self, cells: Cells) -> tuple[Tensor, Tensor]:
        """Return the same at the ends of the interval of the shift, relative to its middle."""
        return tuple(self._rows(end_cg, cells) for end_cg in self._ends_cg)  # type: ignore[return-value]

    def _rows(self, of_cg: Tensor, cells: Cells) -> Tensor:
        number_n = torch.from_numpy(self._group_n[cells.row_n.cpu().numpy()]).to(cells.condition.size_n1.device)
        return of_cg.to(cells.condition.size_n1)[number_n]

    @cached_property
    def _ends_cg(self) -> tuple[Tensor, Tensor]:
        ends = []
        for sign in (-1, 1):
            rows = []
            for one in self.found:
                end_g = one.answer.shift_g + sign * np.nan_to_num(one.answer.half_width_g)
                middle_g, end_g = (one.group.level_after(x, self.counts) for x in (one.answer.shift_g, end_g))
                row_g = (end_g + SMALLEST) / (middle_g + SMALLEST) if self.counts else end_g - middle_g
                rows.append(torch.from_numpy(row_g))
            ends.append(torch.stack([*rows, torch.full_like(rows[0], float(self.counts))]))
        return ends[0], ends[1]


def _ratio(before_g: Numbers, after_g: Numbers) -> Numbers:
    """Return the ratio of expression between two means of log-normalised values, at least zero."""
    return np.asarray((np.expm1(after_g.clip(min=0)) + SMALLEST) / (np.expm1(before_g.clip(min=0)) + SMALLEST))


def _scale(module: VAE, cells: Loader, target: TargetCondition, one: GroupAnswer) -> Tensor:
    """Find what the mean of every gene is multiplied by, or what is added, so that cells have the mean wanted."""
    schema = cells.schema
    (minibatch,) = on_device(module, cells)
    source = module.sized(minibatch)
    z_nk = module.posterior(minibatch).mean
    p, q = module.likelihood(z_nk, source), module.likelihood(z_nk, target.apply(source))
    x_ng = schema.transform.invert(minibatch.x.dense(), source.size_n1)
    wanted_g = logged(schema, x_ng.double().cpu().numpy()).mean(0) + one.answer.shift_g  # of these cells
    if not schema.output_kind.is_count:
        mapped_ng = quantile_mapped(schema, minibatch, p, q, source.size_n1).double().cpu().numpy()
        return torch.from_numpy(_offset(mapped_ng, wanted_g, schema.output_kind is Kind.LOG))
    if not schema.has_noise_model:
        x_ng = x_ng.round()
        p, q = (Poisson(schema.transform.invert(d.mean, source.size_n1), validate_args=False) for d in (p, q))
    return _factor(x_ng, p, q, ranks_within(minibatch.row_n, x_ng.shape[1]), wanted_g.clip(min=0))


def _offset(mapped_ng: Numbers, wanted_g: Numbers, not_negative: bool) -> Numbers:
    """Return what is added to each gene, where values below zero may become zero afterwards."""
    offset_g = wanted_g - mapped_ng.mean(0)
    for _ in range(N_STEPS if not_negative else 0):
        offset_g = offset_g + wanted_g.clip(min=0) - (mapped_ng + offset_g).clip(min=0).mean(0)
    return np.asarray(offset_g)


def _factor(
    x_ng: Tensor, p: ExpressionDistribution, q: ExpressionDistribution, uniform_ng: Tensor, wanted_g: Numbers
) -> Tensor:
    """Return what the means of q are multiplied by, so that counts mapped from p to it have the wanted log mean.

    The mean rises with the factor. A step multiplies by the ratio of the wanted to the present mean until the factor is
    between two ends, and is then a line between them (false position, where an end that stays counts half); a step that
    leaves the bracket goes to its middle. Only genes that are not there yet are mapped again, with the same ranks.
    """
    per_size_n1 = TARGET / x_ng.double().sum(1, keepdim=True).clamp(min=1).cpu().numpy()  # that of the cells themselves
    mapped_ng = p.quantile_map(x_ng, q, uniform_ng)
    log_g = np.zeros(len(wanted_g))
    low_g, high_g = np.full((2, len(wanted_g)), [[-MAX_LOG], [MAX_LOG]])
    at_low_g, at_high_g = np.full((2, len(wanted_g)), np.nan)
    above_g = np.zeros(len(wanted_g), dtype=bool)
    best_g, least_g = log_g.copy(), np.full(len(wanted_g), np.inf)
    for _ in range(N_STEPS):
        off_g = np.log1p(mapped_ng.double().cpu().numpy() * per_size_n1).mean(0) - wanted_g
        better_g = np.abs(off_g) < least_g
        best_g, least_g = np.where(better_g, log_g, best_g), np.where(better_g, np.abs(off_g), least_g)
        stays_g, above_g = np.where((off_g > 0) == above_g, 0.5, 1.0), off_g > 0
        high_g, low_g = np.where(above_g, log_g, high_g), np.where(above_g, low_g, log_g)
        at_high_g = np.where(above_g, off_g, stays_g * at_high_g)
        at_low_g = np.where(above_g, stays_g * at_low_g, off_g)
        genes = np.flatnonzero(np.abs(off_g) > TOLERANCE)
        if not len(genes):
            break
        step_g = np.log(_ratio(wanted_g + off_g, wanted_g)).clip(-MAX_STEP, MAX_STEP)
        line_g = low_g + (high_g - low_g) * at_low_g / (at_low_g - at_high_g)  # NaN until both ends are known
        next_g = np.where(np.isnan(line_g), log_g + step_g, line_g)
        next_g = np.where((next_g > low_g) & (next_g < high_g), next_g, (low_g + high_g) / 2)
        log_g[genes] = next_g[genes]
        columns = torch.from_numpy(genes).to(x_ng.device)
        before, after = (d.map(partial(_columns, columns=columns)) for d in (p, q))
        after = after.scaled(torch.from_numpy(np.exp(log_g[genes])).to(x_ng))
        mapped_ng[:, columns] = before.quantile_map(x_ng[:, columns], after, uniform_ng[:, columns]).to(mapped_ng)
    return torch.from_numpy(np.exp(best_g))


def _columns(parameter: Tensor, columns: Tensor) -> Tensor:
    """Return the columns of a parameter of all genes."""
    return parameter[..., columns] if parameter.ndim and parameter.shape[-1] > 1 else parameter
