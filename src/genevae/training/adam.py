"""Adam, whose step on the CPU is one compiled pass over each parameter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genevae.kernels.arrays import array, fits
from genevae.kernels.compile import load

__all__ = ["Adam"]

PLAIN = {"amsgrad": False, "maximize": False, "capturable": False, "differentiable": False,
         "decoupled_weight_decay": False}  # fmt: skip
"""Options of Adam that the compiled step knows."""
FEW = 2**15
"""Parameters of fewer numbers are changed by one thread."""


class Adam(torch.optim.Adam):
    """torch's Adam with its state, and the norm and the clipping of the gradient.

    Where all parameters are float32 on the CPU, loops do what torch's fused step does in one call each: it takes as
    long to prepare that call as to run it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rate_factor = 1.0
        """What the learning rates of all groups are multiplied by."""
        self._scale = 1.0
        self._arrays: dict[Tensor, tuple[Tensor, int, tuple[Any, ...]]] = {}
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        plain = all(group.get(name, value) == value for group in self.param_groups for name, value in PLAIN.items())
        self._compiled = plain and fits("adam", *parameters)

    def gradient_norm(self) -> float:
        """Return the L2 norm of all gradients."""
        if self._compiled:
            sum_of_squares = load("adam").sum_of_squares
            return math.sqrt(sum(sum_of_squares(_flat(gradient)) for gradient in self._gradients()))
        return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self._gradients()))))

    def scale_gradients(self, factor: float) -> None:
        """Multiply all gradients by a factor, before the next step or in it."""
        if self._compiled:
            self._scale *= factor
            return
        torch._foreach_mul_(self._gradients(), factor)

    def _gradients(self) -> list[Tensor]:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step."""
        if not self._compiled or closure is not None:
            return self._plain_step(closure)
        scale, self._scale = self._scale, 1.0
        loops, run = load("adam"), load("threads").run
        for group in self.param_groups:
            options = (group["lr"] * self.rate_factor, group["weight_decay"], *group["betas"], group["eps"])
            for parameter in group["params"]:
                if parameter.grad is not None:
                    step, numbers, *moments = self._arrays_of(parameter)
                    step += 1
                    gradient = _flat(_laid_out(parameter.grad, parameter))
                    if len(numbers) < FEW:
                        loops.step(numbers, gradient, *moments, scale, int(step), *options)
                    else:
                        settings = np.array([scale, float(step), *options])
                        run(loops.step_in_parts, numbers, gradient, *moments, settings)
        return None

    def _plain_step(self, closure: Any) -> Any:
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] *= self.rate_factor
        try:
            return super().step(closure)
        finally:
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate

    def _arrays_of(self, parameter: Tensor) -> tuple[Any, ...]:
        """Return the step, the numbers and both moments of a parameter as arrays, which stay from step to step."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))
        known = self._arrays.get(parameter)
        if known is None or known[0] is not state["exp_avg"] or known[1] != parameter.data_ptr():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = _laid_out(state[name], parameter)
            arrays = (array(state["step"]), *map(_flat, (parameter, state["exp_avg"], state["exp_avg_sq"])))
            known = self._arrays[parameter] = (state["exp_avg"], parameter.data_ptr(), arrays)
        return known[2]


def _flat(x: Tensor) -> Any:
    """Return the numbers of a tensor in the order in which they lie in memory."""
    if x.is_contiguous():
        return array(x).reshape(-1)
    order = sorted(range(x.ndim), key=x.stride, reverse=True)
    return array(x.permute(order)).reshape(-1)


def _laid_out(x: Tensor, like: Tensor) -> Tensor:
    """Return a tensor with the memory layout of another."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)
