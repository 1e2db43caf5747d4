"""What the report says of a metric, beside its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Direction", "Metric"]

Direction = Literal["higher", "lower", "closer"]


@dataclass(frozen=True)
class Metric:
    """One metric of the report; it stands beside the function that computes it.

    Parameters
    ----------
    name
        As the report calls it, with its unit.
    direction
        Whether a higher or a lower number is better, or one closer to ``ideal``.
    ideal
        The number of a perfect model; None where there is none, or where it depends on the data.
    meaning
        What it measures, in one line.
    reference
        The paper.
    """

    name: str
    direction: Direction
    ideal: float | None
    meaning: str
    reference: str = ""
