"""Pairs: every row at least once, beside another of its group, in minibatches of as many groups as can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.data.pair_sampler import Pairs

GROUPS = st.lists(st.integers(-1, 6), min_size=1, max_size=60).map(lambda groups: np.array(groups, dtype=np.int64))
SIZES = st.integers(2, 20)
EPOCHS = st.integers(0, 3)


def minibatches(sampler, epoch: int = 0, first: int = 0) -> list[list[list[int]]]:
    """Return the pairs of each minibatch."""
    return [
        chunk.rows[start:stop].reshape(-1, 2).tolist()
        for chunk in sampler.chunks(epoch, first)
        for start, stop in zip(chunk.bounds, chunk.bounds[1:], strict=False)
    ]


def pairs_of(sampler, epoch: int = 0) -> list[list[int]]:
    return [pair for minibatch in minibatches(sampler, epoch) for pair in minibatch]


@given(GROUPS, SIZES, EPOCHS, st.data())
def test_every_row_comes_once_and_one_of_an_odd_group_twice(group_n, batch_size, epoch, data):
    rows = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=len(group_n), max_size=len(group_n))))
    found = pairs_of(Pairs(rows, group_n, batch_size), epoch)
    times = np.bincount(np.array(found, dtype=np.int64).ravel(), minlength=len(group_n))
    assert set(np.flatnonzero(times)) == set(rows)
    assert (times <= 2).all()
    for group in set(group_n[rows]) - {-1}:
        size = (group_n[rows] == group).sum()
        assert times[rows][group_n[rows] == group].sum() == size + size % 2


@given(GROUPS, SIZES, EPOCHS)
def test_a_pair_shares_its_group_and_only_a_row_alone_meets_itself(group_n, batch_size, epoch):
    for a, b in pairs_of(Pairs(np.arange(len(group_n)), group_n, batch_size), epoch):
        assert group_n[a] == group_n[b]
        is_alone = group_n[a] < 0 or (group_n == group_n[a]).sum() == 1
        assert (a == b) == is_alone


@given(GROUPS, SIZES, EPOCHS)
def test_the_pairs_of_a_group_are_spread_over_all_minibatches(group_n, batch_size, epoch):
    sampler = Pairs(np.arange(len(group_n)), group_n, batch_size)
    parts = minibatches(sampler, epoch)
    assert len(parts) == sampler.n_minibatches
    assert sum(2 * len(part) for part in parts) == sampler.n_cells
    sizes = [len(part) for part in parts]
    assert max(sizes) <= batch_size // 2
    assert max(sizes) - min(sizes) <= 1
    for group in set(group_n.tolist()) - {-1}:
        times = [sum(group_n[a] == group for a, _ in part) for part in parts]
        assert max(times) - min(times) <= 1, "as many different groups as can be"


@given(GROUPS, SIZES, EPOCHS, st.integers(0, 40), st.integers(2, 50))
def test_an_epoch_can_be_entered_at_any_minibatch_whatever_is_read_at_once(group_n, batch_size, epoch, first, buffer):
    rows = np.arange(len(group_n))
    whole = minibatches(Pairs(rows, group_n, batch_size), epoch)
    assert minibatches(Pairs(rows, group_n, batch_size, buffer=buffer), epoch, first) == whole[first:]


@given(GROUPS, st.integers(4, 20), st.integers(2, 4))
def test_the_parts_of_all_ranks_are_the_minibatches_of_one_process(group_n, batch_size, n_ranks):
    alone = Pairs(np.arange(len(group_n)), group_n, batch_size, seed=3)
    ranks = [minibatches(alone.for_rank(rank, n_ranks), epoch=1) for rank in range(n_ranks)]
    together = [[pair for part in parts for pair in part] for parts in zip(*ranks, strict=True)]
    assert together == minibatches(alone, epoch=1)


def test_every_epoch_and_every_seed_pairs_anew():
    group_n = np.repeat(np.arange(5), 8)
    rows = np.arange(40)
    found = {
        str(sorted(map(sorted, pairs_of(Pairs(rows, group_n, 8, seed), e)))) for seed in range(3) for e in range(3)
    }
    assert len(found) == 9
    assert pairs_of(Pairs(rows, group_n, 8, 1), 2) == pairs_of(Pairs(rows, group_n, 8, 1), 2)


def test_partners_are_drawn_evenly():
    group_n = np.zeros(4, dtype=np.int64)
    partner = [
        next(b if a == 0 else a for a, b in pairs_of(Pairs(np.arange(4), group_n, 4), epoch) if 0 in (a, b))
        for epoch in range(300)
    ]
    assert np.bincount(partner, minlength=4)[1:].min() > 70


@pytest.mark.parametrize("rows", [np.arange(0), np.array([2])])
def test_few_rows_are_no_trouble(rows):
    sampler = Pairs(rows, np.zeros(3, dtype=np.int64), 8)
    assert pairs_of(sampler) == [[2, 2]] * len(rows)
    assert sampler.n_cells == 2 * len(rows)


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 1)), min_size=1, max_size=40), st.integers(0, 9))
def test_with_views_every_row_of_a_group_that_has_both_is_in_a_pair_of_both(rows, epoch):
    group_n, view_n = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    pairs = Pairs(np.arange(len(rows)), group_n, 6, seed=1, view_n=view_n)
    chunks = list(pairs.chunks(epoch))
    drawn = np.concatenate([chunk.rows for chunk in chunks]).reshape(-1, 2) if chunks else np.empty((0, 2), dtype=int)
    assert 2 * len(drawn) == pairs.n_cells
    assert (group_n[drawn[:, 0]] == group_n[drawn[:, 1]]).all()
    assert (view_n[drawn] == [0, 1]).all()
    both = {g for g in group_n[group_n >= 0] if {0, 1} <= set(view_n[group_n == g])}
    assert set(drawn.ravel()) == {n for n, (g, v) in enumerate(rows) if g in both and v >= 0}
