"""Which cells next: pure streams of row numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chunk", "InOrder", "Sampler", "Shuffled"]


@dataclass(frozen=True)
class Chunk:
    """Rows to read at once, and where each minibatch in them ends.

    Parameters
    ----------
    rows
        Row numbers, in the order of the minibatches.
    bounds
        ``bounds[i]`` to ``bounds[i + 1]`` is minibatch ``i`` of this chunk.
    """

    rows: NDArray[np.int64]
    bounds: tuple[int, ...]


class Sampler(Protocol):
    """A stream of chunks for each epoch, a function of the epoch's number alone."""

    @property
    def n_cells(self) -> int:
        """Cells in one epoch."""

    @property
    def n_minibatches(self) -> int:
        """Minibatches in one epoch."""

    def chunks(self, epoch: int) -> Iterator[Chunk]:
        """Yield what to read, and how to cut it."""


def _cut(n_cells: int, batch_size: int, at_least: int) -> list[int]:
    """Cut ``n_cells`` into minibatches; a last one below ``at_least`` cells joins the one before it."""
    bounds = [*range(0, n_cells, batch_size), n_cells] if n_cells else [0]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] < at_least:
        del bounds[-2]
    return bounds


def _chunk(rows: NDArray[np.int64], bounds: list[int], minibatches_per_chunk: int) -> Iterator[Chunk]:
    for first in range(0, len(bounds) - 1, minibatches_per_chunk):
        part = bounds[first : first + minibatches_per_chunk + 1]
        yield Chunk(rows[part[0] : part[-1]], tuple(bound - part[0] for bound in part))


@dataclass(frozen=True)
class InOrder:
    """Every row once, in order.

    Parameters
    ----------
    rows
        Row numbers.
    batch_size
        Cells in one minibatch.
    """

    rows: NDArray[np.int64]
    batch_size: int

    @property
    def n_cells(self) -> int:
        """Cells in one epoch."""
        return len(self.rows)

    @property
    def n_minibatches(self) -> int:
        """Minibatches in one epoch."""
        return len(_cut(self.n_cells, self.batch_size, 1)) - 1

    def chunks(self, epoch: int) -> Iterator[Chunk]:  # noqa: ARG002 - every epoch is the same
        """Yield the rows, a minibatch a chunk."""
        yield from _chunk(self.rows, _cut(self.n_cells, self.batch_size, 1), 1)


@dataclass(frozen=True)
class Shuffled:
    """Every row once, in an order that depends on the seed and the epoch alone.

    Batch norm cannot train on one cell, so a last minibatch of one joins the one before it.

    Parameters
    ----------
    rows
        Row numbers.
    batch_size
        Cells in one minibatch.
    seed
        Of the order.
    minibatches_per_chunk
        How many minibatches are read at once.
    """

    rows: NDArray[np.int64]
    batch_size: int
    seed: int = 0
    minibatches_per_chunk: int = 32

    @property
    def n_cells(self) -> int:
        """Cells in one epoch."""
        return len(self.rows)

    @property
    def n_minibatches(self) -> int:
        """Minibatches in one epoch."""
        return len(_cut(self.n_cells, self.batch_size, 2)) - 1

    def chunks(self, epoch: int) -> Iterator[Chunk]:
        """Yield the rows of one epoch, shuffled."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        yield from _chunk(order, _cut(self.n_cells, self.batch_size, 2), self.minibatches_per_chunk)
