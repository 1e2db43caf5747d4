"""What a model says of some cells, as plain arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import Cells, ExpressionRows
from genevae.distributions import ExpressionDistribution
from genevae.models.vae import VAE
from genevae.runs.trained import Trained
from genevae.tasks.inference import evaluation_mode, on_device, open_cells, seeded
from genevae.tasks.posterior_expectation import MAX_NUMBERS, in_pieces, latents_snk

__all__ = [
    "TARGET", "Entries", "Expected", "Seen", "entries", "expected", "log_weights_sn", "seen", "view",
]  # fmt: skip

Numbers = NDArray[np.float64]

TARGET = 1e4
"""Counts are compared as counts per so many."""
N_DRAWS = 10
"""Draws of the latent of each cell."""
N_EACH = 5
"""Draws of expression for each of those."""
BATCH_SIZE = 256


@dataclass(frozen=True, eq=False)
class Seen:
    """Cells as a model sees them.

    Parameters
    ----------
    x_ng
        Expression, as the model sees it.
    true_ng
        The same as tasks return it; of counts, counts per 10,000.
    size_n
        Counts per cell.
    """

    x_ng: Numbers
    true_ng: Numbers
    size_n: Numbers


@dataclass(frozen=True, eq=False)
class Expected(Seen):
    """The same cells as they are expected, given their own posterior.

    Parameters
    ----------
    x_ng, true_ng, size_n
        As for :class:`Seen`.
    predicted_ng
        Expectation, in the units of ``true_ng``.
    mean_ng, variance_ng
        Mean and variance of what is expected, in the units of ``x_ng``.
    p_zero_ng
        The probability of zero; of counts only.
    log_px_n
        Mean over draws of log p(x | z), in nats.
    """

    predicted_ng: Numbers
    mean_ng: Numbers
    variance_ng: Numbers
    p_zero_ng: Numbers
    log_px_n: Numbers


@dataclass(frozen=True, eq=False)
class Entries:
    """Some genes of some cells, beside the distribution that the model gives each.

    Parameters
    ----------
    x_ng
        Expression, as the model sees it.
    below_ng, at_ng
        The probability of less, and of no more; averaged over draws of the latent.
    sample_sng
        Draws.
    size_n
        Counts per cell, over all genes.
    """

    x_ng: Numbers
    below_ng: Numbers
    at_ng: Numbers
    sample_sng: Numbers
    size_n: Numbers


def view(model: Trained) -> str:
    """Name what a model sees of data: models of one view give probabilities to the same numbers."""
    return json.dumps([model.schema.genes, model.schema.transform.to_json()])


def seen(model: Trained, cells: AnnData) -> Seen:
    """Read cells as the model sees them."""
    read = [
        _seen(model, minibatch) for minibatch in on_device(model.module, open_cells(model, cells, None, BATCH_SIZE))
    ]
    return Seen(*(torch.cat(part).double().cpu().numpy() for part in zip(*read, strict=True)))


def _seen(model: Trained, cells: Cells) -> list[Tensor]:
    x_ng, size_n1 = cells.x.dense(), cells.condition.size_n1
    return [x_ng, _answer(model, x_ng, size_n1), size_n1.squeeze(-1)]


def expected(model: Trained, cells: AnnData, seed: int) -> Expected:
    """Read cells, and what the model expects of them, averaged over draws of their latents."""
    found: list[list[Tensor]] = []
    with evaluation_mode(model) as module, seeded(module, seed):
        for minibatch in on_device(module, open_cells(model, cells, None, BATCH_SIZE)):
            found += [_expected(model, module, part) for part in in_pieces(minibatch, N_DRAWS)]
    return Expected(*(torch.cat(part).double().cpu().numpy() for part in zip(*found, strict=True)))


def _expected(model: Trained, module: VAE, cells: Cells) -> list[Tensor]:
    condition = module.sized(cells)
    p = module.likelihood(latents_snk(module, cells, N_DRAWS), condition)
    mean_sng = p.mean
    mean_ng, variance_ng = mean_sng.mean(0), p.variance.expand_as(mean_sng).mean(0) + mean_sng.var(0, correction=0)
    zero_ng = p.log_prob_zero().exp().expand_as(mean_sng).mean(0) if model.schema.seen_as.is_count else mean_ng * 0
    predicted_ng = _answer(model, mean_ng, cells.condition.size_n1)
    log_px_n = p.log_prob_n(cells.x, condition.measured_ng).mean(0)
    return [*_seen(model, cells), predicted_ng, mean_ng, variance_ng, zero_ng, log_px_n]


def _answer(model: Trained, x_ng: Tensor, size_n1: Tensor) -> Tensor:
    answer = model.schema.transform.invert(x_ng, size_n1)
    return answer * (TARGET / size_n1) if model.schema.answers_in.is_count else answer


def entries(model: Trained, cells: AnnData, genes: NDArray[np.int64], seed: int) -> Entries:
    """Read some genes of cells, and the distribution that the model gives each of them, given the cell."""
    found: list[tuple[Tensor, ...]] = []
    with evaluation_mode(model) as module, seeded(module, seed):
        for minibatch in on_device(module, open_cells(model, cells, None, BATCH_SIZE)):
            for part in in_pieces(minibatch, N_DRAWS):
                p = module.likelihood(latents_snk(module, part, N_DRAWS), module.sized(part))
                whole = model.schema.seen_as.is_count
                found.append((*_at_genes(p, part, torch.as_tensor(genes), whole), part.condition.size_n1.squeeze(-1)))
    parts = [np.concatenate([p.double().cpu().numpy() for p in each], axis=-2 if each[0].ndim > 1 else 0)
             for each in zip(*found, strict=True)]  # fmt: skip
    return Entries(*parts)


def _at_genes(p: ExpressionDistribution, cells: Cells, genes: Tensor, whole: bool) -> tuple[Tensor, ...]:
    """Return x, F(x⁻), F(x) and draws at some genes, by treating these as the entries that sparse rows store."""
    n, g = cells.n_cells, len(genes)
    genes = genes.to(cells.condition.size_n1.device)
    values = cells.x.dense()[:, genes].flatten()
    rows = ExpressionRows(values, cells.x.n_genes, torch.arange(n + 1, device=genes.device) * g, genes.repeat(n))
    some = p.at(rows)
    at = some.cdf(values)
    below = some.cdf(values - 1) if whole else at
    drawn = some.sample((N_EACH,))
    shape = (-1, n, g)
    return values.view(n, g), _mean(below, shape), _mean(at, shape), drawn.reshape(shape)


def _mean(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    return values.reshape(shape).mean(0)


def log_weights_sn(model: Trained, cells: AnnData, n_draws: int, seed: int) -> Numbers | None:
    """Draw latents, and return log p(x | z) + log p(z) − log q(z | x), draws × cells; the size is drawn too if learned.

    None where the posterior is a single point, which has no density and no bound.
    """
    found = []
    with evaluation_mode(model) as module, seeded(module, seed):
        for minibatch in on_device(module, open_cells(model, cells, None, BATCH_SIZE)):
            if not bool((module.posterior(minibatch).scale > 0).all()):
                return None
            at_once = 1 if module.size else max(1, MAX_NUMBERS // (4 * minibatch.n_cells * minibatch.x.n_genes))
            each = [_log_weight(module, minibatch, len(some)) for some in torch.arange(n_draws).split(at_once)]
            found.append(torch.cat(each))
    return np.asarray(torch.cat(found, 1).double().cpu().numpy())


def _log_weight(module: VAE, cells: Cells, n_draws: int) -> Tensor:
    q, condition = module.posterior(cells), cells.condition
    z_snk = q.sample((n_draws,))
    log_weight = (module.prior(condition).log_prob(z_snk) - q.log_prob(z_snk)).sum(-1)
    if module.size is not None:
        q_size, p_size = module.size.posterior(cells), module.size.prior(condition)
        log_size_n1 = q_size.sample()
        log_weight = log_weight + (p_size.log_prob(log_size_n1) - q_size.log_prob(log_size_n1)).sum(-1)
        condition = condition.with_size(log_size_n1.exp())
    log_px_sn: Tensor = module.likelihood(z_snk, condition).log_prob_n(cells.x, condition.measured_ng)
    weighted: Tensor = log_px_sn + log_weight
    return weighted
