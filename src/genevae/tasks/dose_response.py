"""What a drug does to each gene, dose by dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from genevae.data.schema import Continuous, Schema
from genevae.errors import CategoryError, DataError, GeneError, nearest
from genevae.models.vae import VAE
from genevae.tasks.condition import Asked, parse_condition
from genevae.tasks.curves import curve_table
from genevae.tasks.inference import TrainedModel, evaluation_mode, on_device, open_cells, require_size, seeded
from genevae.tasks.posterior_expectation import in_pieces, latents_snk

if TYPE_CHECKING:
    from anndata import AnnData

    from genevae.cells import Cells
    from genevae.data.loader import Loader
    from genevae.io.read_options import ReadOptions
    from genevae.io.source import Source

__all__ = ["dose_response"]

N_DOSES = 24
"""Doses above zero that are asked for by default."""
SPAN = 1e-4
"""The lowest of them over the highest, where the data have no dose above zero."""


def dose_response(
    model: TrainedModel,
    data: AnnData | Source | ReadOptions | str | Path,
    *,
    condition: Mapping[str, str] | None = None,
    field: str | None = None,
    doses: Sequence[float] = (),
    genes: Sequence[str] | None = None,
    n_draws: int = 25,
    interval: float = 0.9,
    least_change: float = 0.1,
    size: float | None = None,
    layer: str | None = None,
    batch_size: int = 512,
    seed: int = 0,
) -> pd.DataFrame:
    """Draw the dose-response curve of each gene, with its EC50.

    The same cells are asked at every dose d, from the same draws of z: m(d) = Σ_n w_n E[x | z_n, drug, d] / Σ_n w_n.
    EC50 is where |m(d) − m(0)| first reaches half of its largest value, on a straight line between the asked doses
    over the logarithm of the dose.

    Parameters
    ----------
    model
        A trained model with a dose among its continuous conditions; the recipe dose is made for this.
    data
        Cells to start from, with the model's genes and conditions; untreated ones alone are enough.
    condition
        The drug, as FIELD=VALUE, and any other condition to set; by default the one category beside the control, where
        there is only one.
    field
        The continuous condition that is the dose; by default the only one.
    doses
        Doses to ask for, in their own units, as in 0.1,1,10; by default 24, evenly spaced in their logarithm, from the
        lowest above zero in the data to the highest in training. Dose zero is always asked for too.
    genes
        Genes to tell of; all by default.
    n_draws
        Draws from the posterior of each cell. In each, every cell has a random weight w ~ Exponential(1).
    interval
        Share of the draws that the interval holds.
    least_change
        Genes whose level never changes by this share of its largest value have no EC50.
    size
        Give every cell this many counts; by default each keeps its own.
    layer
        The layer that holds the expression, or "raw"; X by default.
    batch_size
        Cells in one step.
    seed
        Of the draws.

    Returns
    -------
    DataFrame
        One row per gene and dose, the gene as index: ``dose``; ``mean``, ``lower`` and ``upper``, the mean expression
        of the cells and its interval over draws of z and of cells (the weights of the network are taken as certain);
        ``max_effect``, the largest change m(d) − m(0), with its sign; ``ec50``, in the units of the dose, missing where
        the gene hardly changes or has changed by half below the lowest dose.

    Raises
    ------
    CategoryError
        If the model has no dose, or a field or a category is unknown, or it is not clear which drug is meant.
    DataError
        If a dose is below zero or no number, or genes, columns or categories do not fit the model.

    References
    ----------
    Rubin, The Bayesian bootstrap, Annals of Statistics 9:130 (1981), for the weights.
    """
    schema = model.schema
    dose = _dose(schema, field)
    if n_draws < 1 or not 0 < interval < 1:
        raise DataError(f"n_draws must be above 0 and interval between 0 and 1, not {n_draws} and {interval}.")
    require_size(model, size)
    drug = _drug(schema, condition, dose.name)
    at_g = _places(schema.genes, genes)
    cells = open_cells(model, data, layer, batch_size)
    dose_d = _asked_doses(doses, dose, cells.source.obs)
    asked = [parse_condition(schema, {**drug, dose.name: d}) for d in dose_d]
    mean_dsg = _curves(model, cells, asked, at_g, n_draws, size, seed)
    return curve_table([schema.genes[g] for g in at_g], dose_d, mean_dsg, interval, least_change)


def _curves(
    model: TrainedModel,
    cells: Loader,
    asked: Sequence[Asked],
    at_g: list[int],
    n_draws: int,
    size: float | None,
    seed: int,
) -> NDArray[np.float64]:
    """Return the weighted mean over cells at each dose, for each draw; rows of every minibatch are added up."""
    sum_dsg = np.zeros((len(asked), n_draws, len(at_g)))
    weight_s = np.zeros(n_draws)
    with evaluation_mode(model) as module, seeded(module, seed):
        for minibatch in on_device(module, cells):
            for part in in_pieces(minibatch, n_draws):
                weight_sn = torch.empty(n_draws, part.n_cells).exponential_(1.0).to(part.condition.size_n1.device)
                weight_s += weight_sn.double().sum(1).cpu().numpy()
                sum_dsg += _weighted(model, module, part, asked, weight_sn, at_g, size)
    return sum_dsg / weight_s[:, None]


def _weighted(
    model: TrainedModel,
    module: VAE,
    cells: Cells,
    asked: Sequence[Asked],
    weight_sn: Tensor,
    at_g: list[int],
    size: float | None,
) -> NDArray[Any]:
    """Return the weighted sums over some cells, draws of z being shared by all doses."""
    z_snk = latents_snk(module, cells, len(weight_sn))
    condition = module.sized(cells)
    if size is not None:
        condition = condition.with_size(torch.full_like(condition.size_n1, size))
    sums = []
    for each in asked:
        told_sng = module.likelihood(z_snk, each.put(condition)).mean
        mean_sng = model.schema.transform.invert(told_sng, condition.size_n1)
        sums.append(torch.einsum("sn,sng->sg", weight_sn, mean_sng[..., at_g]).double())
    return torch.stack(sums).cpu().numpy()


def _dose(schema: Schema, field: str | None) -> Continuous:
    """Choose the continuous covariate that is the dose."""
    names = [covariate.name for covariate in schema.continuous]
    if not names:
        raise CategoryError(
            "This model knows no dose. Train it with --continuous DOSE, best with --recipe dose --condition DRUG."
        )
    if field is None and len(names) > 1:
        raise CategoryError(f"This model has {len(names)} continuous conditions. Say which is the dose: {names}.")
    found = schema[field or names[0]]
    if not isinstance(found, Continuous):
        raise CategoryError(f"'{field}' is a categorical condition, and a dose is a number. {nearest(field, names)}")
    return found


def _drug(schema: Schema, condition: Mapping[str, str] | None, dose: str) -> dict[str, str]:
    """Choose what is set beside the dose: what was asked, or the only category that is no control."""
    if condition is not None:
        if dose in condition:
            raise CategoryError(f"'{dose}' is the dose: name the doses with --doses, not with --set.")
        parse_condition(schema, condition)
        return dict(condition)
    choices = {c.name: [v for v in c.categories if v != c.control] for c in schema.categorical if c.control is not None}
    if len(choices) != 1 or any(len(treated) != 1 for treated in choices.values()):
        raise CategoryError(
            f"Say which drug is meant, as FIELD=VALUE. {nearest('', [c.name for c in schema.categorical])}"
        )
    return {name: treated[0] for name, treated in choices.items()}


def _places(known: Sequence[str], genes: Sequence[str] | None) -> list[int]:
    """Return the column of each gene that is asked for."""
    place = {gene: g for g, gene in enumerate(known)}
    for gene in genes or ():
        if gene not in place:
            raise GeneError(f"This model does not know the gene '{gene}'. {nearest(gene, known)}")
    return [place[gene] for gene in (genes or known)]


def _asked_doses(doses: Sequence[float], dose: Continuous, obs: pd.DataFrame) -> list[float]:
    """Return zero and the doses to ask for, ascending."""
    if len(doses):
        wrong = [d for d in doses if not (np.isfinite(d) and d >= 0)]
        if wrong:
            raise DataError(f"Doses are numbers from zero up, and cannot be {wrong[0]}.")
        return sorted({0.0, *map(float, doses)})
    given = pd.to_numeric(obs[dose.name], errors="coerce") if dose.name in obs else pd.Series(dtype=float)
    lowest = float(given[given > 0].min()) if (given > 0).any() else SPAN * dose.maximum
    if not lowest < dose.maximum:
        lowest = SPAN * dose.maximum
    return [0.0, *np.geomspace(lowest, dose.maximum, N_DOSES).tolist()]
