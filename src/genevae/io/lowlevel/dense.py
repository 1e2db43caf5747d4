"""Conversion to float32, and reading of dense rows in ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.errors import DataError
from genevae.io.lowlevel.csr_ranges import ranges_of
from genevae.io.lowlevel.raw_chunks import read_all_into, read_into

__all__ = ["DenseRows", "FloatArray", "as_float32"]

_EXACT = 2**24
"""Every integer up to this one is exact in float32."""


@dataclass(frozen=True)
class DenseRows:
    """A dense matrix whose rows are read in ranges.

    Parameters
    ----------
    shape
        Cells and genes.
    block
        Function that reads a range of rows.
    """

    shape: tuple[int, int]
    block: Callable[[int, int], NDArray[np.float32]]

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read these rows, in this order."""
        if not len(rows):
            return np.zeros((0, self.shape[1]), dtype=np.float32)
        ordered, index = np.unique(rows, return_inverse=True)
        starts = np.arange(self.shape[0] + 1, dtype=np.int64) * self.shape[1]
        parts = [self._read_range(ordered[first:last]) for first, last in ranges_of(ordered, starts)]
        return np.concatenate(parts)[index]

    def _read_range(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        block = self.block(int(rows[0]), int(rows[-1]) + 1)
        return np.asarray(block[rows - rows[0]])


@dataclass(frozen=True)
class FloatArray:
    """An array that is read in ranges, as float32.

    Parameters
    ----------
    array
        Function that reads a range.
    name
        Name in messages.
    """

    array: Callable[[int, int], NDArray[Any]]
    name: str

    def __call__(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read a range."""
        return as_float32(self.array(start, stop), self.name)

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The stored data type, if known."""
        return getattr(self.array, "dtype", None)

    def read_into(self, start: int, out: NDArray[np.float32]) -> None:
        """Read a range into an existing array; the stored type must be float32."""
        read_into(self.array, start, out)

    def read_all_into(self, start_r: NDArray[np.int64], n_r: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        """Read ranges one after the other into an existing array; the stored type must be float32."""
        read_all_into(self.array, start_r, n_r, out)


def as_float32(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Convert to float32 without changing integers.

    Raises
    ------
    DataError
        If the values are not numbers, or an integer above 2²⁴ is not exact in float32.
    """
    if values.dtype == np.float32:
        return values
    if values.dtype.kind not in "biuf":
        raise DataError(f"{name} contains {values.dtype} instead of numbers. Convert the matrix to float32.")
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32)
    if values.size and (np.fmax.reduce(values, axis=None) > _EXACT or np.fmin.reduce(values, axis=None) < -_EXACT):
        _require_exact(values[np.abs(values) > _EXACT], name)
    return converted


def _require_exact(large: NDArray[Any], name: str) -> None:
    """Raise if a large integer is not exact in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        lost = (large == np.floor(large)) & (large.astype(np.float32).astype(large.dtype) != large)
    if lost.any():
        raise DataError(
            f"{name} has {int(lost.sum())} counts that are too large for float32, such as {large[lost][0]:.0f}: "
            f"it is exact up to {_EXACT}. Round them to fewer digits, scale the matrix down, or drop those genes."
        )
