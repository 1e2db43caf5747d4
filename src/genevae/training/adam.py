"""Adam, whose step on the CPU is one compiled call for all parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

    rate_factor = 1.0
    """What the learning rates of all groups are multiplied by."""
    _scale = 1.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._known: dict[Tensor, tuple[Any, ...]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._known = {}

    def gradient_norm(self) -> float:
        """Return the L2 norm of all gradients."""
        gradients = self._gradients()
        if gradients and fits("adam", *gradients):
            dense = [_in_order(gradient).contiguous() for gradient in gradients]
            tensors = np.array([(each.data_ptr(), each.numel()) for each in dense])
            return math.sqrt(load("adam").sum_of_squares(tensors))
        return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))

    def scale_gradients(self, factor: float) -> None:
        """Multiply all gradients by a factor, in the next step."""
        self._scale *= factor

    def _gradients(self) -> list[Tensor]:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, and what they were to be multiplied by."""
        self._scale = 1.0
        if not set_to_none:
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:  # torch's loop takes 0.1 ms
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step."""
        scale, self._scale = self._scale, 1.0
        if closure is not None:
            return self._plain_step(closure)
        given = [(group, each) for group in self.param_groups for each in group["params"] if each.grad is not None]
        found = (self._memory_of(parameter) for _, parameter in given) if self._is_plain() else ()
        memory = [each for each in found if each is not None]
        if not given or len(memory) < len(given):
            if scale != 1 and given:
                torch._foreach_mul_(self._gradients(), scale)
            return self._plain_step(None)
        gradients = [_in_order(_laid_out(parameter.grad, parameter)).contiguous() for _, parameter in given]
        tensors, options = [], []
        for (group, parameter), gradient, (step, numbers, *moments) in zip(given, gradients, memory, strict=True):
            np.add(step, 1, out=step)
            tensors.append((numbers, gradient.data_ptr(), *moments, parameter.numel()))
            rate = group["lr"] * self.rate_factor
            options.append((scale, step, rate, group["weight_decay"], *group["betas"], group["eps"]))
        load("threads").run(load("adam").step, np.ravel(tensors), np.ravel(options).astype(np.float64))
        return None

    @torch.no_grad()
    def step_with(self, rates: Sequence[Tensor]) -> None:
        """Take torch's step with a learning rate of each group in a tensor, so that a GPU can record it."""
        former = [(group["lr"], group["capturable"]) for group in self.param_groups]
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"], group["capturable"] = rate, True
        try:
            super().step()
        finally:
            for group, (rate, capturable) in zip(self.param_groups, former, strict=True):
                group["lr"], group["capturable"] = rate, capturable

    def _is_plain(self) -> bool:
        """Whether the compiled step knows all options."""
        return fits("adam") and all(
            group.get(name, value) == value for group in self.param_groups for name, value in PLAIN.items()
        )

    def _plain_step(self, closure: Any) -> Any:
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] *= self.rate_factor
        try:
            return super().step(closure)
        finally:
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate

    def _memory_of(self, parameter: Tensor) -> tuple[Any, ...] | None:
        """Return the step of a parameter as an array, and the addresses of its numbers and both moments.

        None where it or its gradient is not float32 on the CPU, or it does not lie in one piece of memory.
        """
        if not fits("adam", parameter.grad):
            return None
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))
        known = self._known.get(parameter)
        if known is None or known[0] != _place(parameter, state):
            if not (fits("adam", parameter, *state.values()) and _in_order(parameter).is_contiguous()):
                return None
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = _laid_out(state[name], parameter)
            place = _place(parameter, state)
            known = self._known[parameter] = (place, (array(state["step"]), *place[:3]), dict(state))
        return known[1]  # type: ignore[no-any-return]


def _place(parameter: Tensor, state: dict[str, Tensor]) -> tuple[Any, ...]:
    """Return where a parameter and its state lie in memory, and how."""
    addresses = [each.data_ptr() for each in (parameter, state["exp_avg"], state["exp_avg_sq"], state["step"])]
    return *addresses, parameter.dtype, parameter.shape, parameter.stride()


def _in_order(x: Tensor) -> Tensor:
    """Return a tensor with its axes in the order in which its numbers lie in memory."""
    return x if x.is_contiguous() else x.permute(sorted(range(x.ndim), key=x.stride, reverse=True))


def _laid_out(x: Tensor, like: Tensor) -> Tensor:
    """Return a tensor with the memory layout of another."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)
