"""Samplers: every row once, in an order that the seed and the epoch decide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.data.sampler import InOrder, Shuffled

ROWS = st.lists(st.integers(0, 10_000), unique=True, max_size=150).map(lambda rows: np.array(rows, dtype=np.int64))
SIZES = st.integers(2, 40)


def minibatches(sampler, epoch: int = 0) -> list[np.ndarray]:
    return [
        chunk.rows[start:stop]
        for chunk in sampler.chunks(epoch)
        for start, stop in zip(chunk.bounds, chunk.bounds[1:], strict=False)
    ]


def order(sampler, epoch: int = 0) -> list[int]:
    return [int(row) for chunk in sampler.chunks(epoch) for row in chunk.rows]


@given(ROWS, SIZES, st.integers(0, 3), st.integers(1, 5), st.integers(0, 2**31))
def test_shuffled_gives_every_row_once_per_epoch(rows, batch_size, epoch, at_once, seed):
    sampler = Shuffled(rows, batch_size, seed, at_once)
    assert sorted(order(sampler, epoch)) == sorted(rows.tolist())
    assert sampler.n_cells == len(rows)


@given(ROWS, st.integers(1, 40), st.integers(0, 3))
def test_in_order_gives_every_row_once_and_in_order(rows, batch_size, epoch):
    sampler = InOrder(rows, batch_size)
    assert order(sampler, epoch) == rows.tolist()
    assert len(minibatches(sampler, epoch)) == sampler.n_minibatches


@given(ROWS, SIZES, st.integers(1, 5), st.integers(0, 9), st.integers(0, 9))
def test_the_order_depends_on_seed_and_epoch_alone(rows, batch_size, at_once, seed, epoch):
    one = Shuffled(rows, batch_size, seed, at_once)
    assert order(one, epoch) == order(one, epoch) == order(Shuffled(rows, 2 * batch_size, seed, 7), epoch)


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    rows = np.arange(100)
    orders = [tuple(order(Shuffled(rows, 10, seed), epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16


@given(ROWS.filter(lambda rows: len(rows) > 1), SIZES, st.integers(1, 5))
def test_no_minibatch_has_one_cell_and_none_is_much_larger_than_asked(rows, batch_size, at_once):
    sizes = [len(rows) for rows in minibatches(Shuffled(rows, batch_size, 0, at_once))]
    assert min(sizes) >= 2
    assert set(sizes[:-1]) <= {batch_size}
    assert max(sizes) <= batch_size + 1
    assert len(sizes) == Shuffled(rows, batch_size, 0, at_once).n_minibatches


@given(st.integers(2, 300), SIZES, st.integers(1, 5))
def test_a_chunk_holds_no_more_minibatches_than_asked(n, batch_size, at_once):
    for chunk in Shuffled(np.arange(n), batch_size, 0, at_once).chunks(0):
        assert 1 <= len(chunk.bounds) - 1 <= at_once
        assert chunk.bounds[0] == 0
        assert chunk.bounds[-1] == len(chunk.rows)


@pytest.mark.parametrize("sampler", [InOrder(np.arange(0), 4), Shuffled(np.arange(0), 4)])
def test_no_rows_give_no_minibatches(sampler):
    assert minibatches(sampler) == []
    assert sampler.n_minibatches == sampler.n_cells == 0


def test_a_permutation_is_uniform_over_rows():
    first = [order(Shuffled(np.arange(5), 5, seed))[0] for seed in range(500)]
    assert np.bincount(first).min() > 60
