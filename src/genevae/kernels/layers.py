"""Small layers and their gradients: batch norm with ReLU and dropout, and draws from a normal posterior with its KL."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from genevae.kernels.compile import compiled, inlined

__all__ = ["moments", "norm_gradient", "norm_relu", "norm_relu_sums", "normal_draws", "normal_draws_gradient"]

F = np.float32


@compiled
def moments(x_nh: Any, mean_h: Any, variance_h: Any) -> None:
    """Set mean and variance (which divides by n) over cells."""
    n, n_hidden = x_nh.shape
    total_h = np.zeros(n_hidden)
    for i in range(n):
        for h in range(n_hidden):
            total_h[h] += x_nh[i, h]
    for h in range(n_hidden):
        mean_h[h] = F(total_h[h] / n)
        total_h[h] = 0.0
    for i in range(n):
        for h in range(n_hidden):
            d = x_nh[i, h] - mean_h[h]
            total_h[h] += d * d
    for h in range(n_hidden):
        variance_h[h] = F(total_h[h] / n)


@compiled
def norm_relu(
    x_nh: Any, weight_h: Any, bias_h: Any, epsilon: Any, kept_nh: Any, share: Any, mean_h: Any, variance_h: Any,
    out_nh: Any,
) -> None:  # fmt: skip
    """Normalise by mean and variance, set what is negative to zero, and keep some units, over the share of these.

    Without rows in ``kept_nh`` all units are kept.
    """
    n, n_hidden = x_nh.shape
    factor_h, shift_h = np.empty(n_hidden, F), np.empty(n_hidden, F)
    for h in range(n_hidden):
        factor_h[h] = weight_h[h] * F(1.0 / math.sqrt(float(variance_h[h]) + epsilon))
        shift_h[h] = bias_h[h] - mean_h[h] * factor_h[h]
    for i in range(n):
        for h in range(n_hidden):
            y = x_nh[i, h] * factor_h[h] + shift_h[h]
            out_nh[i, h] = F(0.0) if y <= F(0.0) else y  # noqa: FURB136 - NaN stays NaN
    _keep(kept_nh, share, out_nh)


@compiled
def norm_relu_sums(
    x_nh: Any, epsilon: Any, kept_nh: Any, share: Any, mean_h: Any, variance_h: Any, out_nh: Any, gradient_nh: Any,
    dy_nh: Any, dweight_h: Any, dbias_h: Any,
) -> None:  # fmt: skip
    """Write the gradients of what was normalised, of the weight and of the bias; ``out_nh`` is what came out."""
    n, n_hidden = x_nh.shape
    scale_h, sum_h, product_h = np.empty(n_hidden, F), np.zeros(n_hidden), np.zeros(n_hidden)
    _set_scale(variance_h, epsilon, scale_h)
    for i in range(n):
        for h in range(n_hidden):
            dy_nh[i, h] = gradient_nh[i, h] if out_nh[i, h] > 0 else F(0.0)
    _keep(kept_nh, share, dy_nh)
    for i in range(n):
        for h in range(n_hidden):
            sum_h[h] += dy_nh[i, h]
            product_h[h] += dy_nh[i, h] * ((x_nh[i, h] - mean_h[h]) * scale_h[h])
    for h in range(n_hidden):
        dbias_h[h], dweight_h[h] = F(sum_h[h]), F(product_h[h])


@compiled
def norm_gradient(
    x_nh: Any, weight_h: Any, epsilon: Any, mean_h: Any, variance_h: Any, dweight_h: Any, dbias_h: Any, n_cells: Any,
    dx_nh: Any,
) -> None:  # fmt: skip
    """Turn the gradient of what was normalised into that of the input.

    The gradients of the weight and of the bias are those of all ``n_cells``, of which there may be more than here.
    """
    n, n_hidden = x_nh.shape
    scale_h = np.empty(n_hidden, F)
    _set_scale(variance_h, epsilon, scale_h)
    for i in range(n):
        for h in range(n_hidden):
            standard = (x_nh[i, h] - mean_h[h]) * scale_h[h]
            centred = dx_nh[i, h] - (dbias_h[h] + standard * dweight_h[h]) / F(n_cells)
            dx_nh[i, h] = weight_h[h] * scale_h[h] * centred


@inlined
def _set_scale(variance_h: Any, epsilon: Any, scale_h: Any) -> None:
    for h in range(len(variance_h)):
        scale_h[h] = F(1.0 / math.sqrt(float(variance_h[h]) + epsilon))


@inlined
def _keep(kept_nh: Any, share: Any, x_nh: Any) -> None:
    factor = F(1.0) / F(share)
    for i in range(len(kept_nh)):
        for h in range(x_nh.shape[1]):
            x_nh[i, h] *= kept_nh[i, h] * factor


@compiled
def normal_draws(both_nk: Any, noise_snk: Any, limit: Any, z_snk: Any, kl_n: Any) -> None:
    """Draw from normal distributions, and write their KL divergences from N(0, I).

    The first half of ``both_nk`` has means, the second logarithms of variances, which are limited to ± ``limit``.
    """
    n_draws, n, k = z_snk.shape
    scale_k = np.empty(k, F)
    for i in range(n):
        total = F(0.0)
        for j in range(k):
            mean, half = both_nk[i, j], F(0.5) * both_nk[i, k + j]
            if abs(half) > F(0.5 * limit):  # NaN is not, and stays
                half = math.copysign(F(0.5 * limit), half)
            scale_k[j] = F(math.exp(half))
            total += F(0.5) * (mean * mean + scale_k[j] * scale_k[j] - F(1.0)) - half
        kl_n[i] = total
        for s in range(n_draws):
            for j in range(k):
                z_snk[s, i, j] = both_nk[i, j] + scale_k[j] * noise_snk[s, i, j]


@compiled
def normal_draws_gradient(both_nk: Any, noise_snk: Any, limit: Any, dz_snk: Any, dkl_n: Any, dboth_nk: Any) -> None:
    """Write the gradients of means and log-variances."""
    n_draws, n, k = dz_snk.shape
    for i in range(n):
        for j in range(k):
            mean, log_variance = both_nk[i, j], both_nk[i, k + j]
            dmean, dscale = dkl_n[i] * mean, F(0.0)
            for s in range(n_draws):
                dmean += dz_snk[s, i, j]
                dscale += dz_snk[s, i, j] * noise_snk[s, i, j]
            dboth_nk[i, j] = dmean
            if abs(log_variance) <= limit:
                scale = F(math.exp(F(0.5) * log_variance))
                dboth_nk[i, k + j] = F(0.5) * (scale * dscale + dkl_n[i] * (scale * scale - F(1.0)))
            else:
                dboth_nk[i, k + j] = F(0.0)
