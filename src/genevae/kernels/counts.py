"""Log-probabilities of counts on CSR rows, from the logits of proportions, with all gradients in the same pass.

With ρ = softmax(logits + bias), μ = size · ρ and d = ∂ℓ/∂log μ of each entry, ∂ℓ/∂logit_g = d_g − ρ_g Σ_j d_j and
∂ℓ/∂size = Σ_j d_j / size. For the negative binomial d = θ (x − μ) / (θ + μ), and
∂ℓ/∂θ = ψ(x+θ) − ψ(θ) − log(1 + μ/θ) + (μ − x) / (θ + μ). All entries are computed as if they were zero, by loops over
float32 that become vector instructions; then the stored ones again, one by one, in float64.

The coefficients of eˣ and log x are those of Cephes (S. L. Moshier, netlib.org/cephes: expf, logf).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from genevae.kernels.compile import PARTS, exact, inlined
from genevae.kernels.threads import flag, in_parts, matrix, next_part, vector

__all__ = ["negative_binomial", "poisson"]

F, D = np.float32, np.float64
"""Not float(), which leaves a float32 what it is in what numba compiles."""
SMALL = 8
"""Counts up to this are computed as products."""
TINY = 1e-30
"""A mean below this has underflowed, or nearly; its logarithm is then taken from the logits."""
I = np.int32  # noqa: E741 - the short names keep formulas readable


def _cast(source: Any, target: Any) -> Any:
    """Make a function that takes the bits of a number for those of a number of another type."""

    def typed(_context: Any, _x: Any) -> Any:
        def cast(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            return builder.bitcast(values[0], context.get_value_type(target))

        return target(source), cast

    return intrinsic(typed)


_bits, _of_bits = _cast(types.float32, types.int32), _cast(types.int32, types.float32)
_bits64, _of_bits64 = _cast(types.float64, types.int64), _cast(types.int64, types.float64)
LOG_FACTORIAL = np.log(np.cumprod([1.0, *range(1, SMALL + 1)]))
ROOT_HALF = 0x3FE6A09E667F3BCD
"""The bits of √½ in float64."""


@exact
def exp(x: Any) -> Any:
    """eˣ of a float32, to 1e-7; x is limited to ±87."""
    v = min(max(x, F(-87.0)), F(87.0))
    n = np.floor(v * F(1.44269504) + F(0.5))
    f = (v - n * F(0.693359375)) + n * F(2.12194440e-4)  # ln 2 in two parts, of which the first is exact
    p = F(1.9875691500e-4) * f + F(1.3981999507e-3)
    p = (p * f + F(8.3334519073e-3)) * f + F(4.1665795894e-2)
    p = (p * f + F(1.6666665459e-1)) * f + F(5.0000001201e-1)
    power = (p * f * f + f + F(1.0)) * _of_bits(I((I(n) + I(127)) << I(23)))
    return power if x == x else x  # NaN stays NaN


@exact
def log(x: Any) -> Any:
    """Log x of a positive, normal float32, to 1e-7."""
    b = I(_bits(x) - I(0x3F3504F3))  # so that the mantissa is between √½ and √2
    e = F(I(b >> I(23)))
    f = _of_bits(I(I(b & I(0x7FFFFF)) + I(0x3F3504F3))) - F(1.0)
    z = f * f
    p = F(7.0376836292e-2) * f - F(1.1514610310e-1)
    p = (p * f + F(1.1676998740e-1)) * f - F(1.2420140846e-1)
    p = (p * f + F(1.4249322787e-1)) * f - F(1.6668057665e-1)
    p = (p * f + F(2.0000714765e-1)) * f - F(2.4999993993e-1)
    p = p * f + F(3.3333331174e-1)
    return (p * f * z - e * F(2.12194440e-4)) - F(0.5) * z + f + e * F(0.693359375)


@exact
def log64(x: Any) -> Any:
    """Log x of a positive, normal float64, to 1e-15: log m = 2 artanh((m − 1) / (m + 1)) of the mantissa m."""
    b = _bits64(x) - ROOT_HALF  # so that the mantissa is between √½ and √2
    s = _of_bits64((b & 0xFFFFFFFFFFFFF) + ROOT_HALF)
    s = (s - 1.0) / (s + 1.0)
    z = s * s
    p = ((z * (1 / 21) + 1 / 19) * z + 1 / 17) * z + 1 / 15
    p = ((p * z + 1 / 13) * z + 1 / 11) * z + 1 / 9
    p = ((p * z + 1 / 7) * z + 1 / 5) * z + 1 / 3
    return D(I(b >> 52)) * 0.6931471805599453 + 2.0 * (s + s * z * p)


@exact
def _log1p64(u: Any) -> Any:
    """log(1 + u) of a float64 u ≥ 0, to 1e-15 of its value."""
    w = 1.0 + u
    return log64(w) + (u - (w - 1.0)) / w


@exact
def log1p(u: Any) -> Any:
    """log(1 + u) of a float32 u ≥ 0, to 1e-7 of its value."""
    w = F(1.0) + u
    return _log1p(u, w, F(1.0) / w)


@exact
def _log1p(u: Any, w: Any, r: Any) -> Any:
    """log(1 + u), given w = 1 + u as rounded, and r = 1/w."""
    return log(w) + (u - (w - F(1.0))) * r


@exact
def softplus(x: Any) -> Any:
    """log(1 + eˣ)."""
    return max(x, F(0.0)) + log1p(exp(-abs(x)))


@exact
def sigmoid(x: Any) -> Any:
    """1 / (1 + e⁻ˣ)."""
    return F(1.0) / (F(1.0) + exp(-x))


@exact
def log_gamma(z: Any) -> Any:
    """Log Γ(z) of a float64 above zero, by recurrence and Stirling's series, to 1e-11."""
    p = 1.0
    while z < 8.0:
        p *= z
        z += 1.0
    return _stirling(z) - math.log(p)


@exact
def _stirling(z: Any) -> Any:
    """Log Γ(z) of a float64 from 8 on."""
    i = 1.0 / z
    s = i * i
    tail = i * (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s / 1188))))
    return (z - 0.5) * log64(z) - z + 0.9189385332046727 + tail


@exact
def log_coefficient(x: Any, theta: Any) -> Any:
    """Log Γ(x+θ) − log Γ(θ) − log x!, of float64."""
    return log_gamma(x + theta) - log_gamma(theta) - log_gamma(x + 1.0)


@exact
def digamma_difference(x: Any, theta: Any) -> Any:
    """ψ(x+θ) − ψ(θ), of float64, as sums of differences that vanish with x."""
    total = 0.0
    while theta < 8.0:
        total += x / (theta * (theta + x))
        theta += 1.0
    return total + math.log1p(x / theta) + _digamma_tail(theta + x) - _digamma_tail(theta)


@exact
def _digamma_tail(z: Any) -> Any:
    """ψ(z) − log z of a large z."""
    i = 1.0 / z
    s = i * i
    return -i / 2 - s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s / 240)))


@inlined
def _means(logits_g: Any, bias_g: Any, size: Any, mean_g: Any) -> Any:
    """Set the means of a row, size · softmax(logits + bias), and return log μ − (logit + bias)."""
    top = F(-np.inf)
    for j in range(len(mean_g)):
        mean_g[j] = logits_g[j] + bias_g[j]
    for j in range(len(mean_g)):
        top = max(top, mean_g[j])
    total = F(0.0)
    for j in range(len(mean_g)):
        e = exp(mean_g[j] - top)
        mean_g[j] = e
        total += e
    factor = size / total
    for j in range(len(mean_g)):
        mean_g[j] *= factor
    return math.log(D(size) / D(total)) - D(top)


@inlined
def _finish(mean_g: Any, slope_g: Any, size: Any, weight: Any, dlogits_g: Any, dbias_g: Any) -> Any:
    """Turn ∂ℓ/∂log μ of a row into gradients of its logits, add them to those of the bias, and return Σ ∂ℓ/∂log μ."""
    total = F(0.0)
    for j in range(len(mean_g)):
        total += slope_g[j]
    per_mean = total / size
    for j in range(len(mean_g)):
        d = weight * (slope_g[j] - mean_g[j] * per_mean)
        dlogits_g[j] = d
        dbias_g[j] += d
    return total


@exact
def _log_mean(mean: Any, logit: Any, offset: Any) -> Any:
    """Log μ in float64."""
    return log64(mean) if mean > TINY else logit + offset


COUNTS = (F, F, F, np.int64, np.int32, F, F, bool, F, F, F, F)
"""The types of the arguments that :func:`poisson` and :func:`negative_binomial` share."""


@in_parts(*COUNTS)
def poisson(args: Any) -> None:
    """Write the log-probabilities of all rows, and their gradients times the rows' weights.

    The arguments are ``logits_mg``, ``bias_g``, ``size_n``, the ``indptr_n``, ``gene_e`` and ``x_e`` of the counts,
    ``weight_m``, ``grad`` (whether gradients are written), and what is written: ``logp_m``, ``dlogits_mg``,
    ``dbias_pg`` and ``dsize_m``.
    """
    logits_mg, bias_g, size_n = matrix(args, 0), vector(args, 1, F), vector(args, 2, F)
    indptr_n, gene_e, x_e = vector(args, 3, np.int64), vector(args, 4, np.int32), vector(args, 5, F)
    weight_m, grad, logp_m = vector(args, 6, F), flag(args, 7), vector(args, 8, F)
    dlogits_mg, dbias_pg, dsize_m = matrix(args, 9), matrix(args, 10), vector(args, 11, F)
    n, n_genes = logits_mg.shape
    mean_g, slope_g = np.empty(n_genes, F), np.empty(n_genes, F)
    part = next_part(args)
    while part < PARTS:
        dbias_pg[part, :] = F(0.0)
        for i in range(part * n // PARTS, (part + 1) * n // PARTS):
            row = i % len(size_n)
            size = size_n[row]
            offset = _means(logits_mg[i], bias_g, size, mean_g)
            total = F(0.0)
            for j in range(n_genes):
                total += mean_g[j]
                slope_g[j] = -mean_g[j]
            logp = -D(total)
            for k in range(indptr_n[row], indptr_n[row + 1]):
                j, x = gene_e[k], D(x_e[k])
                logp += x * _log_mean(D(mean_g[j]), D(logits_mg[i, j]) + D(bias_g[j]), offset)
                logp -= LOG_FACTORIAL[int(x)] if x <= SMALL and x == int(x) else log_gamma(x + 1.0)
                slope_g[j] = F(x - D(mean_g[j]))
            logp_m[i] = logp
            if grad:
                total = _finish(mean_g, slope_g, size, weight_m[i], dlogits_mg[i], dbias_pg[part])
                dsize_m[i] = weight_m[i] * total / size
        part = next_part(args)


@inlined
def _zeros(mean_g: Any, theta_g: Any, inverse_g: Any, logp_g: Any, slope_g: Any, dtheta_g: Any, grad: Any) -> None:
    """Set log p(0), and its gradients by log μ and by θ, for every gene of a row."""
    if not grad:
        for j in range(len(mean_g)):
            logp_g[j] = -theta_g[j] * log1p(mean_g[j] * inverse_g[j])
        return
    for j in range(len(mean_g)):
        u = mean_g[j] * inverse_g[j]
        one_more = F(1.0) + u
        r = F(1.0) / one_more
        log_odds = _log1p(u, one_more, r)
        w = u * r
        # μ/(θ+μ) − log(1 + μ/θ) = w + log(1−w) = −Σ wᵏ/k from k = 2, where w is small
        series = (F(1 / 9) * w + F(1 / 8)) * w + F(1 / 7)
        series = (series * w + F(1 / 6)) * w + F(1 / 5)
        series = ((series * w + F(1 / 4)) * w + F(1 / 3)) * w + F(1 / 2)
        logp_g[j] = -theta_g[j] * log_odds
        slope_g[j] = -mean_g[j] * r
        dtheta_g[j] = -series * w * w if w < F(0.15) else w - log_odds


@inlined
def _inflate(gate_g: Any, logp_g: Any, slope_g: Any, dtheta_g: Any, dgate_g: Any, grad: Any) -> None:
    """Turn log p(0) of the base into log(π + (1−π) p(0)), and its gradients, for every gene of a row."""
    for j in range(len(gate_g)):
        logp_g[j] -= gate_g[j]
    if grad:
        for j in range(len(gate_g)):
            share = sigmoid(logp_g[j])  # the probability that a zero is the base's
            slope_g[j] *= share
            dtheta_g[j] *= share
            dgate_g[j] = F(1.0) - share - sigmoid(gate_g[j])
    for j in range(len(gate_g)):
        logp_g[j] = softplus(logp_g[j]) - softplus(-gate_g[j])


@inlined
def _stored(x: Any, mean: Any, log_mean: Any, theta: Any, grad: Any) -> Any:
    """Return log p(x) and ∂ log p(x)/∂θ in float64."""
    if not theta > 0.0:  # recurrences would not end
        return np.nan, np.nan
    whole, odds = theta + mean, math.log1p(mean / theta)
    logp = x * (log_mean - math.log(whole)) + log_coefficient(x, theta) - theta * odds
    return logp, digamma_difference(x, theta) - odds + (mean - x) / whole if grad else 0.0


@inlined
def _stored_small(x: Any, mean: Any, theta: Any, log_zero: Any, dzero: Any) -> Any:
    """Return the same for a count from 1 to ``SMALL``, given those of zero, without a branch.

    p(x) = p(0) · (μ/(θ+μ))ˣ · Π (θ+k)/(1+k), and the gradient of its logarithm has Σ 1/(θ+k), as a fraction.
    """
    whole = theta + mean
    share, p, sum_p, q = mean / whole, 1.0, 0.0, 1.0
    for k in range(SMALL):
        is_factor, t = k < x, theta + k
        sum_p = sum_p * t + p if is_factor else sum_p
        p = p * t if is_factor else p
        q = q * (share * (1.0 / (1.0 + k))) if is_factor else q
    return log_zero + log64(p * q), dzero + (sum_p * whole - x * p) / (p * whole)


@inlined
def _stored_large(x: Any, mean: Any, theta: Any) -> Any:
    """Return the same for a count above ``SMALL``, without a branch.

    log Γ(θ) = log Γ(θ+8) − log Π (θ+k), and ψ(x+θ) − ψ(θ) = ψ(x+θ+8) − ψ(θ+8) + Σ x / ((θ+k) (θ+k+x)), where the sum is
    made as a fraction. So all of Γ and ψ are by their series for large numbers.
    """
    whole, p, above, below = theta + mean, 1.0, 0.0, 1.0
    for k in range(8):
        t = theta + k
        p *= t
        step = t * (t + x)
        above = above * step + below
        below *= step
    later = theta + 8.0
    odds = _log1p64(mean / theta)
    logp = x * (log64(mean) - log64(whole)) - theta * odds
    logp += _stirling(x + theta) - (_stirling(later) - log64(p)) - _stirling(x + 1.0)
    difference = x * above / below + _log1p64(x / later) + _digamma_tail(later + x) - _digamma_tail(later)
    return logp, difference - odds + (mean - x) / whole


@inlined
def _stored_row(
    logits_g: Any, bias_g: Any, offset: Any, gene_e: Any, x_e: Any, mean_g: Any, theta_g: Any, logp_g: Any,
    dtheta_g: Any, grad: Any, of_gene_4e: Any, large_e: Any, of_large_2e: Any, value_e: Any, dtheta_e: Any,
) -> None:  # fmt: skip
    """Set log p(x) and its gradient by θ of the stored entries of a row, given those of zero."""
    mean_e, theta_e, zero_e, dzero_e = of_gene_4e[0], of_gene_4e[1], of_gene_4e[2], of_gene_4e[3]
    for k in range(len(x_e)):  # collected, so that what follows becomes vector instructions
        j = gene_e[k]
        mean_e[k], theta_e[k], zero_e[k], dzero_e[k] = mean_g[j], theta_g[j], logp_g[j], dtheta_g[j]
    for k in range(len(x_e)):
        value_e[k], dtheta_e[k] = _stored_small(D(x_e[k]), D(mean_e[k]), D(theta_e[k]), D(zero_e[k]), D(dzero_e[k]))
    n_large, x_large_e = 0, zero_e
    for k in range(len(x_e)):
        x, mean, theta = x_e[k], mean_e[k], theta_e[k]
        if x > F(SMALL) and mean > F(TINY):  # moved to the front
            large_e[n_large], x_large_e[n_large], mean_e[n_large], theta_e[n_large] = k, x, mean, theta
            n_large += 1
        elif mean <= F(TINY) or x != np.floor(x):
            j = gene_e[k]
            log_mean = _log_mean(D(mean), D(logits_g[j]) + D(bias_g[j]), offset)
            value_e[k], dtheta_e[k] = _stored(D(x), D(mean), log_mean, D(theta), grad)
    for k in range(n_large):
        of_large_2e[0, k], of_large_2e[1, k] = _stored_large(D(x_large_e[k]), D(mean_e[k]), D(theta_e[k]))
    for k in range(n_large):
        value_e[large_e[k]], dtheta_e[large_e[k]] = of_large_2e[0, k], of_large_2e[1, k]


@inlined
def _put_stored(
    gene_e: Any, x_e: Any, value_e: Any, dtheta_e: Any, mean_g: Any, inverse_g: Any, logp_g: Any, slope_g: Any,
    dtheta_g: Any,
) -> Any:  # fmt: skip
    """Put the stored entries of a row in place of zeros, but for their log p(x), the sum of which is returned."""
    logp = 0.0
    for k in range(len(x_e)):
        j = gene_e[k]
        if not x_e[k] <= 0:  # NaN is not left out
            logp += value_e[k]
            logp_g[j] = F(0.0)
            slope_g[j] = (x_e[k] - mean_g[j]) / (F(1.0) + mean_g[j] * inverse_g[j])
            dtheta_g[j] = F(dtheta_e[k])
    return logp


@inlined
def _put_not_inflated(gene_e: Any, x_e: Any, gate_g: Any, dgate_g: Any, grad: Any) -> Any:
    """Put gradients of the gates of stored entries, which are not of zero inflation, and return Σ log(1−π)."""
    logp = 0.0
    for k in range(len(x_e)):
        j = gene_e[k]
        if not x_e[k] <= 0:  # NaN is not left out
            logp -= D(softplus(gate_g[j]))
            if grad:
                dgate_g[j] = -sigmoid(gate_g[j])
    return logp


@in_parts(*COUNTS, F, np.int64, F, F, F)
def negative_binomial(args: Any) -> None:
    """Write the log-probabilities of all rows, and their gradients times the rows' weights.

    The arguments are those of :func:`poisson`, and then ``theta_cg``, ``code_m``, ``dtheta_pg``, ``gate_mg`` and
    ``dgate_mg``. ``code_m`` is the row of θ of each row; one θ for all has its gradient summed by part, others by row.
    ``gate_mg`` has the logits of zero inflation, or no rows.
    """
    logits_mg, bias_g, size_n = matrix(args, 0), vector(args, 1, F), vector(args, 2, F)
    indptr_n, gene_e, x_e = vector(args, 3, np.int64), vector(args, 4, np.int32), vector(args, 5, F)
    weight_m, grad, logp_m = vector(args, 6, F), flag(args, 7), vector(args, 8, F)
    dlogits_mg, dbias_pg, dsize_m = matrix(args, 9), matrix(args, 10), vector(args, 11, F)
    theta_cg, code_m, dtheta_pg = matrix(args, 12), vector(args, 13, np.int64), matrix(args, 14)
    gate_mg, dgate_mg = matrix(args, 15), matrix(args, 16)
    n, n_genes = logits_mg.shape
    shared, inflated = len(theta_cg) == 1, len(gate_mg) > 0
    mean_g, slope_g, logp_g = np.empty(n_genes, F), np.empty(n_genes, F), np.empty(n_genes, F)
    dtheta_g, inverse_g, longest = np.empty(n_genes, F), np.empty(n_genes, F), 0
    for row in range(len(size_n)):
        longest = max(longest, indptr_n[row + 1] - indptr_n[row])
    of_gene_4e, value_e, dtheta_e = np.empty((4, longest), F), np.empty(longest), np.empty(longest)
    large_e, of_large_2e = np.empty(longest, np.int32), np.empty((2, longest))
    part = next_part(args)
    while part < PARTS:
        dbias_pg[part, :] = F(0.0)
        start = part * n // PARTS
        if shared:
            dtheta_pg[part, :] = F(0.0)
        for i in range(start, (part + 1) * n // PARTS):
            row, theta_g = i % len(size_n), theta_cg[code_m[i]]
            at = slice(indptr_n[row], indptr_n[row + 1])
            size, genes, x = size_n[row], gene_e[at], x_e[at]
            if i == start or not shared:
                _set_inverse(theta_g, inverse_g)
            offset = _means(logits_mg[i], bias_g, size, mean_g)
            _zeros(mean_g, theta_g, inverse_g, logp_g, slope_g, dtheta_g, grad)
            _stored_row(
                logits_mg[i], bias_g, offset, genes, x, mean_g, theta_g, logp_g, dtheta_g, grad, of_gene_4e, large_e,
                of_large_2e, value_e, dtheta_e,
            )  # fmt: skip
            logp = 0.0
            if inflated:
                _inflate(gate_mg[i], logp_g, slope_g, dtheta_g, dgate_mg[i], grad)
                logp += _put_not_inflated(genes, x, gate_mg[i], dgate_mg[i], grad)
            logp += _put_stored(genes, x, value_e, dtheta_e, mean_g, inverse_g, logp_g, slope_g, dtheta_g)
            logp_m[i] = logp + _sum(logp_g)
            if grad:
                total = _finish(mean_g, slope_g, size, weight_m[i], dlogits_mg[i], dbias_pg[part])
                dsize_m[i] = weight_m[i] * total / size
                if not shared:
                    dtheta_pg[i, :] = F(0.0)
                _add(weight_m[i], dtheta_g, dtheta_pg[part if shared else i])
                if inflated:
                    _scale(weight_m[i], dgate_mg[i])
        part = next_part(args)


@inlined
def _set_inverse(x_g: Any, inverse_g: Any) -> None:
    for j in range(len(x_g)):
        inverse_g[j] = F(1.0) / x_g[j]


@inlined
def _scale(weight: Any, x_g: Any) -> None:
    for j in range(len(x_g)):
        x_g[j] *= weight


@inlined
def _sum(x_g: Any) -> Any:
    total = F(0.0)
    for j in range(len(x_g)):
        total += x_g[j]
    return D(total)


@inlined
def _add(weight: Any, x_g: Any, y_g: Any) -> None:
    for j in range(len(x_g)):
        y_g[j] += weight * x_g[j]
