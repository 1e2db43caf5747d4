"""The norm of a gradient, and a step of Adam."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from genevae.kernels.compile import PARTS, compiled, inlined
from genevae.kernels.threads import in_parts, next_part, vector

__all__ = ["step", "step_in_parts", "sum_of_squares"]

F = np.float32
BLOCK = 4096


@compiled
def sum_of_squares(x_i: Any) -> Any:
    """Return Σ x²; blocks are added up in float64."""
    total = 0.0
    for start in range(0, len(x_i), BLOCK):
        part, block = F(0.0), x_i[start : start + BLOCK]
        for i in range(len(block)):
            part += block[i] * block[i]
        total += float(part)
    return total


@in_parts(F, F, F, F, np.float64)
def step_in_parts(args: Any) -> None:
    """Take a step with many numbers; all of :func:`step` from ``scale`` on are together in an array, in this order."""
    x_i, gradient_i, mean_i, square_i = vector(args, 0, F), vector(args, 1, F), vector(args, 2, F), vector(args, 3, F)
    s, n = vector(args, 4, np.float64), len(x_i)
    part = next_part(args)
    while part < PARTS:
        at = slice(part * n // PARTS, (part + 1) * n // PARTS)
        _step(x_i[at], gradient_i[at], mean_i[at], square_i[at], s[0], int(s[1]), s[2], s[3], s[4], s[5], s[6])
        part = next_part(args)


@compiled
def step(
    x_i: Any, gradient_i: Any, mean_i: Any, square_i: Any, scale: Any, n_steps: Any, rate: Any, decay: Any, beta1: Any,
    beta2: Any, epsilon: Any,
) -> None:  # fmt: skip
    """Take a step with some numbers, whose gradient is multiplied by a scale first."""
    _step(x_i, gradient_i, mean_i, square_i, scale, n_steps, rate, decay, beta1, beta2, epsilon)


@inlined
def _step(
    x_i: Any, gradient_i: Any, mean_i: Any, square_i: Any, scale: Any, n_steps: Any, rate: Any, decay: Any, beta1: Any,
    beta2: Any, epsilon: Any,
) -> None:  # fmt: skip
    old1, new1, old2, new2 = F(beta1), F(1.0 - beta1), F(beta2), F(1.0 - beta2)
    rate32, root = F(rate / (1.0 - beta1**n_steps)), F(1.0 / math.sqrt(1.0 - beta2**n_steps))
    scale32, decay32, epsilon32 = F(scale), F(decay), F(epsilon)
    for i in range(len(x_i)):
        g = gradient_i[i] * scale32 + x_i[i] * decay32
        mean = old1 * mean_i[i] + new1 * g
        square = old2 * square_i[i] + new2 * g * g
        mean_i[i], square_i[i] = mean, square
        x_i[i] -= rate32 * mean / (np.sqrt(square) * root + epsilon32)
