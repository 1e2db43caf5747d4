"""Signals that stop a command or a training."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from genevae.errors import EX_TEMPFAIL
from genevae.training.callbacks import Callback, StopTraining

if TYPE_CHECKING:
    from genevae.training.state import State
    from genevae.training.world import World

__all__ = ["INTERRUPT", "NAMES", "STOPPED", "StopOnSignal", "StopRequest", "ends_cleanly", "stop_signals"]

INTERRUPT = "SIGINT"
NAMES = (INTERRUPT, "SIGTERM", "SIGHUP", "SIGUSR1")
"""Ctrl-C, what a queue sends before it kills (SLURM sends one of two), and a terminal that is closed."""
STOPPED = "stopped by "
"""How the reason begins for which training ended, where that is a signal."""
_AGAIN = 1.0
"""Seconds after which the same signal is a second one: a terminal and a parent may both send the first."""
_RETRY = 0.02
"""Seconds until a signal that came in the middle of an import is tried again."""


@dataclass
class StopRequest:
    """Whether the process has received a signal to stop.

    Parameters
    ----------
    signal
        The name of the signal, or None.
    at
        When it came.
    """

    signal: str | None = None
    at: float = 0.0

    def repeats(self, name: str) -> bool:
        """Record a signal; return whether it is a second one."""
        again = self.signal is not None and time.monotonic() - self.at > _AGAIN
        if self.signal is None:
            self.signal, self.at = name, time.monotonic()
        return again

    def agreed(self, world: World) -> str | None:
        """Return the signal that any of the processes has received; all stop at the same step."""
        if not world.any(self.signal is not None):
            return None
        return next(filter(None, world.texts(self.signal or "")))


class StopOnSignal(Callback):
    """End training at a signal, with the best weights so far."""

    def __init__(self, request: StopRequest) -> None:
        self.request = request

    def on_step(self, state: State) -> None:
        """End training if a signal came."""
        if name := self.request.agreed(state.world):
            raise StopTraining(f"{STOPPED}{name}")


@contextmanager
def stop_signals(names: Sequence[str] = NAMES) -> Iterator[StopRequest]:
    """Record signals that would end the process, so that it can save its state first; a second one ends it.

    Python handles signals in its main thread only; in other threads they keep their effect.
    """
    request = StopRequest()

    def note(name: str, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of handlers here
        if request.repeats(name):
            raise KeyboardInterrupt(name)

    with _handled(names, note):
        yield request


@contextmanager
def ends_cleanly(arguments: Sequence[str]) -> Iterator[None]:
    """End a command at a signal with one line and exit code 128 + its number, at any moment and whatever it does.

    What is written is removed on the way, as after an error. A fit with checkpoints exits with 75 instead, so that a
    queue starts it again; see :func:`stop_signals` for its training.
    """
    request = StopRequest()

    def stop(name: str, frame: FrameType | None) -> None:
        if request.repeats(name):
            os._exit(_exit_code(name, arguments))
        end(0, frame)

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's own signature
        if not _is_importing(frame):
            raise KeyboardInterrupt(request.signal)
        # Half an import ends in errors of any kind: end here, or after the import if there is something to clean.
        if _is_writing() and hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, end)
            signal.setitimer(signal.ITIMER_REAL, _RETRY)
        else:
            _say(str(request.signal))
            os._exit(_exit_code(str(request.signal), arguments))

    with _handled(NAMES, stop):
        try:
            yield
        except BaseException:
            if request.signal is None:
                raise
            _say(request.signal)
            sys.exit(_exit_code(request.signal, arguments))


def _say(name: str) -> None:
    print(f"genevae: {STOPPED}{name}. Nothing half-written is in the place of the result.", file=sys.stderr, flush=True)  # noqa: T201 - a command prints


def _exit_code(name: str, arguments: Sequence[str]) -> int:
    """Return the exit code of a command that was stopped."""
    given = {word.split("=")[0] for word in arguments}
    is_resumable = arguments[:1] == ["fit"] and bool(given & {"--checkpoint-every", "--resume"})
    return EX_TEMPFAIL if is_resumable else 128 + int(getattr(signal, name))


@contextmanager
def _handled(names: Sequence[str], handler: Callable[[str, FrameType | None], None]) -> Iterator[None]:
    """Handle signals that would end the process; those that are ignored, as under nohup, stay so."""

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if name == "SIGHUP":
            _leave_terminal()
        handler(name, frame)

    is_main = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)] if is_main else []
    numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous if previous is not None else signal.SIG_DFL)


def _leave_terminal() -> None:
    """Print to nowhere: printing to a terminal that is closed is an error."""
    for number in (1, 2):
        if os.isatty(number):
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - needed before anything is imported
                os.dup2(nowhere.fileno(), number)


def _is_writing() -> bool:
    """Return whether this process has temporary files or locks."""
    atomic = sys.modules.get("genevae.io.atomic")
    return bool(getattr(atomic, "HELD", ()))


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a frame is that of an import, or called from one."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
