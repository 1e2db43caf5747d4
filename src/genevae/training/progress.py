"""The progress bar."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from genevae.training.history import Epoch

__all__ = ["ProgressBar"]


class ProgressBar:
    """Show both losses, cells per second, and the share of time spent waiting for data.

    Parameters
    ----------
    n_epochs
        Epochs at most.
    shown
        Whether to show anything.
    done
        Epochs that are done already.
    """

    def __init__(self, n_epochs: int, shown: bool = True, done: int = 0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._bar.add_task("", total=n_epochs, completed=done)

    def show(self, epoch: Epoch) -> None:
        """Show one more epoch."""
        self._bar.update(
            self._task,
            advance=1,
            description=(
                f"loss {epoch.train_loss:,.2f}  validation {epoch.validation_loss:,.2f}  "
                f"{epoch.cells_per_second:,.0f} cells/s  waiting {epoch.waiting_share:.0%}"
            ),
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
