"""What a model says of some cells, as plain arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from genevae.cells import ExpressionRows
from genevae.evaluation.model import Decoded, EvaluatedModel
from genevae.tasks.inference import open_cells

__all__ = ["TARGET", "Entries", "Expected", "Observed", "entries", "expected", "observed", "view"]

Numbers = NDArray[np.float64]

TARGET = 1e4
"""Counts are compared as counts per so many."""
N_DRAWS = 10
"""Draws of the latent of each cell."""
N_EACH = 5
"""Draws of expression for each of those."""
BATCH_SIZE = 256


@dataclass(frozen=True, eq=False)
class Observed:
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
class Expected:
    """What a model expects of cells, averaged over their posterior.

    Parameters
    ----------
    predicted_ng
        Expectation, in the units of ``Observed.true_ng``.
    mean_ng, variance_ng
        Mean and variance of what is expected, in the units of ``Observed.x_ng``.
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


def view(model: EvaluatedModel) -> str:
    """Name what a model sees of data: models of one view give probabilities to the same numbers."""
    return json.dumps([model.schema.genes, model.schema.transform.to_json()])


def observed(model: EvaluatedModel, cells: AnnData) -> Observed:
    """Read cells as a model sees them."""
    source: Any = model  # of which the schema is read
    rows = []
    for minibatch in open_cells(source, cells, None, BATCH_SIZE):
        x_ng, size_n1 = minibatch.x.dense(), minibatch.condition.size_n1
        rows.append((x_ng, _returned(model, x_ng, size_n1), size_n1.squeeze(-1)))
    return Observed(*(torch.cat(part).double().numpy() for part in zip(*rows, strict=True)))


def expected(model: EvaluatedModel, cells: AnnData, seed: int) -> Expected:
    """Return what a model expects of cells, averaged over draws of their latents."""
    rows = [_expected(model, decoded) for decoded in _decoded(model, cells, seed)]
    return Expected(*(torch.cat(part).double().cpu().numpy() for part in zip(*rows, strict=True)))


def _decoded(model: EvaluatedModel, cells: AnnData, seed: int) -> Iterator[Decoded]:
    if model.likelihoods is None:
        raise ValueError("this model has no likelihoods")
    return model.likelihoods(cells, N_DRAWS, seed)


def _expected(model: EvaluatedModel, decoded: Decoded) -> tuple[Tensor, ...]:
    p, mean_sng = decoded.p, decoded.p.mean
    mean_ng, variance_ng = mean_sng.mean(0), p.variance.expand_as(mean_sng).mean(0) + mean_sng.var(0, correction=0)
    zero_ng = p.log_prob_zero().exp().expand_as(mean_sng).mean(0) if model.schema.input_kind.is_count else mean_ng * 0
    predicted_ng = _returned(model, mean_ng, decoded.size_n1)
    return predicted_ng, mean_ng, variance_ng, zero_ng, p.log_prob_n(decoded.x, decoded.measured_ng).mean(0)


def _returned(model: EvaluatedModel, x_ng: Tensor, size_n1: Tensor) -> Tensor:
    """Bring what a model sees to the units in which it answers; counts, to counts per 10,000."""
    answer = model.schema.transform.invert(x_ng, size_n1)
    return answer * (TARGET / size_n1) if model.schema.output_kind.is_count else answer


def entries(model: EvaluatedModel, cells: AnnData, genes: NDArray[np.int64], seed: int) -> Entries:
    """Return some genes of cells, and the distribution that the model gives each of them, given the cell."""
    whole = model.schema.input_kind.is_count
    found = [_at_genes(decoded, torch.as_tensor(genes), whole) for decoded in _decoded(model, cells, seed)]
    parts = [np.concatenate([p.double().cpu().numpy() for p in each], axis=-2 if each[0].ndim > 1 else 0)
             for each in zip(*found, strict=True)]  # fmt: skip
    return Entries(*parts)


def _at_genes(decoded: Decoded, genes: Tensor, whole: bool) -> tuple[Tensor, ...]:
    """Return x, F(x⁻), F(x) and draws at some genes, by treating these as the entries that sparse rows store."""
    n, g = decoded.x.n_cells, len(genes)
    genes = genes.to(decoded.size_n1.device)
    values = decoded.x.dense()[:, genes].flatten()
    rows = ExpressionRows(values, decoded.x.n_genes, torch.arange(n + 1, device=genes.device) * g, genes.repeat(n))
    some = decoded.p.at(rows)
    at = some.cdf(values)
    below = some.cdf(values - 1) if whole else at
    samples, shape = some.sample((N_EACH,)), (-1, n, g)
    return (
        values.view(n, g), below.reshape(shape).mean(0), at.reshape(shape).mean(0), samples.reshape(shape),
        decoded.size_n1.squeeze(-1),
    )  # fmt: skip
