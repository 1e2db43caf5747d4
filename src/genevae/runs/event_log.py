"""The log file of a run: one JSON line for each event."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from genevae.errors import RunError
from genevae.io.bounded import require_regular
from genevae.training.callbacks import Callback
from genevae.training.history import Epoch
from genevae.training.state import State

__all__ = ["EventLog"]


class EventLog(Callback):
    """Write what happens, and when: one JSON object a line.

    Parameters
    ----------
    path
        The file to append to; with None the lines stay in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._lines: list[str] = []
        if path is not None:
            _cut_broken_line(path)

    def write(self, event: str, **facts: Any) -> None:
        """Write one line.

        Raises
        ------
        RunError
            If the file cannot be written.
        """
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts}) + "\n"
        if self.path is None:
            self._lines.append(line)
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise RunError(f"Cannot write {self.path}: {error.strerror or error}.") from error

    @property
    def text(self) -> str:
        """All lines."""
        return "".join(self._lines) if self.path is None else self.path.read_text(encoding="utf-8")

    def on_epoch(self, state: State, epoch: Epoch) -> None:  # noqa: ARG002 - the callback's signature
        """Write the numbers of an epoch."""
        facts = asdict(epoch)
        self.write("epoch", **facts | facts.pop("terms"))

    def on_end(self, state: State) -> None:
        """Write why training ended."""
        history = state.history
        self.write("end", reason=history.ended, epochs=len(history.epochs), best_epoch=history.best_epoch + 1)


def _cut_broken_line(path: Path) -> None:
    """Remove the end of a file that a killed process had not finished writing."""
    if not path.exists():
        return
    require_regular(path)
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
