"""What takes part in training besides the loop: progress, logs, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genevae.training.history import Epoch
    from genevae.training.state import State

__all__ = ["Callback", "StopTraining"]


class StopTraining(Exception):  # noqa: N818 - not an error
    """Raised by a callback to end training as early stopping does, with the best weights; it says why."""


class Callback:
    """Base class of callbacks; every method does nothing by default.

    The loop calls the callbacks in their order, and :meth:`on_restore` in the reverse order, so that checkpoints, which
    come last, act on what the others did in a step, and restore a state before the others see it. An exception in one
    of them ends training; :meth:`on_close` is called in any case.
    """

    def on_restore(self, state: State) -> None:
        """Put an earlier state back, before anything else happens."""

    def on_start(self, state: State) -> None:
        """Act before training; where it is resumed, ``state.history`` has epochs already."""

    def on_step(self, state: State) -> None:
        """Act after an optimiser step."""

    def on_epoch(self, state: State, epoch: Epoch) -> None:
        """Act after an epoch and its validation."""

    def on_end(self, state: State) -> None:
        """Act after training, when the model has its final weights."""

    def on_close(self) -> None:
        """Release what is held, whether training ended or failed."""
