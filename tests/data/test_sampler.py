"""Samplers: every row once, in an order that the seed and the epoch decide."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.data.sampler import InOrder, Shuffled, balanced_weights

ROWS = st.lists(st.integers(0, 10_000), unique=True, max_size=150).map(
    lambda rows: np.array(sorted(rows), dtype=np.int64)
)
SIZES = st.integers(2, 40)
LAYOUTS = st.tuples(st.integers(1, 9), st.integers(1, 200)).map(lambda each: {"block": each[0], "buffer": each[1]})
EPOCHS = st.integers(0, 3)


def minibatches(sampler, epoch: int = 0, first: int = 0) -> list[np.ndarray]:
    return [
        chunk.rows[start:stop]
        for chunk in sampler.chunks(epoch, first)
        for start, stop in zip(chunk.bounds, chunk.bounds[1:], strict=False)
    ]


def order(sampler, epoch: int = 0) -> list[int]:
    return [int(row) for chunk in sampler.chunks(epoch) for row in chunk.rows]


@given(ROWS, SIZES, EPOCHS, LAYOUTS, st.integers(0, 2**31))
def test_shuffled_gives_every_row_once_per_epoch(rows, batch_size, epoch, layout, seed):
    sampler = Shuffled(rows, batch_size, seed, **layout)
    assert sorted(order(sampler, epoch)) == sorted(rows.tolist())
    assert sampler.n_cells == len(rows)


@given(ROWS, st.integers(1, 40), EPOCHS, st.integers(1, 100))
def test_in_order_gives_every_row_once_and_in_order(rows, batch_size, epoch, buffer):
    sampler = InOrder(rows, batch_size, buffer)
    assert order(sampler, epoch) == rows.tolist()
    assert len(minibatches(sampler, epoch)) == sampler.n_minibatches
    assert all(len(chunk.rows) <= max(buffer, batch_size) for chunk in sampler.chunks(epoch))


@given(ROWS, SIZES, LAYOUTS, st.integers(0, 9), EPOCHS)
def test_the_order_depends_on_seed_and_epoch_alone(rows, batch_size, layout, seed, epoch):
    one = Shuffled(rows, batch_size, seed, **layout)
    assert order(one, epoch) == order(one, epoch) == order(Shuffled(rows, 2 * batch_size, seed, **layout), epoch)


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    rows = np.arange(100)
    orders = [tuple(order(Shuffled(rows, 10, seed), epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16


@given(ROWS.filter(lambda rows: len(rows) > 1), SIZES, LAYOUTS)
def test_no_minibatch_has_one_cell_and_none_is_much_larger_than_asked(rows, batch_size, layout):
    sampler = Shuffled(rows, batch_size, 0, **layout)
    sizes = [len(rows) for rows in minibatches(sampler)]
    assert min(sizes) >= 2
    assert set(sizes[:-1]) <= {batch_size}
    assert max(sizes) <= batch_size + 1
    assert len(sizes) == sampler.n_minibatches


@given(ROWS, SIZES, LAYOUTS, EPOCHS, st.integers(0, 20))
def test_an_epoch_can_be_entered_at_any_minibatch(rows, batch_size, layout, epoch, first):
    for sampler in (Shuffled(rows, batch_size, 1, **layout), InOrder(rows, batch_size, layout["buffer"])):
        whole, rest = minibatches(sampler, epoch), minibatches(sampler, epoch, first)
        assert [part.tolist() for part in rest] == [part.tolist() for part in whole[first:]]


@given(ROWS, SIZES, LAYOUTS, st.integers(2, 4))
def test_the_parts_of_all_ranks_are_the_minibatches_of_one_process(rows, batch_size, layout, n_ranks):
    for alone in (Shuffled(rows, batch_size, 3, **layout), InOrder(rows, batch_size, layout["buffer"])):
        ranks = [minibatches(alone.for_rank(rank, n_ranks)) for rank in range(n_ranks)]
        together = [np.concatenate(parts).tolist() for parts in zip(*ranks, strict=True)]
        whole = [part.tolist() for part in minibatches(alone)]
        assert list(chain.from_iterable(together)) == list(chain.from_iterable(whole))
        if all(len(part) >= n_ranks for part in whole):
            assert together == whole
        sizes = [[len(part) for part in parts] for parts in zip(*ranks, strict=True)]
        assert all(max(size) - min(size) <= 1 for size in sizes)
        if len(rows) >= n_ranks and batch_size >= n_ranks:
            assert all(min(size) > 0 for size in sizes), "no process is left without a cell"


@given(ROWS.filter(len), SIZES, LAYOUTS, st.integers(1, 200))
def test_a_short_epoch_gives_as_many_cells_as_asked_and_none_twice(rows, batch_size, layout, n):
    sampler = Shuffled(rows, batch_size, 0, **layout, n_cells_per_epoch=n)
    found = order(sampler)
    assert len(found) == len(set(found)) == sampler.n_cells == min(n, len(rows))


@given(ROWS.filter(len), st.data(), LAYOUTS, EPOCHS)
def test_a_row_comes_as_often_as_its_weight_says(rows, data, layout, epoch):
    weights = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(rows), max_size=len(rows))), dtype=np.float64)
    if not weights.sum():
        return
    found = order(Shuffled(rows, 8, 0, **layout, weights=weights), epoch)
    expected = len(rows) * weights / weights.sum()
    times = np.array([found.count(row) for row in rows.tolist()])
    assert len(found) == len(rows)
    assert (np.abs(times - expected) < 1 + 1e-9).all()


def test_balanced_weights_draw_every_label_equally_often():
    labels = np.repeat(["common", "rare"], [900, 100])
    found = order(Shuffled(np.arange(1000), 50, 0, weights=balanced_weights(labels)))
    assert abs((labels[found] == "rare").mean() - 0.5) < 0.01


def test_minibatches_of_sorted_data_are_as_mixed_as_after_a_full_shuffle():
    n, n_labels = 200_000, 20
    labels = np.repeat(np.arange(n_labels), n // n_labels)

    def entropy(rows: np.ndarray) -> float:
        """Mean entropy of the labels of a minibatch, in nats."""
        counts = np.stack([(labels[rows.reshape(-1, 125)] == label).sum(1) for label in range(n_labels)]) / 125
        return float(-(counts * np.log(np.where(counts > 0, counts, 1))).sum(0).mean())

    sampler = Shuffled(np.arange(n), 125, 0)
    assert max(len(chunk.rows) for chunk in sampler.chunks(0)) < n / 10, "the data must not fit into one buffer"
    found = entropy(np.array(order(sampler)))
    full = entropy(np.random.default_rng(0).permutation(n))
    assert abs(found - full) < 0.02
    assert entropy(np.arange(n)) < 0.1


@pytest.mark.parametrize("sampler", [InOrder(np.arange(0), 4), Shuffled(np.arange(0), 4)])
def test_no_rows_give_no_minibatches(sampler):
    assert minibatches(sampler) == []
    assert sampler.n_minibatches == sampler.n_cells == 0


def test_a_permutation_is_uniform_over_rows():
    first = [order(Shuffled(np.arange(5), 5, seed))[0] for seed in range(500)]
    assert np.bincount(first).min() > 60
