"""What is to be known of a score before it is computed."""

from __future__ import annotations

from typing import NamedTuple

from genevae.evaluation.report.records import Better

__all__ = ["Metric"]


class Metric(NamedTuple):
    """Which way a score is better, and what a perfect model has."""

    better: Better
    ideal: float
