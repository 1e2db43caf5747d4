"""Quantile-mapped cells whose mean is what was measured plus the predicted shift."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import Cells
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder
from genevae.data.value_kind import Kind
from genevae.distributions import ExpressionDistribution
from genevae.metrics.response import LOG_SIZE
from genevae.models.vae import VAE
from genevae.tasks.condition import TargetCondition
from genevae.tasks.inference import on_device
from genevae.tasks.quantile_map import quantile_mapped, ranks_within, with_noise
from genevae.tasks.response import ALL_CELLS, MIN_CELLS, GroupAnswer, evenly_spaced, logged

__all__ = ["Anchor"]

Numbers = NDArray[np.float64]

N_STEPS, TOLERANCE = 12, 0.002
"""Steps to the factor of a gene at which its mean is as wanted, at most, and how near is near enough."""
MAX_STEP, MAX_LOG = 2.0, 8.0
"""The largest step, and the largest factor, as natural logarithms."""
FIT_CELLS = 1_000
"""Cells of a group that factors are fitted to, at most."""
SMALLEST = 1e-4
"""Added to expression before ratios are taken."""


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
            row_n = evenly_spaced(one.group.row_n, n_cells)
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
    if not one.answer.shift_g.any():  # cells in their own condition
        return torch.full((len(schema.genes),), float(schema.output_kind.is_count), dtype=torch.float64)
    (minibatch,) = on_device(module, cells)
    source = module.sized(minibatch)
    z_nk = module.posterior(minibatch).mean
    p, q = module.likelihood(z_nk, source), module.likelihood(z_nk, target.apply(source))
    x_ng = schema.transform.invert(minibatch.x.dense(), source.size_n1)
    wanted_g = logged(schema, x_ng.double().cpu().numpy()).mean(0) + one.answer.shift_g  # of these cells
    if not schema.output_kind.is_count:
        mapped_ng = quantile_mapped(schema, minibatch, p, q, source.size_n1).double().cpu().numpy()
        return torch.from_numpy(_offset(mapped_ng, wanted_g, schema.output_kind is Kind.LOG))
    x_ng, p, q = with_noise(schema, minibatch.x.dense(), p, q, source.size_n1)
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
    per_size_n1 = (
        LOG_SIZE / x_ng.double().sum(1, keepdim=True).clamp(min=1).cpu().numpy()
    )  # that of the cells themselves
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
