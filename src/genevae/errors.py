"""The errors of genevae, and helpers for their messages.

::

    GenevaeError            an error that the user can fix; the command line prints it and exits with 2
    ├── DataError           a file, a table, a matrix or an argument is not valid
    │   └── LayerError      data have no such layer
    ├── GeneError           the genes of the data and of the model do not match
    ├── CategoryError       a covariate, or one of its values, is unknown
    ├── RecipeError         a recipe, or one of its settings, is unknown or not suitable for the data
    ├── RunError            a result cannot be written, or a run folder is missing or damaged
    ├── TrainingError       training cannot continue (no finite loss, nothing to train on)
    └── TrainingPaused      training was stopped by a signal, and its state was saved; the command line exits with 75
    GenevaeWarning          what may be a mistake, in work that continues; the command line prints it

A message states what is wrong, where, what was given, and how to fix it, in that order.
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "EX_TEMPFAIL",
    "CategoryError",
    "DataError",
    "GeneError",
    "GenevaeError",
    "GenevaeWarning",
    "LayerError",
    "RecipeError",
    "RunError",
    "TrainingError",
    "TrainingPaused",
    "missing_path",
    "nearest",
    "shorten",
    "warn",
]


EX_TEMPFAIL = 75
"""Exit code of a command that should be run again (EX_TEMPFAIL of sysexits.h)."""


class GenevaeError(Exception):
    """An error that the user can fix."""

    exit_code = 2
    """Exit code of the command."""


class DataError(GenevaeError):
    """A file, a table, a matrix or an argument is not valid."""


class LayerError(DataError):
    """Data have no such layer."""


class GeneError(GenevaeError):
    """The genes of the data and of the model do not match."""


class CategoryError(GenevaeError):
    """A covariate, or one of its values, is unknown."""


class RecipeError(GenevaeError):
    """A recipe, or one of its settings, is unknown or not suitable for the data."""


class RunError(GenevaeError):
    """A result cannot be written, or a run folder is missing or damaged."""


class TrainingError(GenevaeError):
    """Training cannot continue."""


class TrainingPaused(GenevaeError):  # noqa: N818 - not an error
    """Training was stopped by a signal, and its state was saved."""

    exit_code = EX_TEMPFAIL


class GenevaeWarning(UserWarning):
    """What may be a mistake, in work that continues."""


def warn(message: str) -> None:
    """Warn the user; the command line prints the message in one line."""
    warnings.warn(message, GenevaeWarning, stacklevel=3)


def shorten(names: Iterable[object], limit: int = 8) -> str:
    """List at most ``limit`` names, and the number of further ones.

    >>> shorten(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    listed = [str(name) for name in names]
    if len(listed) <= limit:
        return ", ".join(listed)
    return f"{', '.join(listed[:limit])} and {len(listed) - limit} more"


def nearest(given: object, valid: Iterable[object], limit: int = 8) -> str:
    """List the valid names, at most ``limit`` of them, and suggest the one closest to the given name.

    >>> nearest("celltype", ["cell_type", "donor"])
    "Did you mean 'cell_type'? There are: cell_type, donor."
    >>> nearest("x", [])
    'There are none.'
    """
    names = [str(name) for name in valid]
    if not names:
        return "There are none."
    folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(str(given).casefold(), folded, n=1, cutoff=0.6)
    question = f"Did you mean '{folded[close[0]]}'? " if close else ""
    return f"{question}There are: {shorten(names, limit)}."


def missing_path(path: Path) -> str:
    """Say why a path does not exist: a link without its target, a folder that is missing, or a name that differs."""
    if path.is_symlink():
        return (
            f"{path} is a link to {os.readlink(path)}, which is missing. Get that file (with git-annex or DataLad: "  # noqa: PTH115 - the text of the link
            f"datalad get {path}), mount its disk, or make the link again."
        )
    folder = path.absolute().parent
    if folder.is_symlink() and not folder.exists():
        return f"There is no {path}. {missing_path(folder)}"
    if not folder.is_dir():
        return (
            f"There is no {path}. The folder {folder} does not exist either. Check the path and the working directory "
            f"({Path.cwd()})."
        )
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    return f"There is no {path}. In {folder}: {nearest(path.name, names)}"
