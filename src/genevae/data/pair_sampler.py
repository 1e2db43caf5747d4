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
    """Every row at least once, next to another row of its group, in an order that depends on seed and epoch alone.

    Rows 2i and 2i + 1 of a minibatch are a pair. The rows of a group are paired at random in each epoch; one of them is
    used twice if their number is odd. A row without a partner is paired with itself: the two views then differ by
    masking, dropout and sampling only.

    The pairs of a group go to different minibatches in turn, so that every minibatch has as many groups as possible: no
    minibatch has two pairs of a group while another has none.

    Partners may be anywhere in the data, so a minibatch reads rows from all of them.

    Parameters
    ----------
    rows
        Row numbers.
    group_n
        The group of every row of the data (also of those not in ``rows``); negative for rows without a group.
    batch_size
        Maximum number of cells in a minibatch, over all ranks: twice the number of pairs.
    seed
        Seed of the order.
    buffer
        Approximate number of rows to read at once.
    view_n
        The view, 0 or 1, of every row of the data; negative for none. The first row of each pair is then of view 0 and
        the second of view 1; each row of a group that has both is in a pair, and the rows of other groups in none.
    rank, n_ranks
        The part of each minibatch for this process. All parts together are the minibatch of a single process.
    """

    rows: _Rows
    group_n: _Rows = field(repr=False)
    batch_size: int
    seed: int = 0
    buffer: int = BUFFER
    rank: int = 0
    n_ranks: int = 1
    view_n: _Rows | None = field(default=None, repr=False)

    @cached_property
    def _label_n(self) -> _Rows:
        """Number the groups of the rows. A row without a group is its own group."""
        group_n = self.group_n[self.rows]
        beyond = group_n.max(initial=-1) + 1 + np.arange(len(group_n))
        return np.unique(np.where(group_n < 0, beyond, group_n), return_inverse=True)[1].astype(np.int64)

    @cached_property
    def _views(self) -> list[tuple[_Rows, _Rows]]:
        """Return the rows of both views, for each group that has both."""
        if self.view_n is None:
            return []
        group_n, view_n = self.group_n[self.rows], self.view_n[self.rows]
        groups = [[self.rows[(group_n == g) & (view_n == v)] for v in (0, 1)] for g in np.unique(group_n[group_n >= 0])]
        return [(first, second) for first, second in groups if len(first) and len(second)]

    @cached_property
    def _n_pairs(self) -> int:
        if self.view_n is not None:
            return sum(max(len(first), len(second)) for first, second in self._views)
        return int(((np.bincount(self._label_n) + 1) // 2).sum())

    @property
    def n_cells(self) -> int:
        """Cells in one epoch: two for each pair."""
        return 2 * self._n_pairs

    @property
    def n_minibatches(self) -> int:
        """Minibatches in one epoch. Their sizes differ by at most one pair."""
        return -(-self._n_pairs // max(1, self.batch_size // 2))

    def for_rank(self, rank: int, n_ranks: int) -> Self:
        """Return the sampler of one process among several."""
        return replace(self, rank=rank, n_ranks=n_ranks)

    def chunks(self, epoch: int, first: int = 0) -> Iterator[Chunk]:
        """Yield the rows of one epoch from minibatch ``first``, several minibatches per chunk."""
        rng = np.random.default_rng([self.seed, epoch])
        pairs_p2, n = self._pair_rows(rng), self.n_minibatches
        order = rng.permutation(n)
        per_chunk = max(1, self.buffer // self.batch_size)
        for start in range(first, n, per_chunk):
            minibatches = [self._rank_part(pairs_p2[number::n]) for number in order[start : start + per_chunk]]
            bounds = np.cumsum([0, *(2 * len(pairs) for pairs in minibatches)])
            yield Chunk(np.concatenate(minibatches).reshape(-1), tuple(bounds.tolist()))

    def _pair_rows(self, rng: np.random.Generator) -> _Rows:
        """Return the rows of every pair, group by group; groups and the rows in them are shuffled."""
        if self.view_n is not None:
            pairs = [np.empty((0, 2), dtype=np.int64)]
            for at in rng.permutation(len(self._views)):
                first, second = map(rng.permutation, self._views[at])
                n = max(len(first), len(second))
                pairs.append(np.stack([np.resize(first, n), np.resize(second, n)], 1))
            return np.concatenate(pairs)
        label_n = rng.permutation(int(self._label_n.max(initial=-1)) + 1)[self._label_n]
        shuffled = rng.permutation(len(label_n))
        order = shuffled[np.argsort(label_n[shuffled], kind="stable")]
        sizes = np.bincount(label_n)
        ends, is_odd = np.cumsum(sizes), sizes % 2 == 1
        order = np.insert(order, ends[is_odd], order[(ends - sizes)[is_odd]])
        return np.asarray(self.rows[order].reshape(-1, 2))

    def _rank_part(self, pairs_p2: _Rows) -> _Rows:
        """Return this process's part of the pairs of a minibatch."""
        start, stop = (len(pairs_p2) * rank // self.n_ranks for rank in (self.rank, self.rank + 1))
        return pairs_p2[start:stop]
