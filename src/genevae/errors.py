"""Every error that genevae raises on purpose, and the words that help to mend it.

::

    GenevaeError            a mistake that the user can mend; the command line prints it and exits with 2
    ├── DataError           a file, a table or a matrix is not what it should be
    │   ├── GeneError       the genes of the data and of the model do not fit together
    │   └── CategoryError   a covariate, or one of its values, is unknown
    ├── RecipeError         a recipe, or one of its settings, is unknown or cannot fit these data
    ├── RunError            a run folder is missing, damaged, or already there
    ├── TrainingError       training cannot go on (no finite loss, nothing to train on)
    └── TrainingPaused      a signal stopped training, and its state is saved; the command line exits with 75

A message says what is wrong, where, what was given, and how to fix it, in that order.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "EX_TEMPFAIL",
    "CategoryError",
    "DataError",
    "GeneError",
    "GenevaeError",
    "RecipeError",
    "RunError",
    "TrainingError",
    "TrainingPaused",
    "nearest",
    "shorten",
]


EX_TEMPFAIL = 75
"""What a command ends with that should be started again: sysexits.h's word for it."""


class GenevaeError(Exception):
    """A mistake that the user can mend."""

    exit_code = 2
    """What a command ends with."""


class DataError(GenevaeError):
    """A file, a table or a matrix is not what it should be."""


class GeneError(DataError):
    """The genes of the data and of the model do not fit together."""


class CategoryError(DataError):
    """A covariate, or one of its values, is unknown."""


class RecipeError(GenevaeError):
    """A recipe, or one of its settings, is unknown or cannot fit these data."""


class RunError(GenevaeError):
    """A run folder is missing, damaged, or already there."""


class TrainingError(GenevaeError):
    """Training cannot go on."""


class TrainingPaused(GenevaeError):  # noqa: N818 - nothing is wrong
    """A signal stopped training, and its state is saved."""

    exit_code = EX_TEMPFAIL


def shorten(names: Iterable[object], limit: int = 8) -> str:
    """List at most ``limit`` names, and say how many more there are.

    >>> shorten(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    listed = [str(name) for name in names]
    if len(listed) <= limit:
        return ", ".join(listed)
    return f"{', '.join(listed[:limit])} and {len(listed) - limit} more"


def nearest(given: object, valid: Iterable[object]) -> str:
    """Say which names are valid and, where one is close to what was given, which was meant.

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
    return f"{question}There are: {shorten(names)}."
