"""Counterfactual expression: the same cells in another condition."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from genevae.cells import Cells, Condition
from genevae.data.schema import UNKNOWN, Categorical, Schema
from genevae.data.value_kind import Kind
from genevae.distributions import ExpressionDistribution, Poisson
from genevae.errors import CategoryError, DataError, nearest, warn
from genevae.models.vae import VAE
from genevae.tasks.condition import TargetCondition, parse_condition
from genevae.tasks.inference import TrainedModel, draw_expression, evaluation_mode, on_device, open_cells, seeded
from genevae.tasks.output import TaskOutput, free_column, require_writable, to_numpy, values_uns
from genevae.tasks.posterior_expectation import expectations_sng, in_blocks, latents_snk
from genevae.tasks.support import SupportByCombination

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.data.loader import Loader
    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source
    from genevae.io.write.anndata import Block

__all__ = ["counterfactual"]


def counterfactual(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    condition: Mapping[str, str],
    n_draws: int = 25,
    interval: float = 0.9,
    layer: str | None = None,
    batch_size: int = 512,
    seed: int = 0,
    out: str | Path | None = None,
    into: str | Path | None = None,
    overwrite: bool = False,
) -> AnnData:
    """Predict what cells would look like in another condition.

    z ~ q(z | x, c), then p(x | z, c').

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes, and the conditions they were observed in.
    condition
        The target condition, as FIELD=VALUE. Each cell keeps its other covariates and its size.
    n_draws
        Samples from the posterior of each cell.
    interval
        Share of the samples that the interval contains.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Seed of the samples.
    out
        Write the result to this path block by block, as .h5ad or .zarr (or .npy for X alone), and return its tables.
    into
        Add the result to this .h5ad file of the same cells instead: X as the layer ``counterfactual``, the layers as
        ``counterfactual_mean`` …, and the obs column ``counterfactual_support``. All else in the file stays as it is.
    overwrite
        Whether to replace an existing result.

    Returns
    -------
    AnnData
        ``X``: the cell itself in the target condition, each gene at the rank it had in its source condition, so that
        the cell keeps its noise and is unchanged if the condition is unchanged (counts or log-normalised values; see
        ``uns["genevae"]``). Layers: ``mean``, expected expression in the target condition, averaged over the samples;
        ``lower`` and ``upper``, the interval of that expectation over the posterior of z; ``draw``, one sample from the
        likelihood. ``obs``: the target condition, the previous one as ``source_FIELD``, and ``support``, near one if
        similar training cells were observed in the target combination, near zero if none were.

    Raises
    ------
    CategoryError
        If a covariate or a category is unknown, or none is given.
    DataError
        If genes, columns or categories do not fit the model.

    Notes
    -----
    To compare with the input cells, use ``X``, not ``mean`` or ``draw``: what the model does not explain of a cell is
    the same in both and cancels. To transfer a response to cell types that were never observed responding, train with
    the response as the only condition. A model that is also given the cell type learns a separate response for each
    type; a model that infers the type from expression lets similar types respond alike.

    References
    ----------
    Pearl, *Causality*, 2nd ed. (2009), 7.1; Pawlowski, Castro and Glocker, NeurIPS (2020), for deep models.
    """
    if not condition:
        raise CategoryError(f"Give a target condition. {nearest('', model.schema.fields)}")
    if n_draws < 1 or not 0 < interval < 1:
        raise DataError(f"n_draws must be above 0 and interval between 0 and 1, not {n_draws} and {interval}.")
    target = parse_condition(model.schema, condition)
    require_writable(out, overwrite, model, data, into=into)
    cells = open_cells(model, data, layer, batch_size)
    obs = _target_obs(cells.source.obs, model.schema, condition)
    for name in target.reassigned:
        warn(f"'{name}' is nested in the condition that is set: each cell takes a category of it that occurs there.")
    blocks = _blocks(model, cells, target, n_draws, interval, seed, f"obs/{free_column(obs, 'support')}")
    uns = values_uns(model.schema, limited=model.reference.limits is not None)
    return TaskOutput(obs, model.schema.genes, blocks, uns, "counterfactual").to_anndata(out, into, overwrite)


def _blocks(
    model: TrainedModel,
    cells: Loader,
    target: TargetCondition,
    n_draws: int,
    interval: float,
    seed: int,
    support_as: str,
) -> Generator[Block, None, None]:
    with evaluation_mode(model) as module, seeded(module, seed):
        support = SupportByCombination(model.reference, target)
        for minibatch in on_device(module, cells):
            for block in in_blocks(minibatch, n_draws):
                condition = target.apply(module.sized(block))
                elements = _elements(model, module, block, condition, n_draws, interval)
                yield {**elements, support_as: to_numpy(support.score_n(module, block))}


def _elements(
    model: TrainedModel, module: VAE, cells: Cells, target: Condition, n_draws: int, interval: float
) -> dict[str, Any]:
    schema, transform = model.schema, model.schema.transform
    mean_sng = transform.invert(expectations_sng(module, cells, target, n_draws), target.size_n1)
    tails = torch.tensor([(1 - interval) / 2, (1 + interval) / 2], device=mean_sng.device)
    lower_ng, upper_ng = _quantiles(mean_sng, tails)
    z_nk = latents_snk(module, cells, 1)[0]
    p = module.likelihood(z_nk, target)
    draw_ng = draw_expression(model, p, target.size_n1)
    mapped_ng = _quantile_mapped(schema, cells, module.likelihood(z_nk, module.sized(cells)), p, target.size_n1)
    if model.reference.limits is not None:
        limit_ng = model.reference.limits.of_counts(target.size_n1)
        mapped_ng = torch.minimum(mapped_ng, torch.maximum(limit_ng, cells.x.dense()))
    if schema.output_kind is Kind.LOG:
        mapped_ng = mapped_ng.clamp(min=0)
    layers = {"mean": mean_sng.mean(0), "lower": lower_ng, "upper": upper_ng, "draw": draw_ng}
    return {
        "X": to_numpy(mapped_ng),
        **{f"layers/{name}": to_numpy(x_ng) for name, x_ng in layers.items()},
    }


def _quantile_mapped(
    schema: Schema, cells: Cells, source: ExpressionDistribution, target: ExpressionDistribution, size_n1: Tensor
) -> Tensor:
    """Map the cells from the source to the target distribution at equal ranks, in the units of the result.

    If the model has no noise model for counts, they are taken as Poisson around its expectation. A gene that was not
    measured has no rank, and is sampled from the target.
    """
    invert = partial(schema.transform.invert, size_n1=size_n1)
    x_ng = cells.x.dense()
    if not schema.has_noise_model:
        x_ng, source, target = (
            invert(x_ng).round(),
            *(Poisson(invert(p.mean), validate_args=False) for p in (source, target)),
        )
    mapped_ng = source.quantile_map(x_ng, target)
    measured_ng = cells.condition.measured_ng
    if measured_ng is not None:
        mapped_ng = torch.where(measured_ng, mapped_ng, target.sample().to(mapped_ng))
    return invert(mapped_ng) if schema.has_noise_model else mapped_ng


def _quantiles(x_sng: Tensor, q: Tensor) -> Tensor:
    """Return quantiles over samples by linear interpolation. ``torch.quantile`` fails on large inputs."""
    ordered = x_sng.sort(0).values
    position = q * (len(ordered) - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], (position - low).view(-1, 1, 1).to(ordered.dtype))


def _target_obs(obs: pd.DataFrame, schema: Schema, condition: Mapping[str, str]) -> pd.DataFrame:
    """Return obs with the target condition, and the previous one as ``source_FIELD``."""
    obs = obs.copy()
    for name, value in condition.items():
        obs[free_column(obs, f"source_{name}")] = obs.get(name, UNKNOWN)
        is_categorical = isinstance(schema[name], Categorical)
        obs[name] = pd.Categorical([value] * len(obs)) if is_categorical else float(value)
    return obs
