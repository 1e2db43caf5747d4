"""Signals to stop a process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

__all__ = ["StopRequest", "stop_signals"]

NAMES = ("SIGTERM", "SIGUSR1")
"""What a queue sends before it kills; SLURM sends one of these."""


@dataclass
class StopRequest:
    """Whether the process has received a signal to stop.

    Parameters
    ----------
    signal
        The name of the signal, or None.
    """

    signal: str | None = None


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Record signals that would end the process, so that it can save its state first.

    Python handles signals in its main thread only; in other threads they keep their effect.
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's own signature
        request.signal = signal.Signals(number).name

    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, note) for number in numbers} if is_main else {}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
