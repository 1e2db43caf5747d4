"""Weights that change while training goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Constant", "LinearRamp", "Schedule"]


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
class LinearRamp:
    """From zero to the target in equal steps, then the target.

    Parameters
    ----------
    target
        The last value.
    share
        Share of all steps that the ramp takes, above 0 and up to 1.

    Examples
    --------
    >>> ramp = LinearRamp(target=1.0, share=0.5)
    >>> [ramp(step, 100) for step in (0, 25, 50, 99)]
    [0.0, 0.5, 1.0, 1.0]
    """

    target: float = 1.0
    share: float = 0.5

    def __call__(self, step: int, n_steps: int) -> float:
        """Return the weight at ``step`` of ``n_steps``."""
        ramp = min(self.share * n_steps, n_steps - 1)
        return self.target * min(1.0, step / ramp) if ramp > 0 else self.target
