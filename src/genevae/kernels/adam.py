"""The norm of a gradient, and a step of Adam."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from genevae.kernels.compile import compiled

__all__ = ["step", "sum_of_squares"]

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


@compiled
def step(
    x_i: Any, gradient_i: Any, mean_i: Any, square_i: Any, scale: Any, n_steps: Any, rate: Any, decay: Any, beta1: Any,
    beta2: Any, epsilon: Any,
) -> None:  # fmt: skip
    """Take a step with some numbers, whose gradient is multiplied by a scale first."""
    old1, new1, old2, new2 = F(beta1), F(1.0 - beta1), F(beta2), F(1.0 - beta2)
    rate32, root = F(rate / (1.0 - beta1**n_steps)), F(1.0 / math.sqrt(1.0 - beta2**n_steps))
    scale32, decay32, epsilon32 = F(scale), F(decay), F(epsilon)
    for i in range(len(x_i)):
        g = gradient_i[i] * scale32 + x_i[i] * decay32
        mean = old1 * mean_i[i] + new1 * g
        square = old2 * square_i[i] + new2 * g * g
        mean_i[i], square_i[i] = mean, square
        x_i[i] -= rate32 * mean / (np.sqrt(square) * root + epsilon32)
