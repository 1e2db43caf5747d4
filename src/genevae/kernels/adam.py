"""The norm of gradients, and a step of Adam; each for all tensors in one call, which are given by their addresses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from genevae.kernels.compile import PARTS, compiled, inlined
from genevae.kernels.threads import in_parts, next_part, numbers, vector

__all__ = ["step", "sum_of_squares"]

F, D, I = np.float32, np.float64, np.int64  # noqa: E741 - as NumPy's letters
BLOCK = 4096
FEW = 2**15
"""Tensors of fewer numbers are changed by one thread."""


@compiled
def sum_of_squares(tensors: Any) -> Any:
    """Return Σ x² of tensors, of each of which there are address and size; blocks are added up in float64."""
    total = D(0.0)
    for k in range(len(tensors)):
        x_i, of_tensor = numbers(tensors[k, 0], tensors[k, 1]), D(0.0)
        for start in range(0, len(x_i), BLOCK):
            of_block, block = F(0.0), x_i[start : start + BLOCK]
            for i in range(len(block)):
                of_block += block[i] * block[i]
            of_tensor += D(of_block)
        total += of_tensor
    return total


@in_parts(I, D)
def step(at: Any) -> None:
    """Take a step with tensors, whose gradients are multiplied by a scale first.

    Of the addresses of numbers, gradients, means and mean squares, and the size, of each tensor; and of its scale,
    number of steps, learning rate, weight decay, both β, and ε.
    """
    tensor_k5, option_k7 = vector(at, 0, I), vector(at, 1, D)
    part = next_part(at)
    while part < PARTS:
        for k in range(len(tensor_k5) // 5):
            t, s, n = tensor_k5[5 * k :], option_k7[7 * k :], tensor_k5[5 * k + 4]
            start, stop = part * n // PARTS, (part + 1) * n // PARTS
            if n < FEW:
                start, stop = 0, n if k % PARTS == part else 0
            _step(
                numbers(t[0], n)[start:stop], numbers(t[1], n)[start:stop], numbers(t[2], n)[start:stop],
                numbers(t[3], n)[start:stop], s[0], I(s[1]), s[2], s[3], s[4], s[5], s[6],
            )  # fmt: skip
        part = next_part(at)


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
