"""The same cells in another condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from genevae.cells import Cells, Condition
from genevae.data.schema import UNKNOWN, Categorical, Schema
from genevae.distributions import ExpressionDistribution, Poisson
from genevae.errors import CategoryError, DataError, nearest
from genevae.models.vae import VAE
from genevae.tasks.condition import Asked, parse_condition
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells, seeded
from genevae.tasks.output import Answer, numbers, require_writable, values_note
from genevae.tasks.posterior_expectation import expectations_sng, in_pieces, latents_snk
from genevae.tasks.support import Supports

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
    overwrite: bool = False,
) -> AnnData:
    """Ask what cells would look like in another condition.

    z from q(z | x, c), then p(x | z, c').

    Parameters
    ----------
    model
        A trained model.
    data
        Cells with the model's genes, and the conditions that they were seen in.
    condition
        The condition to ask for, as FIELD=VALUE; other fields, and the size, stay each cell's own.
    n_draws
        Draws from the posterior of each cell.
    interval
        Share of the draws that the interval holds.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Of the draws.
    out
        Write the answer here, .h5ad or .zarr (or .npy for its main array alone), as it comes, and return its tables.
    overwrite
        Whether a store that is there is replaced.

    Returns
    -------
    AnnData
        X: expected expression under the new condition, averaged over the draws (counts, or log-normalised values, as
        ``uns["genevae"]`` says); layers ``lower`` and ``upper``: the interval of that
        expectation, which the posterior of z spreads; ``draw``: one draw from the likelihood; ``moved``: the cell
        itself, every gene moved to where it has the same rank under the new condition as it had under its own, so that
        a cell keeps its noise, and asked about its own condition returns as it was. In obs the new condition, the
        former one as ``source_FIELD``, and ``support``: near one where such cells were seen in that combination, near
        zero where none was.

    Raises
    ------
    CategoryError
        If a field or a category is unknown, or none is given.
    DataError
        If genes, columns or categories do not fit the model.

    Notes
    -----
    Compare ``moved``, rather than ``draw``, with the cells that were given: what the model does not explain is the same
    in both, and cancels. To carry a response to kinds of cell that were never seen responding, train with the response
    as the only condition: a model that is told the kind too learns each kind's response by heart, while one that finds
    the kind in the expression lets like kinds respond alike.

    References
    ----------
    Pearl, *Causality*, 2nd ed. (2009), 7.1; Pawlowski, Castro and Glocker, NeurIPS (2020), for deep models.
    """
    if not condition:
        raise CategoryError(f"Say which condition to ask for. {nearest('', model.schema.fields)}")
    if n_draws < 1 or not 0 < interval < 1:
        raise DataError(f"n_draws must be above 0 and interval between 0 and 1, not {n_draws} and {interval}.")
    asked = parse_condition(model.schema, condition)
    require_writable(out, overwrite)
    cells = open_cells(model, data, layer, batch_size)
    obs = _described(cells.source.obs, model.schema, condition)
    pieces = _pieces(model, cells, asked, n_draws, interval, seed)
    return Answer(obs, model.schema.genes, pieces, values_note(model.schema)).give(out)


def _pieces(
    model: TrainedModel, cells: Loader, asked: Asked, n_draws: int, interval: float, seed: int
) -> Iterator[Block]:
    with evaluation_mode(model) as module, seeded(module, seed):
        supports = Supports(model.reference, asked)
        for minibatch in on_device(module, cells):
            for part in in_pieces(minibatch, n_draws):
                answer = _answer(model.schema, module, part, asked.put(module.sized(part)), n_draws, interval)
                yield {**answer, "obs/support": numbers(supports.score_n(module, part))}


def _answer(
    schema: Schema, module: VAE, cells: Cells, target: Condition, n_draws: int, interval: float
) -> dict[str, Any]:
    transform = schema.transform
    mean_sng = transform.invert(expectations_sng(module, cells, target, n_draws), target.size_n1)
    tails = torch.tensor([(1 - interval) / 2, (1 + interval) / 2], device=mean_sng.device)
    lower_ng, upper_ng = _quantiles(mean_sng, tails)
    z_nk = latents_snk(module, cells, 1)[0]
    p = module.likelihood(z_nk, target)
    draw_ng = transform.draw(p, target.size_n1)
    moved_ng = _moved(schema, cells, module.likelihood(z_nk, module.sized(cells)), p, target.size_n1)
    answer = {"X": mean_sng.mean(0), "lower": lower_ng, "upper": upper_ng, "draw": draw_ng, "moved": moved_ng}
    return {name if name == "X" else f"layers/{name}": numbers(x_ng) for name, x_ng in answer.items()}


def _moved(
    schema: Schema, cells: Cells, source: ExpressionDistribution, target: ExpressionDistribution, size_n1: Tensor
) -> Tensor:
    """Carry the cells from one distribution to another, in the units of the answer.

    Counts of which the model does not know how they scatter are taken for Poisson counts about what it expects. A gene
    that was not measured has no noise to keep.
    """
    invert = partial(schema.transform.invert, size_n1=size_n1)
    x_ng = cells.x.dense()
    if not schema.knows_scatter:
        x_ng, source, target = invert(x_ng).round(), Poisson(invert(source.mean)), Poisson(invert(target.mean))
    moved_ng = source.carry(x_ng, target)
    measured_ng = cells.condition.measured_ng
    if measured_ng is not None:
        moved_ng = torch.where(measured_ng, moved_ng, target.sample().to(moved_ng))
    return invert(moved_ng) if schema.knows_scatter else moved_ng


def _quantiles(x_sng: Tensor, q: Tensor) -> Tensor:
    """Return quantiles over draws, by linear interpolation; torch.quantile refuses large inputs."""
    ordered = x_sng.sort(0).values
    place = q * (len(ordered) - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], (place - low).view(-1, 1, 1).to(ordered.dtype))


def _described(obs: pd.DataFrame, schema: Schema, condition: Mapping[str, str]) -> pd.DataFrame:
    """Put the new condition into obs, and keep the former one beside it."""
    obs = obs.copy()
    for name, value in condition.items():
        obs[f"source_{name}"] = obs.get(name, UNKNOWN)
        is_categorical = isinstance(schema[name], Categorical)
        obs[name] = pd.Categorical([value] * len(obs)) if is_categorical else float(value)
    return obs
