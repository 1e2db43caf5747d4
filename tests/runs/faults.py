"""A disk that fails, or a process that is killed, at the n-th thing that a save asks of the system."""

from __future__ import annotations

import builtins
import errno
import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

from genevae.errors import RunError
from genevae.io import atomic

__all__ = ["Kind", "count", "outcome"]

Kind = Literal["kill", "ENOSPC", "EACCES"]
TAKES_SPACE = {"write", "mkdir", "open"}
CALLS = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync")
KILLED = 9


class Faults:
    """Counts calls; from the n-th on, all fail that need room or leave, or the process ends there and then."""

    def __init__(self, at: int | None, kind: Kind) -> None:
        self.at, self.kind, self.n = at, kind, 0

    def before(self, call: str) -> None:
        self.n += 1
        if self.at is None or self.n < self.at:
            return
        if self.kind == "kill":
            os._exit(KILLED)
        if self.kind == "EACCES" or call in TAKES_SPACE:
            raise OSError(getattr(errno, self.kind), os.strerror(getattr(errno, self.kind)))


class File:
    """A file whose writes are counted; what is interrupted has written half."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self.file, self.faults = file, faults

    def write(self, data: Any) -> Any:
        if self.faults.n + 1 == self.faults.at:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
        self.faults.before("write")
        return self.file.write(data)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@contextmanager
def failing(faults: Faults) -> Iterator[None]:
    """Put the counting calls in the place of the system's own."""
    originals = [(os, name, getattr(os, name)) for name in CALLS] + [(atomic, "_exchange", atomic._exchange)]
    opened = io.open

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            faults.before(name)
            return call(*args, **kwargs)

        return counting

    def opening(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wax+"):
            return opened(file, mode, *args, **kwargs)
        faults.before("open")
        return File(opened(file, mode, *args, **kwargs), faults)

    for place, name, call in originals:
        setattr(place, name, counted(name, call))
    io.open = builtins.open = opening
    try:
        yield
    finally:
        io.open = builtins.open = opened
        for place, name, call in originals:
            setattr(place, name, call)


def count(save: Callable[[], object]) -> int:
    """Return how many calls a save makes."""
    faults = Faults(None, "kill")
    with failing(faults):
        save()
    return faults.n


def outcome(save: Callable[[], object], at: int, kind: Kind) -> str:
    """Save with a fault at the n-th call, in a child process; say whether it was killed, refused, or saved."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of threads; the child runs none
        child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            try:
                with failing(Faults(at, kind)):
                    save()
                code = 0
            except RunError:
                code = 2
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "saved", 1: "crashed", 2: "refused", KILLED: "killed"}[code]
