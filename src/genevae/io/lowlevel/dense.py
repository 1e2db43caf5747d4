"""Numbers as float32, and dense rows that are read by range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genevae.errors import DataError
from genevae.io.lowlevel.csr_ranges import runs_of
from genevae.io.lowlevel.raw_chunks import read_into

__all__ = ["DenseRows", "FloatArray", "as_float32"]

_EXACT = 2**24
"""The largest whole number up to which float32 holds every whole number."""


@dataclass(frozen=True)
class DenseRows:
    """A dense matrix whose rows are read by range.

    Parameters
    ----------
    shape
        Cells and genes.
    block
        Reads a range of rows.
    """

    shape: tuple[int, int]
    block: Callable[[int, int], NDArray[np.float32]]

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read these rows, in this order."""
        if not len(rows):
            return np.zeros((0, self.shape[1]), dtype=np.float32)
        ordered, place = np.unique(rows, return_inverse=True)
        starts = np.arange(self.shape[0] + 1, dtype=np.int64) * self.shape[1]
        parts = [self._run(ordered[first:last]) for first, last in runs_of(ordered, starts)]
        return np.concatenate(parts)[place]

    def _run(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        block = self.block(int(rows[0]), int(rows[-1]) + 1)
        return np.asarray(block[rows - rows[0]])


@dataclass(frozen=True)
class FloatArray:
    """Numbers that are read by ranges, as float32.

    Parameters
    ----------
    array
        Reads a range.
    name
        What messages call it.
    """

    array: Callable[[int, int], NDArray[Any]]
    name: str

    def __call__(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read a range."""
        return as_float32(self.array(start, stop), self.name)

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Of the numbers as they are stored, where that is known."""
        return getattr(self.array, "dtype", None)

    def read_into(self, start: int, out: NDArray[np.float32]) -> None:
        """Read a range of what is stored as float32."""
        read_into(self.array, start, out)


def as_float32(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Convert to float32, and refuse where whole numbers would change.

    Raises
    ------
    DataError
        If the values are not numbers, or a whole number above 2²⁴ has no float32 of its own.
    """
    if values.dtype == np.float32:
        return values
    if values.dtype.kind not in "biuf":
        raise DataError(f"{name} holds {values.dtype} where numbers are expected: convert the matrix to float32.")
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32)
    if values.size and (np.fmax.reduce(values, axis=None) > _EXACT or np.fmin.reduce(values, axis=None) < -_EXACT):
        _require_whole(values[np.abs(values) > _EXACT], name)
    return converted


def _require_whole(large: NDArray[Any], name: str) -> None:
    """Raise where a large whole number does not survive float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        lost = (large == np.floor(large)) & (large.astype(np.float32).astype(large.dtype) != large)
    if lost.any():
        raise DataError(
            f"{name} holds {int(lost.sum())} counts that float32 cannot hold, such as {large[lost][0]:.0f}: "
            f"it is exact up to {_EXACT}. Round them to fewer digits, scale the matrix down, or drop those genes."
        )
