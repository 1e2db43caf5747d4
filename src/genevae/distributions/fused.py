"""Log-probabilities of counts whose proportions are a softmax, with all gradients in one compiled pass."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from genevae.cells import ExpressionRows
from genevae.distributions.deferred import Deferred, Gathered, SoftmaxMean, tensor_of
from genevae.kernels.arrays import array, fits, integers
from genevae.kernels.compile import PARTS, load, load_triton

__all__ = ["softmax_log_prob_n"]

LOGGER = logging.getLogger("genevae")
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

    What is compiled takes rows with all genes measured, and float32, on the CPU or on a GPU with Triton. Its errors are
    below 1e-5 of the largest number of a row, for counts up to 1e6 and θ from 1e-6 to 1e6, and its bits are the same
    for any number of threads.

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
    if not isinstance(mean, SoftmaxMean) or measured_ng is not None:
        return None
    logits, (table, code_n) = mean.logits, _table(theta, mean.logits.shape)
    gate_logits = None if gate is None else tensor_of(gate)
    shaped = (
        not rows.values.requires_grad
        and mean.measured_ng is None
        and logits.shape[-2] == rows.n_cells > 0
        and (theta is None or table is not None)
    )
    if not shaped or (gate_logits is not None and gate_logits.shape != logits.shape):
        return None
    given = [logits, mean.bias_g, mean.size_n1, rows.values]
    given += [parameter for parameter in (table, gate_logits) if parameter is not None]
    compiled: type[torch.autograd.Function]
    if fits("counts", *given):
        compiled = _SoftmaxLogProb
    elif _on_gpu(*given):
        compiled = _SoftmaxLogProbOnGPU
    else:
        return None
    grad = torch.is_grad_enabled()
    arguments = (logits, mean.bias_g, mean.size_n1, table, gate_logits, code_n, rows, grad)
    return compiled.apply(*arguments)  # type: ignore[no-any-return,no-untyped-call]


def _table(theta: Tensor | Deferred | None, shape: torch.Size) -> tuple[Tensor | None, Tensor | None]:
    """Return θ as a table of one row, or one for each row of the logits, or one for each category with their codes."""
    if isinstance(theta, Gathered):
        return theta.table_cg, theta.code_n
    if theta is not None and theta.shape in (shape[-1:], shape):
        return tensor_of(theta), None
    return None, None


class _SoftmaxLogProb(torch.autograd.Function):
    """Log p(x) of each cell; gradients are made in the forward pass, for the weight that a mean over cells gives."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        *parts, code_n, rows, grad = given
        parameters: Parameters = tuple(parts)
        logits = parameters[0]
        ctx.save_for_backward(*parameters)
        ctx.code_n, ctx.rows = code_n, rows
        m = logits.shape[:-1].numel()
        ctx.weight = np.float32(-1 / m)
        weight_m = np.full(m, ctx.weight)
        logp_m, ctx.gradients = _run(parameters, code_n, rows, weight_m, grad)
        return torch.from_numpy(logp_m).view(logits.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        parameters: Parameters = ctx.saved_tensors
        weight_m = np.ascontiguousarray(array(grad)).reshape(-1)
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None or weight_m.min() != weight_m.max():
            _, gradients = _run(parameters, ctx.code_n, ctx.rows, weight_m, True)
        elif weight_m[0] != ctx.weight:
            gradients = [each * (weight_m[0] / ctx.weight) for each in gradients]
        return *_shaped(gradients, parameters, ctx.code_n), None, None, None


def _run(
    parameters: Parameters,
    code_n: Tensor | None,
    rows: ExpressionRows,
    weight_m: NDArray[np.float32],
    grad: bool,
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Return log-probabilities, and gradients of logits, bias, size, θ and gate, in arrays as the loops write them."""
    kernels, run = load("counts"), load("threads").run
    logits, bias_g, size_n1, theta, gate_logits = parameters
    n_genes = logits.shape[-1]
    logits_mg = array(logits).reshape(-1, n_genes)
    m = len(logits_mg)
    logp_m, dsize_m, dbias_pg = _empty(m), _empty(m), _empty(PARTS, n_genes)
    dlogits_mg = _empty(m if grad else 0, n_genes)
    data = array(size_n1).reshape(-1), *_stored(rows)
    arguments = (logits_mg, array(bias_g), *data, weight_m, grad, logp_m, dlogits_mg, dbias_pg, dsize_m)
    if theta is None:
        run(kernels.poisson, *arguments)
        return logp_m, [dlogits_mg, dbias_pg, dsize_m]
    theta_cg = array(theta).reshape(-1, n_genes)
    code_m = _codes(code_n, m, len(theta_cg))
    gate_mg = _empty(0, n_genes) if gate_logits is None else array(gate_logits).reshape(-1, n_genes)
    dtheta_pg, dgate_mg = _empty(PARTS if len(theta_cg) == 1 else len(dlogits_mg), n_genes), np.empty_like(gate_mg)
    run(kernels.negative_binomial, *arguments, theta_cg, code_m, dtheta_pg, gate_mg, dgate_mg)
    return logp_m, [dlogits_mg, dbias_pg, dsize_m, dtheta_pg, dgate_mg]


def _stored(rows: ExpressionRows) -> tuple[Any, ...]:
    """Return the starts of rows, and the genes and values that are stored, or that are not zero in dense rows."""
    if rows.is_sparse:
        indptr_n, gene_e = rows.csr()
        return integers(indptr_n, np.int64), integers(gene_e, np.int32), array(rows.values)
    x_ng = np.ascontiguousarray(array(rows.values))
    start_n, place_e, x_e = np.empty(len(x_ng) + 1, np.int64), np.empty(x_ng.size, np.int32), _empty(x_ng.size)
    n = load("csr").stored(x_ng, start_n, place_e, x_e)
    return start_n, place_e[:n], x_e[:n]


def _shaped(gradients: list[NDArray[np.float32]], parameters: Parameters, code_n: Tensor | None) -> list[Tensor | None]:
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
        shaped[3] = torch.from_numpy(_theta_gradient(others[0], theta.numel(), code_n)).view(theta.shape)
    if gate_logits is not None:
        shaped[4] = torch.from_numpy(others[1]).view(gate_logits.shape)
    return shaped


def _codes(code_n: Tensor | None, m: int, n_rows: int) -> NDArray[np.int64]:
    """Return the row of the table of θ for each row of the logits."""
    if code_n is not None:
        return np.tile(array(code_n), m // len(code_n))
    return np.zeros(m, np.int64) if n_rows == 1 else np.arange(m)


def _theta_gradient(dtheta_pg: NDArray[np.float32], size: int, code_n: Tensor | None) -> NDArray[np.float32]:
    """Sum the gradients of θ over parts, or over the rows of each category."""
    n_genes = dtheta_pg.shape[1]
    if size == n_genes:
        dtheta_g: NDArray[np.float32] = dtheta_pg.sum(0)
        return dtheta_g
    if code_n is None:
        return dtheta_pg
    dtheta_cg = np.zeros((size // n_genes, n_genes), np.float32)
    np.add.at(dtheta_cg, _codes(code_n, len(dtheta_pg), len(dtheta_cg)), dtheta_pg)
    return dtheta_cg


def _empty(*shape: int) -> NDArray[np.float32]:
    return np.empty(shape, np.float32)


class _SoftmaxLogProbOnGPU(torch.autograd.Function):
    """The same in Triton: gradients of each row are made in the forward pass, and weighed in the backward pass."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        logits, bias_g, size_n1, theta, gate_logits, code_n, rows, grad = given
        n_genes, m, n = logits.shape[-1], logits.shape[:-1].numel(), len(size_n1)
        theta_cg, gate_mg = (None if x is None else x.reshape(-1, n_genes).contiguous() for x in (theta, gate_logits))
        if code_n is not None:
            code_m = code_n.repeat(m // n)
        else:
            code_m = torch.arange(m, device=logits.device) * (theta_cg is not None and len(theta_cg) > 1)
        csr = tuple(x.contiguous() for x in rows.csr()) if rows.is_sparse else (None, None)
        logp_m, *gradients = load_triton("triton_counts").log_prob(
            logits.reshape(m, n_genes).contiguous(), bias_g.contiguous(), size_n1.reshape(n).contiguous(),
            *csr, rows.values.contiguous(), theta_cg, code_m, gate_mg, grad,
        )  # fmt: skip
        ctx.save_for_backward(*gradients, code_m)
        ctx.is_coded, ctx.n = code_n is not None, n
        ctx.shapes = [None if x is None else x.shape for x in (logits, theta, gate_logits)]
        logp: Tensor = logp_m.view(logits.shape[:-1])
        return logp

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dlogits_mg, dsize_m, dtheta_mg, dgate_mg, code_m = ctx.saved_tensors
        logits_shape, theta_shape, gate_shape = ctx.shapes
        weight_m1 = grad.reshape(-1, 1)
        dtheta = dgate = None
        if theta_shape is not None:
            n_rows = theta_shape.numel() // logits_shape[-1]
            if ctx.is_coded:  # a product, as sums of rows by category would depend on the order of the threads
                dtheta = (torch.nn.functional.one_hot(code_m, n_rows) * weight_m1).T @ dtheta_mg
            else:
                dtheta = weight_m1.T @ dtheta_mg if n_rows == 1 else weight_m1 * dtheta_mg
            dtheta = dtheta.view(theta_shape)
        if gate_shape is not None:
            dgate = (weight_m1 * dgate_mg).view(gate_shape)
        dsize_n1 = (weight_m1[:, 0] * dsize_m).view(-1, ctx.n).sum(0).unsqueeze(-1)
        dlogits = (weight_m1 * dlogits_mg).view(logits_shape)
        return dlogits, (weight_m1.T @ dlogits_mg)[0], dsize_n1, dtheta, dgate, None, None, None


def _on_gpu(*tensors: Tensor) -> bool:
    """Whether Triton takes these tensors: float32 on a GPU where it gives what the plain form gives."""
    if torch.compiler.is_compiling() or any(x.dtype is not torch.float32 or not x.is_cuda for x in tensors):
        return False
    return _works_on(tensors[0].device)


@cache
def _works_on(device: torch.device) -> bool:
    """Whether Triton is there, and right about a small example; where it is not, the plain form is used, and said."""
    if load_triton("triton_counts") is None:
        return False
    x, size_n1 = torch.tensor([[0.0, 3.0], [1.0, 0.0]]), torch.tensor([[5.0], [2.0]])
    rows = ExpressionRows(x[x > 0], 2, torch.tensor([0, 1, 2]), torch.tensor([1, 0])).to(device)
    logits, bias_g, theta_g = torch.tensor([[0.5, -0.2], [0.1, 0.4]]), torch.zeros(2), torch.tensor([0.7, 2.0])
    mean_ng = size_n1 * logits.softmax(-1)
    plain = torch.distributions.NegativeBinomial(theta_g, logits=mean_ng.log() - theta_g.log()).log_prob(x).sum(-1)
    given = [each.to(device) for each in (logits, bias_g, size_n1, theta_g)]
    try:
        found = [
            _SoftmaxLogProbOnGPU.apply(*given, None, None, each, True)  # type: ignore[no-untyped-call]
            for each in (rows, ExpressionRows.from_dense(rows.dense()))
        ]
        error = max(float((each.cpu() - plain).abs().max()) for each in found)
    except Exception as problem:  # noqa: BLE001 - whatever a compiler raises
        LOGGER.warning("Triton cannot compile likelihoods for %s (%s). They are computed without it.", device, problem)
        return False
    if not error < 1e-4:
        LOGGER.warning("Likelihoods of Triton on %s are wrong by %g nats. They are computed without it.", device, error)
        return False
    return True
