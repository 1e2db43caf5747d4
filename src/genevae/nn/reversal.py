"""Gradient reversal: a layer that lets one network learn what another is to forget."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["reverse_gradient"]


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """Return x as it is, whose gradient is −strength times what comes back.

    forwards x, backwards ∂x ← −strength · ∂y

    What follows this layer is made small by its own parameters, and large by those of what went before it.

    Parameters
    ----------
    x
        Of any shape.
    strength
        How much of the gradient passes; at zero none does.

    References
    ----------
    Ganin et al., JMLR 17:59 (2016).

    Examples
    --------
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> reverse_gradient(x, 3.0).sum().backward()
    >>> x.grad
    tensor([-3., -3.])
    """
    return _Reversed.apply(x, strength)  # type: ignore[no-any-return,no-untyped-call]


class _Reversed(torch.autograd.Function):
    """Identity forwards, −strength times the gradient backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grad, None
