"""What happened in each epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

__all__ = ["Epoch", "History"]


@dataclass(frozen=True)
class Epoch:
    """One epoch.

    Parameters
    ----------
    epoch, step
        Epochs and optimiser steps done so far.
    train_loss, validation_loss
        Per cell. The first with the schedules' weights of the moment, the second with their targets.
    terms
        What the losses are made of.
    learning_rate
        Of the optimiser.
    cells_per_second
        Training cells over the time of the epoch's training steps.
    waiting_share
        Share of that time spent waiting for data.
    skipped
        Steps left out because their gradient was not finite.
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
