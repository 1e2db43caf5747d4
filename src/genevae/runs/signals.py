"""Signals that ask a process to end soon."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

__all__ = ["Asked", "stop_signals"]

NAMES = ("SIGTERM", "SIGUSR1")
"""What a queue sends before it kills: SLURM's own warning is one or the other."""


@dataclass
class Asked:
    """Whether the process was asked to end.

    Parameters
    ----------
    by
        The name of the signal, or None.
    """

    by: str | None = None


@contextmanager
def stop_signals() -> Iterator[Asked]:
    """Take note of signals in place of dying of them; whoever works looks at the note when it suits.

    Python handles signals in its main thread, so that in any other one they do what they always do.
    """
    asked = Asked()

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's own signature
        asked.by = signal.Signals(number).name

    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, note) for number in numbers} if is_main else {}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
