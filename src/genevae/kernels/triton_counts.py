"""Log-probabilities of counts on a GPU, in Triton: the formulas of :mod:`genevae.kernels.counts`.

One program has one row, CSR or dense: it goes over its genes in blocks, as if all counts were zero, and then over its
stored entries, in float64. Gradients are those of each row; the caller multiplies them by the rows' weights and adds
them up.

Tests run it in Triton's interpreter on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["log_prob"]

GENES, ENTRIES = 1024, 256
"""Genes and stored entries that a program has at a time."""


@triton.jit
def _log1p(u: Any) -> Any:
    """log(1 + u) of u ≥ 0."""
    w = 1.0 + u
    return tl.log(w) + (u - (w - 1.0)) / w


@triton.jit
def _softplus(x: Any) -> Any:
    """log(1 + eˣ)."""
    return tl.maximum(x, 0.0) + _log1p(tl.exp(-tl.abs(x)))


@triton.jit
def _sigmoid(x: Any) -> Any:
    """1 / (1 + e⁻ˣ)."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _log_gamma(z: Any) -> Any:
    """Log Γ(z) of float64 above zero, by recurrence and Stirling's series."""
    p = z * 0.0 + 1.0
    for _ in tl.static_range(8):
        p = tl.where(z < 8.0, p * z, p)
        z = tl.where(z < 8.0, z + 1.0, z)
    i = 1.0 / z
    s = i * i
    tail = i * (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s / 1188))))
    return (z - 0.5) * tl.log(z) - z + 0.9189385332046727 + tail - tl.log(p)


@triton.jit
def _digamma_difference(x: Any, theta: Any) -> Any:
    """ψ(x+θ) − ψ(θ) of float64, as sums of differences that vanish with x."""
    total = x * 0.0
    for _ in tl.static_range(8):
        total += tl.where(theta < 8.0, x / (theta * (theta + x)), 0.0)
        theta = tl.where(theta < 8.0, theta + 1.0, theta)
    return total + _log1p(x / theta) + _digamma_tail(theta + x) - _digamma_tail(theta)


@triton.jit
def _digamma_tail(z: Any) -> Any:
    """ψ(z) − log z of a large z."""
    i = 1.0 / z
    s = i * i
    return -i / 2 - s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s / 240)))


@triton.jit
def _zeros(mean: Any, theta: Any, gate: Any, NB: tl.constexpr, GATED: tl.constexpr) -> Any:
    """Return log p(0), and its gradients by log μ, θ and the logit of zero inflation."""
    logp, slope, dtheta, dgate = -mean, -mean, mean * 0.0, mean * 0.0
    if NB:
        u = mean / theta
        r = 1.0 / (1.0 + u)
        odds, w = _log1p(u), u * r
        # μ/(θ+μ) − log(1 + μ/θ) = w + log(1−w) = −Σ wᵏ/k from k = 2, where w is small
        series = (w / 9 + 1 / 8) * w + 1 / 7
        series = (series * w + 1 / 6) * w + 1 / 5
        series = ((series * w + 1 / 4) * w + 1 / 3) * w + 1 / 2
        logp, slope, dtheta = -theta * odds, -mean * r, tl.where(w < 0.15, -series * w * w, w - odds)
    if GATED:
        share = _sigmoid(logp - gate)  # the probability that a zero is the base's
        slope, dtheta, dgate = slope * share, dtheta * share, 1.0 - share - _sigmoid(gate)
        logp = _softplus(logp - gate) - _softplus(-gate)
    return logp, slope, dtheta, dgate


@triton.jit
def _stored(x: Any, mean: Any, log_mean: Any, theta: Any, gate: Any, NB: tl.constexpr, GATED: tl.constexpr) -> Any:
    """Return log p(x) of x > 0, and the same gradients, in float64."""
    logp, slope = x * log_mean - mean - _log_gamma(x + 1.0), x - mean
    dtheta, dgate = x * 0.0, x * 0.0
    if NB:
        whole, odds = theta + mean, _log1p(mean / theta)
        coefficient = _log_gamma(x + theta) - _log_gamma(theta) - _log_gamma(x + 1.0)
        logp = x * (log_mean - tl.log(whole)) + coefficient - theta * odds
        slope = (x - mean) / (1.0 + mean / theta)
        dtheta = _digamma_difference(x, theta) - odds + (mean - x) / whole
    if GATED:
        logp, dgate = logp - _softplus(gate), -_sigmoid(gate)
    return logp, slope, dtheta, dgate


@triton.jit
def _row(  # noqa: C901 - one kernel
    logits: Any, bias: Any, sizes: Any, indptr: Any, genes: Any, counts: Any, thetas: Any, codes: Any, gates: Any,
    logps: Any, dlogits: Any, dsizes: Any, dthetas: Any, dgates: Any, n_cells: Any, n_genes: Any,
    NB: tl.constexpr, GATED: tl.constexpr, DENSE: tl.constexpr, GRAD: tl.constexpr,
    GENES: tl.constexpr, ENTRIES: tl.constexpr,
) -> None:  # fmt: skip
    """Write the log-probability of a row, and its gradients."""
    i = tl.program_id(0).to(tl.int64)
    cell = i % n_cells
    size, at = tl.load(sizes + cell), i * n_genes
    theta_at = tl.load(codes + i) * n_genes
    block, entry = tl.arange(0, GENES), tl.arange(0, ENTRIES)

    # The softmax, in one pass: the largest logit so far, and the sum of exponentials below it.
    top, total = tl.load(logits + at) + tl.load(bias), size * 0.0
    for start in range(0, n_genes, GENES):
        j = start + block
        h = tl.load(logits + at + j, j < n_genes, -float("inf")) + tl.load(bias + j, j < n_genes, 0.0)
        higher = tl.maximum(top, tl.max(h, 0))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(h - higher), 0)
        top = higher
    offset = tl.log(size.to(tl.float64)) - tl.log(total.to(tl.float64)) - top.to(tl.float64)
    factor = size / total

    # All genes, as if their counts were zero.
    logp, slopes = offset * 0.0, offset * 0.0
    for start in range(0, n_genes, GENES):
        j = start + block
        here = j < n_genes
        h = tl.load(logits + at + j, here, -float("inf")) + tl.load(bias + j, here, 0.0)
        mean = factor * tl.exp(h - top)
        theta = tl.load(thetas + theta_at + j, here, 1.0)
        gate = tl.load(gates + at + j, here, -float("inf")) if GATED else mean
        value, slope, dtheta, dgate = _zeros(mean, theta, gate, NB, GATED)
        logp += tl.sum(tl.where(here, value, 0.0).to(tl.float64), 0)
        slopes += tl.sum(tl.where(here, slope, 0.0).to(tl.float64), 0)
        if GRAD:
            tl.store(dlogits + at + j, slope, here)
            if NB:
                tl.store(dthetas + at + j, dtheta, here)
            if GATED:
                tl.store(dgates + at + j, dgate, here)
    tl.debug_barrier()

    # The stored entries, in place of zeros.
    if DENSE:
        first, last = cell * n_genes, cell * n_genes + n_genes
    else:
        first, last = tl.load(indptr + cell), tl.load(indptr + cell + 1)
    for start in range(first, last, ENTRIES):
        e = start + entry
        x = tl.load(counts + e, e < last, 0.0)
        here = x > 0.0
        j = e - first if DENSE else tl.load(genes + e, e < last, 0)
        h = tl.load(logits + at + j, here, 0.0) + tl.load(bias + j, here, 0.0)
        mean, theta = factor * tl.exp(h - top), tl.load(thetas + theta_at + j, here, 1.0)
        gate = tl.load(gates + at + j, here, 0.0) if GATED else mean
        zero, zero_slope, _, _ = _zeros(mean, theta, gate, NB, GATED)
        log_mean = h.to(tl.float64) + offset
        value, slope, dtheta, dgate = _stored(
            x.to(tl.float64), tl.exp(log_mean), log_mean, theta.to(tl.float64), gate.to(tl.float64), NB, GATED
        )
        logp += tl.sum(tl.where(here, value - zero.to(tl.float64), 0.0), 0)
        slopes += tl.sum(tl.where(here, slope - zero_slope.to(tl.float64), 0.0), 0)
        if GRAD:
            tl.store(dlogits + at + j, slope.to(tl.float32), here)
            if NB:
                tl.store(dthetas + at + j, dtheta.to(tl.float32), here)
            if GATED:
                tl.store(dgates + at + j, dgate.to(tl.float32), here)
    tl.store(logps + i, logp.to(tl.float32))
    tl.debug_barrier()

    # From gradients by log μ to those of logits: ∂ℓ/∂logit_g = d_g − ρ_g Σ_j d_j.
    if GRAD:
        tl.store(dsizes + i, (slopes / size).to(tl.float32))
        for start in range(0, n_genes, GENES):
            j = start + block
            here = j < n_genes
            h = tl.load(logits + at + j, here, -float("inf")) + tl.load(bias + j, here, 0.0)
            share = tl.exp(h - top) / total
            tl.store(dlogits + at + j, tl.load(dlogits + at + j, here, 0.0) - share * slopes.to(tl.float32), here)


def log_prob(
    logits_mg: Tensor, bias_g: Tensor, size_n: Tensor, indptr_n: Tensor | None, gene_e: Tensor | None, x_e: Tensor,
    theta_cg: Tensor | None, code_m: Tensor, gate_mg: Tensor | None, grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the log-probability of each row, and its gradients by logits, size, θ and the gate of each row.

    Parameters
    ----------
    logits_mg, bias_g, size_n
        Of the softmax; rows of several particles follow each other, each of ``n`` cells.
    indptr_n, gene_e, x_e
        The counts of ``n`` cells as CSR; or all of them, row by row, without ``indptr_n`` and ``gene_e``.
    theta_cg, code_m
        θ, and its row for each row; None for a Poisson distribution.
    gate_mg
        Logits of zero inflation; None without it.
    grad
        Whether gradients are needed; empty without.
    """
    m, n_genes = logits_mg.shape
    rows = m if grad else 0
    logp_m, dsize_m = logits_mg.new_empty(m), logits_mg.new_empty(rows)
    dlogits_mg = logits_mg.new_empty(rows, n_genes)
    dtheta_mg = torch.empty_like(dlogits_mg if theta_cg is not None else dsize_m[:0])
    dgate_mg = torch.empty_like(dlogits_mg if gate_mg is not None else dsize_m[:0])
    csr = (code_m, code_m) if indptr_n is None else (indptr_n, gene_e)  # what is not used may be anything
    theta, gate = (bias_g if theta_cg is None else theta_cg), (logits_mg if gate_mg is None else gate_mg)
    with torch.cuda.device_of(logits_mg):
        _row[(m,)](
            logits_mg, bias_g, size_n, *csr, x_e, theta, code_m, gate, logp_m, dlogits_mg, dsize_m, dtheta_mg, dgate_mg,
            len(size_n), n_genes, NB=theta_cg is not None, GATED=gate_mg is not None, DENSE=indptr_n is None, GRAD=grad,
            GENES=GENES, ENTRIES=ENTRIES,
        )  # fmt: skip
    return logp_m, dlogits_mg, dsize_m, dtheta_mg, dgate_mg
