"""The progress of long work: a bar on a terminal and in a notebook, and one line a minute in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Protocol

from genevae.session import LOGGER, settings

__all__ = ["Advance", "forget_abandoned", "progress", "say_log"]

SECONDS_BETWEEN_LINES = 60.0
"""In a log."""

Advance = Callable[..., None]
"""``advance(n, text)``: so many more are done; the text says how it goes."""


_ACTIVE: list[object] = []
"""Work whose progress is shown, or silenced: what it calls shows none of its own."""


def _plain(number: int) -> str:
    return f"{number:,}"


@contextmanager
def progress(
    title: str,
    total: int,
    shown: bool = True,
    done: int = 0,
    after: float = 0.0,
    written: Callable[[int], str] = _plain,
) -> Iterator[Advance]:
    """Show the progress of ``total`` pieces of work; yield what advances it. Work inside other such work is silent.

    Parameters
    ----------
    title
        What is done, such as "epoch".
    total, done
        The number of pieces, and those that are done already.
    shown
        Whether anything is shown at all; :data:`~genevae.session.settings` must allow it too.
    after
        Seconds of work before anything is shown, so that short work is silent.
    written
        How a number of pieces is written.
    """
    is_inner = bool(_ACTIVE)
    token = object()
    _ACTIVE.append(token)
    try:
        if is_inner or not (shown and settings.progress and total):
            yield lambda _number=1, _text="": None
        else:
            with _shown(title, total, done, after, written) as advance:
                yield advance
    finally:
        if token in _ACTIVE:
            _ACTIVE.remove(token)


def forget_abandoned() -> None:
    """Forget work whose progress was never ended, such as a generator that an error left where it was."""
    _ACTIVE.clear()


@contextmanager
def _shown(title: str, total: int, done: int, after: float, written: Callable[[int], str]) -> Iterator[Advance]:
    """Open a display, when the work has taken long enough, and close it at the end."""
    display = _display(title, total)
    started, at, is_open = time.monotonic(), done, False

    def advance(number: int = 1, text: str = "") -> None:
        nonlocal at, is_open
        at += number
        if not is_open and time.monotonic() - started >= after:
            display.open(started)
            is_open = True
        if is_open:
            display.update(at, f"{written(at)}/{written(total)}", text)

    try:
        if not after:
            advance(0)
        yield advance
    finally:
        if is_open:
            display.close()


def say_log(text: str) -> None:
    """Log a line at INFO. Where nobody has configured logging, it goes to stderr as it is."""
    if not LOGGER.hasHandlers():
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("%(message)s"))
        LOGGER.addHandler(handler)
        LOGGER.propagate = False
    if not LOGGER.level:
        LOGGER.setLevel(logging.INFO)
    LOGGER.info(text)


class _Stderr(logging.StreamHandler[Any]):
    """Write to what ``sys.stderr`` is at the moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """The stream."""
        return sys.stderr


class _Display(Protocol):
    """A way to show progress."""

    def open(self, started: float) -> None:
        """Begin."""

    def update(self, at: int, done: str, text: str) -> None:
        """Show that ``at`` pieces are done."""

    def close(self) -> None:
        """End."""


def _display(title: str, total: int) -> _Display:
    if _in_notebook():
        return _Notebook(title, total)
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return _Terminal(title, total) if is_terminal else _Lines(title, total)


def _in_notebook() -> bool:
    """Whether this is a Jupyter kernel."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class _Terminal:
    """A bar of rich."""

    def __init__(self, title: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = [TextColumn(title, markup=False), TextColumn("{task.fields[done]}", markup=False)]
        texts = TextColumn("{task.description}", markup=False)
        console = Console(stderr=True)
        self._bar = Progress(*columns, BarColumn(bar_width=24), texts, TimeRemainingColumn(), console=console)
        self._task = self._bar.add_task("", total=total, done="")

    def open(self, started: float) -> None:  # noqa: ARG002 - rich has its own clock
        """Show the bar."""
        self._bar.start()

    def update(self, at: int, done: str, text: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=at, description=text, done=done)

    def close(self) -> None:
        """Leave the bar as it is, and end it."""
        self._bar.stop()


class _Notebook:
    """One element of HTML that is updated in place, at most ten times a second; it needs no widgets."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._at, self._texts, self._updated = 0, ("", ""), 0.0

    def open(self, started: float) -> None:
        """Display the element."""
        from IPython.display import display  # type: ignore[import-not-found, unused-ignore]

        self._started = started
        self._handle: Any = display(self, display_id=True)  # type: ignore[no-untyped-call, unused-ignore]

    def update(self, at: int, done: str, text: str) -> None:
        """Display the element anew."""
        self._at, self._texts = at, (done, text)
        if time.monotonic() - self._updated > 0.1:
            self._updated = time.monotonic()
            self._handle.update(self)

    def close(self) -> None:
        """Display the last state."""
        self._handle.update(self)

    def __repr__(self) -> str:
        return " ".join(each for each in (self._title, *self._texts) if each)

    def _repr_html_(self) -> str:
        done, text = map(escape, self._texts)
        left = _left(self._at, self._total, time.monotonic() - self._started)
        bar = f"<progress value='{self._at}' max='{self._total}'></progress>"
        return f"<div style='font-family:monospace'>{escape(self._title)} {done} {bar} {text}{left}</div>"


class _Lines:
    """A line of the log for the first piece, then one a minute, and one at the end."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._last, self._logged = (0, "", ""), 0
        self._logged_at = -SECONDS_BETWEEN_LINES

    def open(self, started: float) -> None:
        """Begin to count the time."""
        self._started = started

    def update(self, at: int, done: str, text: str) -> None:
        """Log a line if the last is a minute old."""
        self._last = (at, done, text)
        if at and time.monotonic() - self._logged_at >= SECONDS_BETWEEN_LINES:
            self._log()

    def close(self) -> None:
        """Log the last state."""
        if self._last[0] != self._logged:
            self._log(ends=True)

    def _log(self, ends: bool = False) -> None:
        at, done, text = self._last
        self._logged, self._logged_at = at, time.monotonic()
        left = "" if ends else _left(at, self._total, self._logged_at - self._started)
        say_log(f"{self._title} {done}{': ' if text else ''}{text}{left}")


def _left(at: int, total: int, seconds: float) -> str:
    """Return how long the rest takes at this pace; nothing at the start and at the end."""
    return f", {_duration(seconds / at * (total - at))} left" if 0 < at < total and seconds > 1 else ""


def _duration(seconds: float) -> str:
    """Return a duration in words.

    >>> _duration(42), _duration(160), _duration(7300)
    ('42 s', '3 min', '2 h 2 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
