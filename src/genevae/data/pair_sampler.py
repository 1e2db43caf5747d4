"""Minibatches of pairs: two rows that share a group, such as two profiles of one donor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from genevae.data.sampler import BUFFER, Chunk

__all__ = ["Pairs"]

_Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Every row at least once, beside another of its group, in an order that the seed and the epoch alone decide.

    Rows 2i and 2i + 1 of a minibatch are a pair. The rows of a group are paired at random, anew in each epoch; of an
    odd number, one comes twice. A row that is alone in its group, or has none, is paired with itself: only what
    training hides from the model, its dropout and its draws then tell the two views apart.

    The pairs of a group are dealt to as many minibatches as there are, one after the other, so that minibatches hold as
    many groups as they can: none holds two pairs of a group as long as another holds none.

    Partners may lie anywhere in the data, so rows are read from all over them.

    Parameters
    ----------
    rows
        Row numbers.
    group_n
        The group of every row of the data, those that are not in ``rows`` too; below zero where a row has none.
    batch_size
        Cells in one minibatch at most, of all ranks together: half as many pairs.
    seed
        Of the order.
    buffer
        Rows that are read at once, about.
    rank, n_ranks
        Which part of each minibatch's pairs is this process's: together they are the minibatch of a single process.
    """

    rows: _Rows
    group_n: _Rows = field(repr=False)
    batch_size: int
    seed: int = 0
    buffer: int = BUFFER
    rank: int = 0
    n_ranks: int = 1

    @cached_property
    def _label_n(self) -> _Rows:
        """Number the groups of the rows; a row without a group is one by itself."""
        group_n = self.group_n[self.rows]
        beyond = group_n.max(initial=-1) + 1 + np.arange(len(group_n))
        return np.unique(np.where(group_n < 0, beyond, group_n), return_inverse=True)[1].astype(np.int64)

    @cached_property
    def _n_pairs(self) -> int:
        return int(((np.bincount(self._label_n) + 1) // 2).sum())

    @property
    def n_cells(self) -> int:
        """Cells in one epoch: two for each pair."""
        return 2 * self._n_pairs

    @property
    def n_minibatches(self) -> int:
        """Minibatches in one epoch; they differ by one pair at most."""
        return -(-self._n_pairs // max(1, self.batch_size // 2))

    def for_rank(self, rank: int, n_ranks: int) -> Self:
        """Return the sampler of one process among several."""
        return replace(self, rank=rank, n_ranks=n_ranks)

    def chunks(self, epoch: int, first: int = 0) -> Iterator[Chunk]:
        """Yield the rows of one epoch, some minibatches a chunk, from a minibatch on."""
        rng = np.random.default_rng([self.seed, epoch])
        pair_b2, n = self._paired(rng), self.n_minibatches
        turn = rng.permutation(n)
        at_once = max(1, self.buffer // self.batch_size)
        for start in range(first, n, at_once):
            minibatches = [self._own(pair_b2[number::n]) for number in turn[start : start + at_once]]
            bounds = np.cumsum([0, *(2 * len(pairs) for pairs in minibatches)])
            yield Chunk(np.concatenate(minibatches).reshape(-1), tuple(bounds.tolist()))

    def _paired(self, rng: np.random.Generator) -> _Rows:
        """Return the rows of every pair, group by group, the groups and their rows shuffled."""
        label_n = rng.permutation(int(self._label_n.max(initial=-1)) + 1)[self._label_n]
        shuffled = rng.permutation(len(label_n))
        order = shuffled[np.argsort(label_n[shuffled], kind="stable")]
        sizes = np.bincount(label_n)
        ends, is_odd = np.cumsum(sizes), sizes % 2 == 1
        order = np.insert(order, ends[is_odd], order[(ends - sizes)[is_odd]])
        return np.asarray(self.rows[order].reshape(-1, 2))

    def _own(self, pairs: _Rows) -> _Rows:
        """Take this process's part of the pairs of a minibatch."""
        start, stop = (len(pairs) * rank // self.n_ranks for rank in (self.rank, self.rank + 1))
        return pairs[start:stop]
