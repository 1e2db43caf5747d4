"""What makes a loop of a function, and in how many threads loops run."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import Any, TypeVar

__all__ = ["compiled", "exact", "in_parts", "inlined", "load", "load_triton"]

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


@cache
def load_triton(name: str) -> Any:
    """Return a module of this folder that is written in Triton, or None where Triton is missing."""
    try:
        import_module("triton")
    except ImportError:
        return None
    return import_module(f"genevae.kernels.{name}")


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


PARTS = 8
"""Into which rows are divided, and so the largest number of threads."""


def in_parts(loop: Callable[..., Any], n_threads: int, *arguments: Any) -> None:
    """Call ``loop(first, last, *arguments)`` for consecutive parts, from 0 to 8, in some threads.

    The loop finds the bounds of its parts, which depend on the number of rows alone. So what it sums up in each part is
    the same for any number of threads.
    """
    n_threads = min(n_threads, PARTS)
    bounds = [thread * PARTS // n_threads for thread in range(n_threads + 1)]
    others = [_pool(n_threads, os.getpid()).submit(loop, *part, *arguments) for part in pairwise(bounds[1:])]
    loop(0, bounds[1], *arguments)
    for other in others:
        other.result()


@cache
def _pool(n_threads: int, pid: int) -> ThreadPoolExecutor:  # noqa: ARG001 - a forked process has none of the threads
    return ThreadPoolExecutor(n_threads - 1, thread_name_prefix="genevae-loop")
