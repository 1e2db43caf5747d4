"""What happened in each epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import pandas as pd
import torch
from torch import Tensor

__all__ = ["Epoch", "History", "Means", "RunningEpoch"]


@dataclass(frozen=True)
class Epoch:
    """One epoch.

    Parameters
    ----------
    epoch, step
        Epochs and optimiser steps done so far.
    train_loss, validation_loss
        Per cell. The first with the current weights of the schedules, the second with their targets.
    terms
        The terms of the losses.
    learning_rate
        Of the optimiser.
    cells_per_second
        Training cells over the time of the epoch's training steps.
    waiting_share
        Share of that time spent waiting for data.
    skipped
        Steps that were skipped because the loss or its gradient was not finite.
    """

    epoch: int
    step: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    cells_per_second: float
    waiting_share: float
    skipped: int = 0
    terms: dict[str, float] = field(default_factory=dict)


@dataclass
class History:
    """All epochs so far, and why training ended."""

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    ended: str = "all epochs are done"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per epoch."""
        rows: list[dict[str, Any]] = []
        for epoch in self.epochs:
            row = asdict(epoch)
            rows.append({**row, **row.pop("terms")})
        return pd.DataFrame(rows).drop(columns="terms", errors="ignore")


Item = TypeVar("Item")


@dataclass
class Means:
    """Means over cells of the terms of a loss, kept on the device until they are read.

    Parameters
    ----------
    sums
        Sum over minibatches of each term times its cells.
    n_cells
        Cells so far.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    n_cells: int = 0

    def add(self, n_cells: int, terms: Mapping[str, Tensor]) -> None:
        """Add the means over some cells."""
        self.n_cells += n_cells
        for name, value in terms.items():
            known = self.sums.get(name)
            self.sums[name] = value * n_cells if known is None else torch.add(known, value, alpha=n_cells)

    def result(self) -> dict[str, float]:
        """Return the means over all cells."""
        return {name: float(value) / self.n_cells for name, value in self.sums.items()}


@dataclass
class RunningEpoch:
    """The current epoch: how far it is, and its sums so far.

    Parameters
    ----------
    minibatches
        Minibatches that were trained on.
    means
        Of the losses.
    skipped_before
        Steps that were skipped before this epoch.
    seconds, waiting
        Time of its steps, and the part of it spent waiting for data.
    """

    minibatches: int = 0
    means: Means = field(default_factory=Means)
    skipped_before: int = 0
    seconds: float = 0.0
    waiting: float = 0.0

    def timed(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the same items, and measure the time."""
        started = time.perf_counter() - self.seconds
        while True:
            requested = time.perf_counter()
            item = next(items, None)
            now = time.perf_counter()
            self.waiting += now - requested
            self.seconds = now - started
            if item is None:
                return
            yield item
