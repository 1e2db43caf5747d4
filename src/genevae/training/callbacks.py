"""What takes part in training besides the loop."""

from __future__ import annotations

from genevae.training.state import State

__all__ = ["NoCheckpoints"]


class NoCheckpoints:
    """Keep nothing."""

    def restore(self, state: State) -> None:
        """Put the last state back, if there is one."""

    def after_step(self, state: State) -> None:
        """Keep the state if it is time."""

    def after_epoch(self, state: State) -> None:
        """Keep the state if it is time."""
