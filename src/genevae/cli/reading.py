"""The options of every command that reads data: where they are, and how they are to be read."""

from __future__ import annotations

import inspect
from typing import Any

from genevae.cli.words import options_of
from genevae.data.sources.files import Files

__all__ = ["OPTIONS", "files_of", "parameters"]

OPTIONS = options_of(Files, {}, leave_out=["path"], group="How the data are read")


def parameters() -> list[inspect.Parameter]:
    """Return the options."""
    return [parameter for parameter, _ in OPTIONS.values()]


def files_of(data: str, given: dict[str, Any]) -> Files:
    """Take the reading options out of what was given, and join them with the path."""
    words = {name: given.pop(name) for name in OPTIONS if name in given}
    return Files(path=data, **{name: word for name, word in words.items() if word is not None})
