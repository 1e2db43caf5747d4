"""The progress bar of training."""

from __future__ import annotations

from contextlib import ExitStack

from genevae.progress import Advance, progress
from genevae.training.callbacks import Callback
from genevae.training.history import Epoch
from genevae.training.state import State

__all__ = ["ProgressBar"]


class ProgressBar(Callback):
    """Show both losses, cells per second, and the share of time spent waiting for data."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._advance: Advance = lambda _number=1, _text="": None

    def on_start(self, state: State) -> None:
        """Show the bar, at the epochs that are done already."""
        self._advance = self._open.enter_context(
            progress("epoch", state.n_epochs, shown=state.world.is_first, done=state.epoch)
        )

    def on_epoch(self, state: State, epoch: Epoch) -> None:  # noqa: ARG002 - the callback's signature
        """Show one more epoch."""
        self._advance(
            1,
            f"loss {epoch.train_loss:,.2f}  validation {epoch.validation_loss:,.2f}  "
            f"{epoch.cells_per_second:,.0f} cells/s  waiting {epoch.waiting_share:.0%}",
        )

    def on_close(self) -> None:
        """End the bar."""
        self._open.close()
