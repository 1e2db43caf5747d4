"""Loops over rows in the threads that PyTorch computes with.

A step has dozens of short products and loops. If loops had threads of their own, these would wait for a core as long as
those of PyTorch spin, so they run in the same: by ``GOMP_parallel``, the function of the OpenMP that PyTorch has loaded
with which compilers start threads. It calls a function with an address. There is a table of the loop's arguments, three
numbers for each: address, rows and columns of an array, or the number itself.

Rows are divided into ``PARTS``, which do not depend on the number of threads, and each thread takes the next part until
there are none. So what a loop sums up in each part is the same for any number of threads.

A loop cannot raise an error, and takes what lies at an address for what it expects there: so the types of arguments are
checked before, and afterwards whether all parts were taken. Where PyTorch has another way to start threads (macOS),
loops run in threads of Python. After a fork, a loop in several threads never ends; nor does a function of PyTorch.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from genevae.kernels.compile import PARTS, SUMS, inlined

__all__ = ["flag", "in_parts", "matrix", "next_part", "numbers", "run", "vector"]

_COUNTER, _FIRST = 1, 2
"""Where the table has the number of the next part, and where arguments begin. At 0 is its own address.

What was compiled is kept until the file of the loop changes: with another layout, change those files too.
"""


class in_parts:  # noqa: N801 - it is used as a decorator
    """A loop that takes the address of its arguments, and parts until there are none.

    It makes all arrays of its own before it takes the first part. It is compiled when it is first run, and then kept.

    Parameters
    ----------
    types
        The type of each argument: that of the numbers of an array, or ``bool``.
    """

    def __init__(self, *types: type) -> None:
        self.types = tuple(np.dtype(each) for each in types)
        self.function: Callable[[Any], None]

    def __call__(self, function: Callable[[Any], None]) -> in_parts:
        """Decorate a function."""
        self.function = function
        return self

    @cached_property
    def compiled(self) -> Any:
        """The loop as C calls it."""
        options: dict[str, Any] = {"error_model": "numpy", "fastmath": SUMS}
        try:
            return numba.cfunc(types.void(types.voidptr), cache=True, **options)(self.function)
        except RuntimeError:  # no folder to keep it in
            return numba.cfunc(types.void(types.voidptr), **options)(self.function)


def run(loop: in_parts, *arguments: Any) -> None:
    """Call a loop in as many threads as PyTorch has, up to ``PARTS``.

    Parameters
    ----------
    loop
        The loop.
    arguments
        Arrays of one or two axes, row by row, of the types of the loop; or whether something is true.

    Raises
    ------
    TypeError
        If an argument has another type, or an array is not stored row by row.
    MemoryError
        If there was no room for the arrays of the loop.
    """
    values = [0, 0]
    for each, expected in zip(arguments, loop.types, strict=True):
        if isinstance(each, bool) and expected == np.bool_:
            values += [each, 0, 0]
        elif isinstance(each, np.ndarray) and each.dtype == expected and each.flags.c_contiguous:
            values += [each.__array_interface__["data"][0], len(each), each.shape[-1]]
        else:
            kind = each.dtype if isinstance(each, np.ndarray) else type(each).__name__
            raise TypeError(f"a loop was given {kind}, not {expected} row by row")
    table = np.array(values, np.int64)
    address = table[0] = table.__array_interface__["data"][0]
    compiled, n_threads = loop.compiled, min(torch.get_num_threads(), PARTS)
    if n_threads == 1:
        compiled.ctypes(address)
    elif (start := _openmp()) is not None:
        start(compiled.address, address, n_threads, 0)
    else:
        pool = _pool(n_threads, os.getpid())
        others = [pool.submit(_call, compiled, table, arguments) for _ in range(n_threads - 1)]
        _call(compiled, table, arguments)
        for other in others:
            other.result()
    if table[_COUNTER] < PARTS:
        raise MemoryError(f"no room for the arrays of {loop.function.__name__}")


def _call(compiled: Any, table: NDArray[np.int64], arguments: Any) -> None:  # noqa: ARG001 - arrays are kept until it ends
    compiled.ctypes(int(table[0]))


@cache
def _openmp() -> Any:
    """Return ``GOMP_parallel`` as PyTorch's library finds it, or None where that has another way to start threads."""
    for library in sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*")):
        try:
            start = ctypes.CDLL(str(library)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        start.argtypes, start.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
        return start
    return None


@cache
def _pool(n_threads: int, pid: int) -> ThreadPoolExecutor:  # noqa: ARG001 - a forked process has none of the threads
    return ThreadPoolExecutor(n_threads - 1, thread_name_prefix="genevae-loop")


def _as_pointer(_context: Any, _address: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


def _adding_one(_context: Any, _address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        number = ir.IntType(64)
        return builder.atomic_rmw(
            "add", builder.inttoptr(values[0], number.as_pointer()), ir.Constant(number, 1), "monotonic"
        )

    return types.int64(types.int64), generate


_pointer: Any = intrinsic(_as_pointer)
"""Returns an address as a pointer."""
_add_one: Any = intrinsic(_adding_one)
"""Adds one to the number at an address, and returns what it was; no two threads get the same."""


@inlined
def _table(at: Any, number: Any) -> Any:
    """Return address, rows and columns of an argument."""
    return carray(at, (_FIRST + 3 * number + 3,), np.int64)[_FIRST + 3 * number :]


@inlined
def next_part(at: Any) -> Any:
    """Return the number of a part that no thread has taken yet; ``PARTS`` or more, where there is none left."""
    return _add_one(carray(at, (_FIRST,), np.int64)[0] + 8 * _COUNTER)


@inlined
def flag(at: Any, number: Any) -> Any:
    """Return an argument that is true or false."""
    return _table(at, number)[0] != 0


@inlined
def vector(at: Any, number: Any, dtype: Any) -> Any:
    """Return a vector of numbers of a type."""
    table = _table(at, number)
    return carray(_pointer(table[0]), (table[1],), dtype)


@inlined
def numbers(address: Any, n: Any) -> Any:
    """Return n numbers of float32 that lie at an address."""
    return carray(_pointer(address), (n,), np.float32)


@inlined
def matrix(at: Any, number: Any) -> Any:
    """Return a matrix of float32."""
    table = _table(at, number)
    return carray(_pointer(table[0]), (table[1], table[2]), np.float32)
