"""Numbers of an epoch, added up while it lasts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

__all__ = ["Means", "UnderWay"]

Item = TypeVar("Item")


@dataclass
class Means:
    """Means over cells of the terms of a loss, kept on the device until they are asked for.

    Parameters
    ----------
    sums
        Each term times the cells it is a mean of, added up.
    n_cells
        How many cells there were.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    n_cells: int = 0

    def add(self, n_cells: int, terms: Mapping[str, Tensor]) -> None:
        """Take the means over some cells in."""
        self.n_cells += n_cells
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * n_cells

    def result(self) -> dict[str, float]:
        """Return the means over all cells."""
        return {name: float(value) / self.n_cells for name, value in self.sums.items()}


@dataclass
class UnderWay:
    """The epoch under way: how far it has come, and what it has added up so far.

    Parameters
    ----------
    minibatches
        Minibatches taken.
    means
        Of the losses.
    skipped_before
        Steps that had been skipped when the epoch began.
    seconds, waiting
        Time of its steps, and the part of it spent waiting for data.
    """

    minibatches: int = 0
    means: Means = field(default_factory=Means)
    skipped_before: int = 0
    seconds: float = 0.0
    waiting: float = 0.0

    def timed(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the same items, and take the time."""
        started = time.perf_counter() - self.seconds
        while True:
            asked = time.perf_counter()
            item = next(items, None)
            now = time.perf_counter()
            self.waiting += now - asked
            self.seconds = now - started
            if item is None:
                return
            yield item
