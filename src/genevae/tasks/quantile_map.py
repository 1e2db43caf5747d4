"""Cells at equal ranks in another distribution."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from genevae.cells import Cells
from genevae.data.schema import Schema
from genevae.distributions import ExpressionDistribution, Poisson

__all__ = ["quantile_mapped", "ranks_within", "with_noise"]


def quantile_mapped(
    schema: Schema, cells: Cells, source: ExpressionDistribution, target: ExpressionDistribution, size_n1: Tensor,
    scale: Tensor | None = None, number_n: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Map the cells from the source to the target distribution at equal ranks, in the units of the result.

    A gene that was not measured has no rank, and is sampled from the target.

    Parameters
    ----------
    schema
        Says what the values are.
    cells
        The cells, as the model is given them.
    source, target
        The distributions, ``n, g``; see :func:`with_noise`.
    size_n1
        Counts per cell.
    scale
        What the means of counts in the target are multiplied by, ``n, g`` or ``g``; for other values, what is added.
    number_n
        The number of each cell, which decides its ranks; by default its row.
    """
    counts, number_n = schema.output_kind.is_count, cells.row_n if number_n is None else number_n
    x_ng, source, target = with_noise(schema, cells.x.dense(), source, target, size_n1)
    if counts and scale is not None:
        target = target.scaled(scale)
    mapped_ng = source.quantile_map(x_ng, target, ranks_within(number_n, x_ng.shape[1]))
    measured_ng = cells.condition.measured_ng
    if measured_ng is not None:
        mapped_ng = torch.where(measured_ng, mapped_ng, target.sample().to(mapped_ng))
    mapped_ng = schema.transform.invert(mapped_ng, size_n1) if schema.has_noise_model else mapped_ng
    return mapped_ng if counts or scale is None else mapped_ng + scale


def with_noise(
    schema: Schema, x_ng: Tensor, source: ExpressionDistribution, target: ExpressionDistribution, size_n1: Tensor
) -> tuple[Tensor, ExpressionDistribution, ExpressionDistribution]:
    """Return values and their distributions; where a model has no noise, counts are Poisson around its expectation."""
    if schema.has_noise_model:
        return x_ng, source, target
    invert = partial(schema.transform.invert, size_n1=size_n1)
    p, q = (Poisson(invert(each.mean), validate_args=False) for each in (source, target))
    return invert(x_ng).round(), p, q


def ranks_within(number_n: Tensor, n_genes: int) -> Tensor:
    """Return uniform numbers, ``n, g``, that depend on the number of the cell and the gene alone.

    u = frac(number · α_g + β_g), with random α and β: over the cells of a gene they are evenly spread, so that the mean
    of a gene over mapped cells varies less than with independent numbers; any two genes are independent.
    """
    generator = torch.Generator().manual_seed(0)
    alpha_g, beta_g = torch.rand(2, n_genes, dtype=torch.float64, generator=generator).to(number_n.device)
    uniform_ng: Tensor = (number_n.double().unsqueeze(-1) * alpha_g + beta_g) % 1
    return uniform_ng
