"""Which cells next: pure streams of row numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BUFFER", "Chunk", "InOrder", "Sampler", "Shuffled", "balanced_weights"]

_Rows = NDArray[np.int64]

BLOCK = 64
"""Rows that stay together until they are in the buffer: a range that one read fetches."""
BUFFER = 2**14
"""Rows that are shuffled among themselves."""


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

    rows: _Rows
    bounds: tuple[int, ...]


class Sampler(Protocol):
    """A stream of chunks for each epoch, a function of the epoch's number alone."""

    @property
    def n_cells(self) -> int:
        """Cells in one epoch."""

    @property
    def n_minibatches(self) -> int:
        """Minibatches in one epoch."""

    @property
    def rows(self) -> _Rows:
        """Every row that may come."""

    def for_rank(self, rank: int, n_ranks: int) -> Sampler:
        """Return the sampler of one process among several: its parts of the same minibatches."""

    def chunks(self, epoch: int, first: int = 0) -> Iterator[Chunk]:
        """Yield what to read, and how to cut it, from a minibatch on."""


def _cut(n_cells: int, batch_size: int, at_least: int) -> list[int]:
    """Cut ``n_cells`` into minibatches; a last one below ``at_least`` cells joins the one before it."""
    bounds = [*range(0, n_cells, batch_size), n_cells] if n_cells else [0]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] < at_least:
        del bounds[-2]
    return bounds


@dataclass(frozen=True)
class InOrder:
    """Every row once, in order.

    Parameters
    ----------
    rows
        Row numbers.
    batch_size
        Cells in one minibatch.
    buffer
        Rows that are read at once, at most.
    rank, n_ranks
        Which part of each minibatch is this process's. A last minibatch that has fewer cells than there are processes
        joins the one before it.
    """

    rows: _Rows
    batch_size: int
    buffer: int = 2**12
    rank: int = 0
    n_ranks: int = 1

    @property
    def n_cells(self) -> int:
        """Cells in one epoch."""
        return len(self.rows)

    @property
    def n_minibatches(self) -> int:
        """Minibatches in one epoch."""
        return len(self._bounds()) - 1

    def for_rank(self, rank: int, n_ranks: int) -> Self:
        """Return the sampler of one process among several."""
        return replace(self, rank=rank, n_ranks=n_ranks)

    def chunks(self, epoch: int, first: int = 0) -> Iterator[Chunk]:  # noqa: ARG002 - every epoch is the same
        """Yield the rows, some minibatches a chunk."""
        bounds = self._bounds()
        at_once = max(1, self.buffer // self.batch_size)
        for start in range(first, len(bounds) - 1, at_once):
            yield _part(self.rows, np.array(bounds[start : start + at_once + 1]), self.rank, self.n_ranks)

    def _bounds(self) -> list[int]:
        return _cut(self.n_cells, self.batch_size, self.n_ranks)


@dataclass(frozen=True)
class Shuffled:
    """Every row once, in an order that depends on the seed and the epoch alone.

    Rows are cut into blocks of neighbours, which one read fetches. Each buffer is filled with blocks from all over the
    data – one from every stretch of as many blocks as there are buffers, which one is drawn – and its rows are
    shuffled. So minibatches are as mixed as if all rows had been shuffled, also where the data are sorted by label, and
    data that fit into one buffer are shuffled altogether. Where the data are kept has no say in the order.

    Batch norm cannot train on one cell, so a last minibatch of one joins the one before it; as does one of fewer cells
    than there are processes.

    Parameters
    ----------
    rows
        Row numbers.
    batch_size
        Cells in one minibatch, of all ranks together.
    seed
        Of the order.
    block
        Rows in a block.
    buffer
        Rows in a buffer, about.
    weights
        How often each row is drawn, relative to the others; an epoch then has as many cells as ever, of which some come
        again and others not at all. Every row comes as often as its share of the weights says, rounded up or down.
    n_cells_per_epoch
        Cells in one epoch, where that is not all of them.
    rank, n_ranks
        Which part of each minibatch is this process's: their parts together are the minibatch of a single process.
    """

    rows: _Rows
    batch_size: int
    seed: int = 0
    block: int = BLOCK
    buffer: int = BUFFER
    weights: NDArray[np.float64] | None = field(default=None, repr=False)
    n_cells_per_epoch: int | None = None
    rank: int = 0
    n_ranks: int = 1

    @property
    def n_cells(self) -> int:
        """Cells in one epoch."""
        return min(len(self.rows), self.n_cells_per_epoch or len(self.rows))

    @property
    def n_minibatches(self) -> int:
        """Minibatches in one epoch."""
        return len(self._bounds()) - 1

    def for_rank(self, rank: int, n_ranks: int) -> Self:
        """Return the sampler of one process among several."""
        return replace(self, rank=rank, n_ranks=n_ranks)

    def chunks(self, epoch: int, first: int = 0) -> Iterator[Chunk]:
        """Yield the rows of one epoch, a buffer a chunk, from a minibatch on."""
        bounds = np.array(self._bounds())
        waiting, at, number = np.empty(0, dtype=np.int64), 0, 0
        for buffer in self._buffers(epoch):
            waiting = np.concatenate([waiting, buffer])
            ends = bounds[(bounds > at) & (bounds <= at + len(waiting))]
            if not len(ends):
                continue
            inner = np.concatenate([[at], ends]) - at
            skipped = min(max(first - number, 0), len(ends))
            if skipped < len(ends):
                yield _part(waiting, inner[skipped:], self.rank, self.n_ranks)
            waiting, at, number = waiting[inner[-1] :], int(ends[-1]), number + len(ends)
            if at == self.n_cells:
                return

    def _buffers(self, epoch: int) -> Iterator[_Rows]:
        """Yield the rows of each buffer, shuffled."""
        rng = np.random.default_rng([self.seed, epoch])
        rows = self.rows if self.weights is None else _drawn(self.rows, self.weights, rng)
        n_blocks = -(-len(rows) // self.block)
        n_buffers = max(1, -(-len(rows) // self.buffer))
        dealt_b = _deal(n_blocks, n_buffers, rng)
        inside = np.arange(self.block)
        for number in range(n_buffers):
            blocks = np.flatnonzero(dealt_b == number)
            places = (blocks[:, None] * self.block + inside).reshape(-1)
            yield rng.permutation(rows[places[places < len(rows)]])

    def _bounds(self) -> list[int]:
        return _cut(self.n_cells, self.batch_size, max(2, self.n_ranks))


def _part(rows: _Rows, bounds: NDArray[np.int64], rank: int, n_ranks: int) -> Chunk:
    """Take one process's part of each minibatch."""
    if n_ranks == 1:
        return Chunk(rows[bounds[0] : bounds[-1]], tuple((bounds - bounds[0]).tolist()))
    sizes = np.diff(bounds)
    start, stop = (bounds[:-1] + sizes * each // n_ranks for each in (rank, rank + 1))
    own = [rows[a:b] for a, b in zip(start, stop, strict=True)]
    return Chunk(np.concatenate(own), tuple(np.concatenate([[0], np.cumsum(stop - start)]).tolist()))


def _drawn(rows: _Rows, weights: NDArray[np.float64], rng: np.random.Generator) -> _Rows:
    """Draw as many rows as there are, each as often as its weight says: evenly spaced points on the weights."""
    ends = np.cumsum(weights, dtype=np.float64)
    points = (np.arange(len(rows)) + rng.random()) * (ends[-1] / len(rows))
    places = np.minimum(np.searchsorted(ends, points, side="right"), len(rows) - 1)
    return np.asarray(rows[places])


def _deal(n_blocks: int, n_buffers: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Give each block a buffer: within every stretch of ``n_buffers`` blocks, each buffer gets one."""
    n_stretches = -(-n_blocks // n_buffers)
    dealt = rng.permuted(np.tile(np.arange(n_buffers), (n_stretches, 1)), axis=1)
    return np.asarray(dealt.reshape(-1)[:n_blocks], dtype=np.int64)


def balanced_weights(labels: ArrayLike) -> NDArray[np.float64]:
    """Return a weight per cell with which every label is drawn equally often."""
    _, codes, counts = np.unique(np.asarray(labels).astype(str), return_inverse=True, return_counts=True)
    return 1 / counts[codes].astype(np.float64)
