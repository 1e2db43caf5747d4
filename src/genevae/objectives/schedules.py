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

    Cycles have a fixed number of epochs. What is left of training after the last complete one stays at the last peak;
    training that is shorter than a cycle is one cycle.

    Parameters
    ----------
    peak
        The first peak.
    cycle, n_epochs
        Epochs in a cycle, and in training.
    decay
        The peak of a cycle over that of the cycle before it, above 0 and up to 1: below 1, later peaks are lower.
    share
        Share of a cycle that it rises.
    curve
        How it rises.

    References
    ----------
    Fu et al., Cyclical Annealing Schedule, NAACL (2019).

    Examples
    --------
    >>> twice = Cyclic(peak=2.0, cycle=5, n_epochs=12, decay=0.5)
    >>> [twice(step, 120) for step in (0, 25, 49, 50, 75, 100, 119)]
    [0.0, 2.0, 2.0, 0.0, 1.0, 1.0, 1.0]
    """

    peak: float = 1.0
    cycle: int = 40
    n_epochs: int = 400
    decay: float = 1.0
    share: float = 0.5
    curve: Curve = "linear"

    @property
    def n_cycles(self) -> int:
        """How many complete cycles training has, at least one."""
        return max(1, self.n_epochs // self.cycle)

    @property
    def target(self) -> float:
        """The last peak."""
        return self.peak * self.decay ** (self.n_cycles - 1)

    def __call__(self, step: int, n_steps: int) -> float:
        """Return the weight at ``step`` of ``n_steps``."""
        length = n_steps * min(self.cycle, self.n_epochs) / self.n_epochs
        cycle = int(step / length)
        if step >= n_steps - 1 or cycle >= self.n_cycles:
            return self.target
        return self.peak * self.decay**cycle * _risen(step - cycle * length, self.share * length, self.curve)


def _risen(step: float, ramp: float, curve: str) -> float:
    return CURVES[curve](min(1.0, step / ramp)) if ramp > 0 else 1.0
