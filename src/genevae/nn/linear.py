"""A linear layer that multiplies dense and CSR rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genevae.cells import ExpressionRows
from genevae.kernels.arrays import array, fits, integers
from genevae.kernels.compile import load

__all__ = ["RowsLinear", "product"]


class RowsLinear(nn.Module):
    """h = x W + b, for rows that may be sparse.

    Parameters
    ----------
    n_genes
        Columns of x.
    n_hidden
        Columns of h.

    Notes
    -----
    W is stored genes × hidden, so that a sparse row gathers whole rows of it. Initial weights are uniform in
    ±1/√n_genes, as in :class:`torch.nn.Linear`.
    """

    def __init__(self, n_genes: int, n_hidden: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_genes)
        self.weight_gh = nn.Parameter(torch.empty(n_genes, n_hidden).uniform_(-bound, bound))
        self.bias_h = nn.Parameter(torch.empty(n_hidden).uniform_(-bound, bound))

    def forward(self, x: ExpressionRows, values: Tensor | None = None) -> Tensor:
        """Return ``h_nh``.

        Parameters
        ----------
        x
            Rows.
        values
            Other values in place of the rows' entries.
        """
        return product(x, self.weight_gh, values) + self.bias_h


def product(x: ExpressionRows, weight_gh: Tensor, values: Tensor | None = None) -> Tensor:
    """Return x W, ``(n, h)``, for rows that may be sparse; the entries of sparse rows have no gradient.

    Parameters
    ----------
    x
        Rows.
    weight_gh
        W.
    values
        Other values in place of the rows' entries.
    """
    values = x.values if values is None else values
    if not x.is_sparse:
        return values @ weight_gh
    if torch.is_grad_enabled() and weight_gh.requires_grad and fits("csr", weight_gh, values):
        return _CompiledProduct.apply(weight_gh, values, x)  # type: ignore[no-any-return,no-untyped-call]
    return _CSRProduct.apply(weight_gh, values, x)  # type: ignore[no-any-return,no-untyped-call]


class _CSRProduct(torch.autograd.Function):
    """X W for CSR rows: a sum of rows of W forwards, one dense product backwards.

    A tenth of the entries being stored, gathering rows of W beats the dense product four times; for the gradient
    Xᵀ G the dense product wins over any scatter. The entries themselves have no gradient.
    """

    @staticmethod
    def forward(ctx: Any, weight_gh: Tensor, values_e: Tensor, x: ExpressionRows) -> Tensor:
        ctx.x, ctx.values_e = x, values_e
        indptr_n, gene_e = x.csr()
        offsets = indptr_n.to(gene_e.dtype)
        return F.embedding_bag(
            gene_e, weight_gh, offsets, mode="sum", per_sample_weights=values_e, include_last_offset=True
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nh: Tensor) -> tuple[Tensor, None, None]:
        return ctx.x.dense(ctx.values_e).T @ grad_nh, None, None


class _CompiledProduct(torch.autograd.Function):
    """The same in training, compiled: sums of rows of W for each cell, and of rows of G for each gene."""

    @staticmethod
    def forward(ctx: Any, weight_gh: Tensor, values_e: Tensor, x: ExpressionRows) -> Tensor:
        indptr_n, gene_e = x.csr()
        ctx.arrays = integers(indptr_n, np.int64), integers(gene_e, np.int32), array(values_e)
        ctx.n_genes = x.n_genes
        return _sums(x.n_cells, *ctx.arrays, array(weight_gh))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nh: Tensor) -> tuple[Tensor, None, None]:
        value_e = ctx.arrays[-1]
        indptr_g, cell_e = np.empty(ctx.n_genes + 1, np.int64), np.empty(len(value_e), np.int32)
        sorted_e = np.empty_like(value_e)
        load("csr").by_gene(*ctx.arrays, indptr_g, cell_e, sorted_e)
        return _sums(ctx.n_genes, indptr_g, cell_e, sorted_e, array(grad_nh)), None, None


def _sums(n: int, *arrays: Any) -> Tensor:
    out = np.empty((n, arrays[-1].shape[1]), np.float32)
    load("threads").run(load("csr").product, *arrays, out)
    return torch.from_numpy(out)
