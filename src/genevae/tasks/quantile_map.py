"""Cells at equal ranks in another distribution."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from genevae.cells import Cells
from genevae.data.schema import Schema
from genevae.distributions import ExpressionDistribution, Poisson

__all__ = ["quantile_mapped", "ranks_within"]


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
