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


class Adam(torch.optim.Adam):
    """torch's Adam with its state, and the norm and the clipping of the gradient.

    Where all parameters are float32 on the CPU, one call does for all of them what torch's fused step does: it takes as
    long to prepare that step as to run it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rate_factor = 1.0
        """What the learning rates of all groups are multiplied by."""
        self._scale = 1.0
        self._known: dict[Tensor, tuple[Tensor, tuple[Any, ...]]] = {}
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        plain = all(group.get(name, value) == value for group in self.param_groups for name, value in PLAIN.items())
        self._compiled = plain and fits("adam", *parameters)

    def gradient_norm(self) -> float:
        """Return the L2 norm of all gradients."""
        if self._compiled and (dense := [_dense(gradient) for gradient in self._gradients()]):
            tensors = np.array([(gradient.data_ptr(), gradient.numel()) for gradient in dense])
            return math.sqrt(load("adam").sum_of_squares(tensors))
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

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        if not (self._compiled and set_to_none):  # torch's takes 0.1 ms
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step."""
        if not self._compiled or closure is not None:
            return self._plain_step(closure)
        scale, self._scale = self._scale, 1.0
        gradients, tensors, options = [], [], []
        for group in self.param_groups:
            of_group = (group["lr"] * self.rate_factor, group["weight_decay"], *group["betas"], group["eps"])
            for parameter in group["params"]:
                if parameter.grad is not None:
                    gradient = _dense(_laid_out(parameter.grad, parameter))
                    step, numbers, *moments = self._memory_of(parameter)
                    step += 1
                    gradients.append(gradient)  # which keeps its memory
                    tensors.append((numbers, gradient.data_ptr(), *moments, parameter.numel()))
                    options.append((scale, step, *of_group))
        if tensors:
            load("threads").run(load("adam").step, np.ravel(tensors), np.ravel(options).astype(np.float64))
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

    def _memory_of(self, parameter: Tensor) -> tuple[Any, ...]:
        """Return the step of a parameter as an array, and the addresses of its numbers and both moments."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))
        known = self._known.get(parameter)
        if known is None or known[0] is not state["exp_avg"] or known[1][1] != parameter.data_ptr():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = _laid_out(state[name], parameter)
            moments = (state["exp_avg"].data_ptr(), state["exp_avg_sq"].data_ptr())
            known = self._known[parameter] = (state["exp_avg"], (array(state["step"]), parameter.data_ptr(), *moments))
        return known[1]


def _dense(x: Tensor) -> Tensor:
    """Return a tensor whose numbers lie next to each other in memory, in any order."""
    return x if x.is_contiguous() else x.permute(sorted(range(x.ndim), key=x.stride, reverse=True)).contiguous()


def _laid_out(x: Tensor, like: Tensor) -> Tensor:
    """Return a tensor with the memory layout of another."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)
