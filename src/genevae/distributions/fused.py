"""Log-probabilities of counts whose proportions are a softmax, with all gradients in one compiled pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from genevae.cells import ExpressionRows
from genevae.distributions.deferred import Deferred, Gathered, SoftmaxMean, tensor_of
from genevae.kernels.arrays import array, fits, run
from genevae.kernels.compile import PARTS, load

__all__ = ["softmax_log_prob_n"]

Parameters = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]
"""Logits, bias, size, θ and the logits of zero inflation."""


def softmax_log_prob_n(
    rows: ExpressionRows,
    measured_ng: Tensor | None,
    mean: Tensor | Deferred,
    theta: Tensor | Deferred | None = None,
    gate: Tensor | Deferred | None = None,
) -> Tensor | None:
    """Return log p(x) of each cell, ``(…, n)``; None where nothing is compiled for such parameters.

    What is compiled takes sparse rows with all genes measured, and float32 on the CPU. Its errors are below 1e-5 of the
    largest number of a row, for counts up to 1e6 and θ from 1e-6 to 1e6, and its bits are the same for any number of
    threads.

    Parameters
    ----------
    rows
        ``x_ng``.
    measured_ng
        Which entries were measured.
    mean
        Means.
    theta
        θ of a negative binomial: one per gene, per gene and category, or per entry; None for a Poisson distribution.
    gate
        Logits of zero inflation.
    """
    if not isinstance(mean, SoftmaxMean) or not rows.is_sparse or measured_ng is not None:
        return None
    logits, (table, code_m) = mean.logits, _table(theta, mean.logits.shape)
    gate_logits = None if gate is None else tensor_of(gate)
    shaped = mean.measured_ng is None and logits.shape[-2] == rows.n_cells > 0 and (theta is None or table is not None)
    if not shaped or (gate_logits is not None and gate_logits.shape != logits.shape):
        return None
    given = [logits, mean.bias_g, mean.size_n1, rows.values]
    if not fits("counts", *given, *(parameter for parameter in (table, gate_logits) if parameter is not None)):
        return None
    grad = torch.is_grad_enabled()
    arguments = (logits, mean.bias_g, mean.size_n1, table, gate_logits, code_m, rows, grad)
    return _SoftmaxLogProb.apply(*arguments)  # type: ignore[no-any-return,no-untyped-call]


def _table(theta: Tensor | Deferred | None, shape: torch.Size) -> tuple[Tensor | None, NDArray[np.int64] | None]:
    """Return θ as a table, and the row of it for each row of the logits; None if it has one for each."""
    m = shape[:-1].numel()
    if isinstance(theta, Gathered):
        return theta.table_cg, np.tile(array(theta.code_n), m // len(theta.code_n))
    if theta is not None and theta.shape == shape[-1:]:
        return tensor_of(theta), np.zeros(m, np.int64)
    if theta is not None and theta.shape == shape:
        return tensor_of(theta), None
    return None, None


class _SoftmaxLogProb(torch.autograd.Function):
    """Log p(x) of each cell; gradients are made in the forward pass, for the weight that a mean over cells gives."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        bias_g: Tensor,
        size_n1: Tensor,
        theta: Tensor | None,
        gate_logits: Tensor | None,
        code_m: NDArray[np.int64] | None,
        rows: ExpressionRows,
        grad: bool,
    ) -> Tensor:
        parameters = (logits, bias_g, size_n1, theta, gate_logits)
        ctx.save_for_backward(*parameters)
        ctx.code_m, ctx.rows = code_m, rows
        m = logits.shape[:-1].numel()
        ctx.weight = np.float32(-1 / m)
        weight_m = np.full(m, ctx.weight)
        logp_m, ctx.gradients = _run(parameters, code_m, rows, weight_m, grad)
        return torch.from_numpy(logp_m).view(logits.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        parameters: Parameters = ctx.saved_tensors
        weight_m = np.ascontiguousarray(array(grad)).reshape(-1)
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None or weight_m.min() != weight_m.max():
            _, gradients = _run(parameters, ctx.code_m, ctx.rows, weight_m, True)
        elif weight_m[0] != ctx.weight:
            gradients = [each * (weight_m[0] / ctx.weight) for each in gradients]
        return *_shaped(gradients, parameters, ctx.code_m), None, None, None


def _run(
    parameters: Parameters,
    code_m: NDArray[np.int64] | None,
    rows: ExpressionRows,
    weight_m: NDArray[np.float32],
    grad: bool,
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Return log-probabilities, and gradients of logits, bias, size, θ and gate, in arrays as the loops write them."""
    kernels = load("counts")
    logits, bias_g, size_n1, theta, gate_logits = parameters
    n_genes = logits.shape[-1]
    logits_mg = array(logits).reshape(-1, n_genes)
    m = len(logits_mg)
    indptr_n, gene_e = rows.csr()
    logp_m, dsize_m, dbias_pg = _empty(m), _empty(m), _empty(PARTS, n_genes)
    dlogits_mg = _empty(m if grad else 0, n_genes)
    data = (array(size_n1).reshape(-1), array(indptr_n), array(gene_e), array(rows.values))
    arguments = (logits_mg, array(bias_g), *data, weight_m, grad, logp_m, dlogits_mg, dbias_pg, dsize_m)
    if theta is None:
        run(kernels.poisson, *arguments)
        return logp_m, [dlogits_mg, dbias_pg, dsize_m]
    code_m = np.arange(m) if code_m is None else code_m
    theta_cg = array(theta).reshape(-1, n_genes)
    gate_mg = _empty(0, n_genes) if gate_logits is None else array(gate_logits).reshape(-1, n_genes)
    dtheta_pg, dgate_mg = _empty(PARTS if len(theta_cg) == 1 else len(dlogits_mg), n_genes), np.empty_like(gate_mg)
    run(kernels.negative_binomial, *arguments, theta_cg, code_m, dtheta_pg, gate_mg, dgate_mg)
    return logp_m, [dlogits_mg, dbias_pg, dsize_m, dtheta_pg, dgate_mg]


def _shaped(
    gradients: list[NDArray[np.float32]], parameters: Parameters, code_m: NDArray[np.int64] | None
) -> list[Tensor | None]:
    """Sum the gradients of the loops to the shapes of the parameters."""
    logits, _, size_n1, theta, gate_logits = parameters
    dlogits_mg, dbias_pg, dsize_m, *others = gradients
    shaped: list[Tensor | None] = [
        torch.from_numpy(dlogits_mg).view(logits.shape),
        torch.from_numpy(dbias_pg.sum(0)),
        torch.from_numpy(dsize_m.reshape(-1, len(size_n1)).sum(0)).unsqueeze(-1),
        None,
        None,
    ]
    if theta is not None:
        shaped[3] = torch.from_numpy(_theta_gradient(others[0], theta.numel(), code_m)).view(theta.shape)
    if gate_logits is not None:
        shaped[4] = torch.from_numpy(others[1]).view(gate_logits.shape)
    return shaped


def _theta_gradient(dtheta_pg: NDArray[np.float32], size: int, code_m: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Sum the gradients of θ over parts, or over the rows of each category."""
    n_genes = dtheta_pg.shape[1]
    if size == n_genes:
        dtheta_g: NDArray[np.float32] = dtheta_pg.sum(0)
        return dtheta_g
    if code_m is None:
        return dtheta_pg
    dtheta_cg = np.zeros((size // n_genes, n_genes), np.float32)
    np.add.at(dtheta_cg, code_m, dtheta_pg)
    return dtheta_cg


def _empty(*shape: int) -> NDArray[np.float32]:
    return np.empty(shape, np.float32)
