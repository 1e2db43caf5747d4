"""Who is told how training goes."""

from __future__ import annotations

from typing import Protocol

from genevae.training.history import Epoch, History

__all__ = ["Log"]


class Log(Protocol):
    """Is told of every epoch as it ends."""

    def start(self, history: History) -> None:
        """Take note that training begins; where it is resumed, after these epochs, of which some may be known."""

    def epoch(self, epoch: Epoch) -> None:
        """Take note of one more epoch."""

    def end(self, history: History) -> None:
        """Take note that training has ended, and why."""
