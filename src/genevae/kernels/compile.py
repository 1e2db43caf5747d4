"""What makes a loop of a function, and in how many threads loops run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import Any, TypeVar

__all__ = ["compiled", "exact", "in_parts", "inlined", "load"]

Function = TypeVar("Function", bound=Callable[..., Any])

SUMS = {"reassoc", "nsz", "arcp", "contract"}
"""What a compiler may do to arithmetic: sums in any order, but infinity and NaN stay what they are."""


@cache
def load(name: str) -> Any:
    """Return a module of this folder, or None where numba is missing, or is set not to compile (NUMBA_DISABLE_JIT)."""
    try:
        numba = import_module("numba")
    except ImportError:
        return None
    return None if numba.config.DISABLE_JIT else import_module(f"genevae.kernels.{name}")


def compiled(function: Function) -> Function:
    """Compile a loop, which then runs without the GIL; what was compiled is kept on disk.

    It is kept for as long as the file is the same: so what it calls is in the same file, and inlined, for a function of
    its own could be linked to another copy, whose sums are in another order.
    """
    return _compile(function, nogil=True, fastmath=SUMS)


def inlined(function: Function) -> Function:
    """Compile what loops call, with sums in any order."""
    return _compile(function, forceinline=True, fastmath=SUMS)


def exact(function: Function) -> Function:
    """Compile what loops call, with sums in the order that is written."""
    return _compile(function, forceinline=True, fastmath={"contract"})


def _compile(function: Function, **options: Any) -> Function:
    import numba

    try:
        made: Function = numba.njit(cache=True, error_model="numpy", **options)(function)
    except RuntimeError:  # no folder to keep it in
        made = numba.njit(error_model="numpy", **options)(function)
    return made


def in_parts(loop: Callable[..., Any], n: int, n_threads: int, *arguments: Any) -> None:
    """Call ``loop(part, start, stop, *arguments)`` for parts of n items, which depend on n alone, in some threads.

    So what a loop sums up in each part is the same for any number of threads.
    """
    bounds = part_bounds(n)
    parts = [(part, start, stop) for part, (start, stop) in enumerate(pairwise(bounds))]

    def work(mine: list[tuple[int, int, int]]) -> None:
        for part in mine:
            loop(*part, *arguments)

    n_threads = min(n_threads, len(parts))
    others = [_pool(n_threads - 1).submit(work, parts[thread::n_threads]) for thread in range(1, n_threads)]
    work(parts[::n_threads])
    for other in others:
        other.result()


PARTS = 8
"""Into which rows are divided, and so the largest number of threads."""


def part_bounds(n: int) -> list[int]:
    """Return the bounds of the parts of n items.

    >>> part_bounds(20)
    [0, 2, 5, 7, 10, 12, 15, 17, 20]
    """
    return [part * n // PARTS for part in range(PARTS + 1)]


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="genevae-loop")
