"""What makes a compiled loop of a function."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

__all__ = ["PARTS", "compiled", "exact", "inlined", "load", "load_triton"]

PARTS = 8
"""Into how many parts rows are divided, whatever the number of threads, which is at most this.

Loops that are kept on disk have this number in them: with another, change their files too.
"""

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
