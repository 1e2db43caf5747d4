"""Samplers: which rows to read, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BUFFER", "Chunk", "InOrder", "Sampler", "Shuffled", "balanced_weights"]

_Rows = NDArray[np.int64]

BLOCK = 64
"""Contiguous rows that are read together into a buffer."""
BUFFER = 2**14
"""Rows that are shuffled together."""


@dataclass(frozen=True)
class Chunk:
    """Rows to read at once, and the bounds of the minibatches in them.

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
    """A stream of chunks for each epoch, which depends on the number of the epoch alone."""

    @property
    def n_cells(self) -> int:
        """Cells in one epoch."""

    @property
    def n_minibatches(self) -> int:
        """Minibatches in one epoch."""

    @property
    def rows(self) -> _Rows:
        """All rows that may occur."""

    def for_rank(self, rank: int, n_ranks: int) -> Sampler:
        """Return the sampler of one of several processes: its parts of the same minibatches."""

    def chunks(self, epoch: int, first: int = 0) -> Iterator[Chunk]:
        """Yield the chunks of one epoch, from minibatch ``first`` on."""


def _split(n_cells: int, batch_size: int, minimum: int) -> list[int]:
    """Return the bounds of minibatches; a last one of fewer than ``minimum`` cells is merged into the previous one."""
    bounds = [*range(0, n_cells, batch_size), n_cells] if n_cells else [0]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] < minimum:
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
        Maximum number of rows to read at once; few, so that they stay in the processor's cache until they are used.
    rank, n_ranks
        The part of each minibatch for this process. A last minibatch with fewer cells than processes is merged into the
        previous one.
    """

    rows: _Rows
    batch_size: int
    buffer: int = 2**10
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
        """Return the sampler of one of several processes."""
        return replace(self, rank=rank, n_ranks=n_ranks)

    def chunks(self, epoch: int, first: int = 0) -> Iterator[Chunk]:  # noqa: ARG002 - every epoch is the same
        """Yield the rows, several minibatches per chunk."""
        bounds = self._bounds()
        per_chunk = max(1, self.buffer // self.batch_size)
        for start in range(first, len(bounds) - 1, per_chunk):
            yield _rank_part(self.rows, np.array(bounds[start : start + per_chunk + 1]), self.rank, self.n_ranks)

    def _bounds(self) -> list[int]:
        return _split(self.n_cells, self.batch_size, self.n_ranks)


@dataclass(frozen=True)
class Shuffled:
    """Every row once, in an order that depends on the seed and the epoch alone.

    Rows are split into blocks of contiguous rows, each of which one read fetches. A buffer gets blocks from all of the
    data: with B buffers, one random block of every B consecutive blocks. Its rows are then shuffled. So minibatches are
    as mixed as after a full shuffle, even if the data are sorted by label, and data that fit into one buffer are
    shuffled fully. The order does not depend on where the data are stored.

    A last minibatch with one cell, on which batch norm cannot train, or with fewer cells than processes, is merged into
    the previous one.

    Parameters
    ----------
    rows
        Row numbers.
    batch_size
        Cells in one minibatch, over all ranks.
    seed
        Seed of the order.
    block
        Rows in a block.
    buffer
        Approximate number of rows in a buffer.
    weights
        Relative frequency of each row. An epoch keeps its number of cells, but rows may occur repeatedly or not at all:
        each as often as its share of the weights, rounded up or down.
    n_cells_per_epoch
        Cells in one epoch, if not all.
    rank, n_ranks
        The part of each minibatch for this process. All parts together are the minibatch of a single process.
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
        """Return the sampler of one of several processes."""
        return replace(self, rank=rank, n_ranks=n_ranks)

    def chunks(self, epoch: int, first: int = 0) -> Iterator[Chunk]:
        """Yield the rows of one epoch from minibatch ``first``, one buffer per chunk."""
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
                yield _rank_part(waiting, inner[skipped:], self.rank, self.n_ranks)
            waiting, at, number = waiting[inner[-1] :], int(ends[-1]), number + len(ends)
            if at == self.n_cells:
                return

    def _buffers(self, epoch: int) -> Iterator[_Rows]:
        """Yield the rows of each buffer, shuffled."""
        rng = np.random.default_rng([self.seed, epoch])
        rows = self.rows if self.weights is None else _sample_by_weight(self.rows, self.weights, rng)
        n_blocks = -(-len(rows) // self.block)
        n_buffers = max(1, -(-len(rows) // self.buffer))
        buffer_of_block = _assign_buffers(n_blocks, n_buffers, rng)
        offsets = np.arange(self.block)
        for number in range(n_buffers):
            blocks = np.flatnonzero(buffer_of_block == number)
            index = (blocks[:, None] * self.block + offsets).reshape(-1)
            yield rng.permutation(rows[index[index < len(rows)]])

    def _bounds(self) -> list[int]:
        return _split(self.n_cells, self.batch_size, max(2, self.n_ranks))


def _rank_part(rows: _Rows, bounds: NDArray[np.int64], rank: int, n_ranks: int) -> Chunk:
    """Return one process's part of each minibatch."""
    if n_ranks == 1:
        return Chunk(rows[bounds[0] : bounds[-1]], tuple((bounds - bounds[0]).tolist()))
    sizes = np.diff(bounds)
    start, stop = (bounds[:-1] + sizes * each // n_ranks for each in (rank, rank + 1))
    parts = [rows[a:b] for a, b in zip(start, stop, strict=True)]
    return Chunk(np.concatenate(parts), tuple(np.concatenate([[0], np.cumsum(stop - start)]).tolist()))


def _sample_by_weight(rows: _Rows, weights: NDArray[np.float64], rng: np.random.Generator) -> _Rows:
    """Return ``len(rows)`` rows, each in proportion to its weight, by systematic sampling (evenly spaced quantiles)."""
    ends = np.cumsum(weights, dtype=np.float64)
    points = (np.arange(len(rows)) + rng.random()) * (ends[-1] / len(rows))
    index = np.minimum(np.searchsorted(ends, points, side="right"), len(rows) - 1)
    return np.asarray(rows[index])


def _assign_buffers(n_blocks: int, n_buffers: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the buffer of each block: of every ``n_buffers`` consecutive blocks, each buffer gets one."""
    n_rounds = -(-n_blocks // n_buffers)
    buffers = rng.permuted(np.tile(np.arange(n_buffers), (n_rounds, 1)), axis=1)
    return np.asarray(buffers.reshape(-1)[:n_blocks], dtype=np.int64)


def balanced_weights(labels: ArrayLike) -> NDArray[np.float64]:
    """Return a weight per cell with which every label is sampled equally often."""
    _, codes, counts = np.unique(np.asarray(labels).astype(str), return_inverse=True, return_counts=True)
    return 1 / counts[codes].astype(np.float64)
