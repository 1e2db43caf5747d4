"""The progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from genevae.training.callbacks import Callback
from genevae.training.history import Epoch
from genevae.training.state import State

__all__ = ["ProgressBar", "progress_bar"]


class ProgressBar(Callback):
    """Show both losses, cells per second, and the share of time spent waiting for data, on a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def on_start(self, state: State) -> None:
        """Show the bar, at the epochs that are done already."""
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
            disable=not (state.world.is_first and console.is_terminal),
        )
        self._task = self._bar.add_task("", total=state.n_epochs, completed=state.epoch)
        self._bar.start()

    def on_epoch(self, state: State, epoch: Epoch) -> None:  # noqa: ARG002 - the callback's signature
        """Show one more epoch."""
        self._bar.update(
            self._task,
            advance=1,
            description=(
                f"loss {epoch.train_loss:,.2f}  validation {epoch.validation_loss:,.2f}  "
                f"{epoch.cells_per_second:,.0f} cells/s  waiting {epoch.waiting_share:.0%}"
            ),
        )

    def on_close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress_bar(title: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show the progress of work other than training, on a terminal; yield what advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(title, markup=False), BarColumn(bar_width=24), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("", total=total)
        yield lambda number: bar.advance(task, number)
