"""A shard of a minibatch gets the numbers that belong to it; training/test_world.py shows that processes agree."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genevae.cells import Shard
from genevae.nn import sharding
from genevae.nn.norm import BatchNorm, Dropout
from genevae.nn.sharding import all_mean, all_rows, draw, n_of_first, shard_rows

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)


def of_every_shard(sizes, make):
    """Call a function once as each of the processes, with random numbers in the same state."""
    found = []
    for rank in range(len(sizes)):
        torch.manual_seed(7)
        found.append(make(Shard(rank, sizes)))
    return found


@given(SIZES, st.integers(1, 3), st.sampled_from([torch.rand, torch.randn]))
def test_the_draws_of_all_shards_are_those_of_one_process(sizes, n_particles, make):
    torch.manual_seed(7)
    whole = make((n_particles, sum(sizes), 5))
    shards = of_every_shard(sizes, lambda shard: draw(make, (n_particles, sizes[shard.rank], 5), shard, axis=1))
    assert torch.equal(torch.cat(shards, 1), whole)


@given(SIZES, st.integers(1, 3))
def test_particles_times_cells_are_drawn_particle_by_particle(sizes, n_particles):
    torch.manual_seed(7)
    whole = torch.rand(n_particles * sum(sizes), 2).unflatten(0, (n_particles, -1))
    shards = of_every_shard(sizes, lambda shard: draw(torch.rand, (n_particles * sizes[shard.rank], 2), shard))
    assert torch.equal(torch.cat([each.unflatten(0, (n_particles, -1)) for each in shards], 1), whole)


@given(SIZES, st.sampled_from([0.0, 0.1, 0.5]))
def test_dropout_drops_the_same_of_all_shards_as_of_the_whole(sizes, p):
    x = torch.randn(sum(sizes), 6, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(7)
    whole = nn.Dropout(p)(x)
    shards = of_every_shard(sizes, lambda shard: Dropout(p)(x.split(sizes)[shard.rank], shard))
    assert torch.equal(torch.cat(shards), whole)


@given(SIZES, st.integers(0, 40))
def test_rows_and_shares_add_up_to_the_whole(sizes, first):
    n = sum(sizes)
    rows = of_every_shard(sizes, lambda shard: shard_rows(torch.arange(n), shard))
    assert torch.equal(torch.cat(rows), torch.arange(n))
    pairs = tuple(2 * size for size in sizes)
    rows_of_pairs = of_every_shard(pairs, lambda shard: shard_rows(torch.arange(n), shard))
    assert torch.equal(torch.cat(rows_of_pairs), torch.arange(n))
    assert sum(of_every_shard(sizes, lambda shard: shard.share)) == pytest.approx(1)
    counts = of_every_shard(sizes, lambda shard: min(n_of_first(first, shard), sizes[shard.rank]))
    assert sum(counts) == min(first, n)


@pytest.mark.parametrize(("ours", "torchs"), [(BatchNorm(4), nn.BatchNorm1d(4)), (Dropout(0.4), nn.Dropout(0.4))])
def test_one_process_computes_the_same_bits_as_torch(ours, torchs):
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    found = []
    for layer in (ours, torchs):
        torch.manual_seed(3)
        found.append(layer(x))
        found[-1].add_(layer.eval()(x))
    assert torch.equal(*found)
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    assert all(torch.equal(ours.state_dict()[name], each) for name, each in torchs.state_dict().items())


def test_a_slice_of_a_minibatch_is_a_minibatch_of_its_own(make_cells):
    cells = make_cells(9).with_shard(Shard(1, (4, 9)))
    assert (cells.n_total, cells.shard.rows) == (13, slice(4, 13))
    assert cells[:3].shard is None
    assert cells.to("cpu").shard == cells.shard


def test_the_rows_of_all_processes_are_joined_without_padding(monkeypatch):
    parts = [torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3) + 100]

    def gathered(x):
        assert x.shape == (4, 3), "all processes send as many rows"
        return torch.stack([x, parts[1]])

    monkeypatch.setattr(sharding, "all_gather", gathered)
    torch.testing.assert_close(all_rows(parts[0], Shard(0, (2, 4))), torch.cat(parts))
    assert all_rows(parts[0], None) is parts[0]


def test_the_mean_of_all_cells_weighs_processes_by_their_cells(monkeypatch):
    monkeypatch.setattr(sharding, "_reduced", lambda x: x + 0.75 * 10.0)  # the other process has 3/4 of the cells
    assert all_mean(torch.tensor(2.0), Shard(0, (1, 3))) == 0.25 * 2 + 0.75 * 10
    assert all_mean(torch.tensor(2.0), None) == 2
