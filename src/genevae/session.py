"""Settings of the whole session: what is shown, and how many threads compute."""

from __future__ import annotations

import logging
import operator
import os
from typing import Any

__all__ = ["LOGGER", "Settings", "settings"]

LOGGER = logging.getLogger("genevae")
"""Where progress goes without a terminal or a notebook, at the level INFO."""

_ELSEWHERE = {
    "batch_size": "every function has its own: genevae.fit(adata, batch_size=256)",
    "n_threads": "num_threads",
    "n_jobs": "num_threads",
    "device": 'of a fit or a load: genevae.fit(adata, device="cpu")',
    "figdir": "matplotlib's own: savefig",
}

MOST_THREADS = 1_024
"""More than machines have processors; a system that cannot start so many threads ends the process."""


class Settings:
    """Settings of the session: ``gv.settings.progress = False``.

    Attributes
    ----------
    progress
        Whether the progress of long work is shown: a bar on a terminal and in a notebook, else one line a minute.
    seed
        The seed of every function that is given none; by default each has its own, 0.
    """

    progress: bool
    seed: int | None
    _fastest: bool

    def __init__(self) -> None:
        object.__setattr__(self, "progress", True)
        object.__setattr__(self, "seed", None)
        object.__setattr__(self, "_fastest", False)

    @property
    def verbosity(self) -> str:
        """The level of the logger ``genevae``: "debug", "info" (the default), "warning" or "error"."""
        return logging.getLevelName(LOGGER.level or logging.INFO).lower()

    @verbosity.setter
    def verbosity(self, level: str | int) -> None:
        LOGGER.setLevel(level.upper() if isinstance(level, str) else level)

    @property
    def num_threads(self) -> int | str:
        """Threads that PyTorch computes with; "auto": in training on the CPU, as many as are fastest just then.

        So many of its own threads are timed at the start, and again when steps become slow, which helps where other
        programs run on the machine. Some products of PyTorch differ in their last bits with the number of threads.
        """
        import torch

        return "auto" if self._fastest else torch.get_num_threads()

    @num_threads.setter
    def num_threads(self, number: int | str) -> None:
        import torch

        from genevae.errors import RecipeError, warn

        if number != "auto":
            try:
                n = operator.index(number) if not isinstance(number, str) else int(number)
                torch.set_num_threads(n if n <= MOST_THREADS else 0)  # which torch refuses
            except (RuntimeError, ValueError, TypeError, OverflowError) as error:
                raise RecipeError(
                    f"num_threads is a number from 1 to {MOST_THREADS:,}, or 'auto', not {number!r}. Without, PyTorch "
                    "chooses."
                ) from error
            if n > (cores := os.cpu_count() or n):
                warn(f"{n:,} threads on {cores} cores are slower than {cores}.")
        object.__setattr__(self, "_fastest", number == "auto")

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(type(self), name) and name not in {"progress", "seed"}:
            raise AttributeError(self._unknown(name))
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(self._unknown(name))

    def _unknown(self, name: str) -> str:
        from genevae.errors import nearest

        known = ["progress", "seed", "verbosity", "num_threads"]
        there = f"It is {_ELSEWHERE[name]}." if name in _ELSEWHERE else nearest(name, known)
        return f"genevae.settings has no '{name}'. {there}"

    def __repr__(self) -> str:
        return f"genevae.settings: progress={self.progress}, seed={self.seed}, verbosity={self.verbosity!r}"


settings = Settings()
