"""What public functions share: options under the names of other packages, options of reading, and clear mistakes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from genevae.errors import DataError, shorten
from genevae.io.read_options import ReadOptions
from genevae.peers import READING as READING_OF_PEERS
from genevae.peers import translated
from genevae.progress import forget_abandoned
from genevae.session import settings

__all__ = ["public"]

P = ParamSpec("P")
R = TypeVar("R")
_RUNNING: list[str] = []
"""Public functions that are under way: those that others call are inside them."""
READING = frozenset(each.name for each in fields(ReadOptions)) - {"path"}


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take options under the names that other packages have for them, and options of reading a path.

    ``fit("counts.csv", metadata="samples.csv")`` is ``fit(ReadOptions("counts.csv", metadata="samples.csv"))``.
    """
    signature = inspect.signature(function)
    known = list(signature.parameters)
    passes_on = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())

    @functools.wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> R:
        given: dict[str, Any] = dict(options)
        reading = {}
        if not passes_on:
            reading = {name: given.pop(name) for name in list(given) if name in READING and name not in known}
            tables = [name for name in given if name in READING_OF_PEERS and isinstance(given[name], str | Path)]
            reading |= {READING_OF_PEERS[name]: given.pop(name) for name in tables if name not in known}
        given = given if passes_on else translated(given, known)
        positional: list[Any] = list(arguments)
        if settings.seed is not None and "seed" in known[len(positional) :]:
            given.setdefault("seed", settings.seed)
        if reading and "data" in known:
            at = known.index("data")
            if at < len(positional):
                positional[at] = _with_reading(positional[at], reading)
            else:
                given["data"] = _with_reading(given.get("data"), reading)
        elif reading:
            translated(reading, known)
        try:
            signature.bind(*positional, **given)
        except TypeError as error:
            raise DataError(f"{function.__name__}: {error}. Its arguments are: {shorten(known, 40)}.") from None
        if not _RUNNING:
            forget_abandoned()
        _RUNNING.append(function.__name__)
        try:
            return function(*positional, **given)
        finally:
            _RUNNING.pop()

    return called


def _with_reading(data: Any, reading: dict[str, Any]) -> ReadOptions:
    """Return a path with options of how it is read."""
    if isinstance(data, str | Path):
        return ReadOptions(data, **reading)
    if isinstance(data, ReadOptions):
        return replace(data, **reading)
    raise DataError(
        f"'{next(iter(reading))}' says how a file is read, and the data are {type(data).__name__}. Leave it out, or "
        "give the path of a file."
    )
