"""Weights that change during training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["CURVES", "Constant", "Curve", "Cyclic", "Ramp", "Schedule"]

Curve = Literal["linear", "cosine", "exponential"]

STEEPNESS = 5.0
"""Of the exponential curve: it is at 8 % halfway."""

CURVES: dict[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "cosine": lambda t: (1 - math.cos(math.pi * t)) / 2,
    "exponential": lambda t: math.expm1(STEEPNESS * t) / math.expm1(STEEPNESS),
}
"""How a ramp rises from 0 at t = 0 to 1 at t = 1."""


class Schedule(Protocol):
    """A weight as a function of the optimiser step, at its target when training ends."""

    @property
    def target(self) -> float:
        """The last value."""

    def __call__(self, step: int, n_steps: int) -> float:
        """Return the weight at ``step`` of ``n_steps``."""


@dataclass(frozen=True)
class Constant:
    """The target, at every step."""

    target: float = 1.0

    def __call__(self, step: int, n_steps: int) -> float:  # noqa: ARG002 - the same at every step
        """Return the target."""
        return self.target


@dataclass(frozen=True)
class Ramp:
    """From zero up to the target along a curve, then the target.

    Parameters
    ----------
    target
        The last value.
    share
        Share of all steps that the ramp takes, above 0 and up to 1.
    curve
        How it rises: in equal steps, along half a cosine, or exponentially.

    Examples
    --------
    >>> ramp = Ramp(target=1.0, share=0.5)
    >>> [ramp(step, 100) for step in (0, 25, 50, 99)]
    [0.0, 0.5, 1.0, 1.0]
    """

    target: float = 1.0
    share: float = 0.5
    curve: Curve = "linear"

    def __call__(self, step: int, n_steps: int) -> float:
        """Return the weight at ``step`` of ``n_steps``."""
        return self.target * _risen(step, min(self.share * n_steps, n_steps - 1), self.curve)


@dataclass(frozen=True)
class Cyclic:
    """Again and again from zero up to a peak, which is held for the rest of the cycle; the last peak is the target.

    Parameters
    ----------
    target
        The last value.
    n_cycles
        How many cycles training is divided into.
    decay
        The peak of a cycle over that of the cycle before it, above 0 and up to 1: below 1, earlier peaks are higher.
    share
        Share of a cycle that it rises.
    curve
        How it rises.

    References
    ----------
    Fu et al., Cyclical Annealing Schedule, NAACL (2019).

    Examples
    --------
    >>> twice = Cyclic(target=1.0, n_cycles=2, decay=0.5)
    >>> [twice(step, 100) for step in (0, 25, 49, 50, 75, 99)]
    [0.0, 2.0, 2.0, 0.0, 1.0, 1.0]
    """

    target: float = 1.0
    n_cycles: int = 4
    decay: float = 1.0
    share: float = 0.5
    curve: Curve = "linear"

    def __call__(self, step: int, n_steps: int) -> float:
        """Return the weight at ``step`` of ``n_steps``."""
        if step >= n_steps - 1:
            return self.target
        length = n_steps / self.n_cycles
        cycle = min(int(step / length), self.n_cycles - 1)
        peak = self.target / self.decay ** (self.n_cycles - 1 - cycle)
        return peak * _risen(step - cycle * length, self.share * length, self.curve)


def _risen(step: float, ramp: float, curve: str) -> float:
    return CURVES[curve](min(1.0, step / ramp)) if ramp > 0 else 1.0
