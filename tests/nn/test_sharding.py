"""A part of a minibatch is given what belongs to it; that processes agree is shown in training/test_ranks.py."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genevae.nn import sharding
from genevae.nn.norm import BatchNorm, Dropout
from genevae.nn.sharding import Part, drawn, own_cells, own_of_first, share, sharing

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)


def of_every_part(sizes, make):
    """Call a function once as each of the processes, with random numbers in the same state."""
    found = []
    for rank in range(len(sizes)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sharding, "_part", Part(rank, sizes))
            torch.manual_seed(7)
            found.append(make(rank))
    return found


@given(SIZES, st.integers(1, 3), st.sampled_from([torch.rand, torch.randn]))
def test_the_draws_of_all_parts_are_those_of_one_process(sizes, n_particles, draw):
    torch.manual_seed(7)
    whole = draw((n_particles, sum(sizes), 5))
    parts = of_every_part(sizes, lambda rank: drawn(draw, (n_particles, sizes[rank], 5), axis=1))
    assert torch.equal(torch.cat(parts, 1), whole)


@given(SIZES, st.integers(1, 3))
def test_particles_above_cells_are_drawn_particle_by_particle(sizes, n_particles):
    torch.manual_seed(7)
    whole = torch.rand(n_particles * sum(sizes), 2).unflatten(0, (n_particles, -1))
    parts = of_every_part(sizes, lambda rank: drawn(torch.rand, (n_particles * sizes[rank], 2)))
    assert torch.equal(torch.cat([each.unflatten(0, (n_particles, -1)) for each in parts], 1), whole)


@given(SIZES, st.sampled_from([0.0, 0.1, 0.5]))
def test_dropout_hides_the_same_of_all_parts_as_of_the_whole(sizes, p):
    x = torch.randn(sum(sizes), 6, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(7)
    whole = nn.Dropout(p)(x)
    assert torch.equal(torch.cat(of_every_part(sizes, lambda rank: Dropout(p)(x.split(sizes)[rank]))), whole)


@given(SIZES, st.integers(0, 40))
def test_rows_and_shares_add_up_to_the_whole(sizes, first):
    n = sum(sizes)
    assert torch.equal(torch.cat(of_every_part(sizes, lambda _: own_cells(torch.arange(n)))), torch.arange(n))
    pairs = tuple(2 * size for size in sizes)
    assert torch.equal(torch.cat(of_every_part(pairs, lambda _: own_cells(torch.arange(n)))), torch.arange(n))
    assert sum(of_every_part(sizes, lambda _: share())) == pytest.approx(1)
    own = of_every_part(sizes, lambda rank: min(own_of_first(first), sizes[rank]))
    assert sum(own) == min(first, n)


@pytest.mark.parametrize(("ours", "torchs"), [(BatchNorm(4), nn.BatchNorm1d(4)), (Dropout(0.4), nn.Dropout(0.4))])
def test_one_process_computes_the_same_bits_as_torch(ours, torchs, make_cells):
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    found = []
    for layer in (ours, torchs):
        torch.manual_seed(3)
        with sharing(make_cells(9)):
            found.append(layer(x))
        found[-1].add_(layer.eval()(x))
    assert torch.equal(*found)
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    assert all(torch.equal(ours.state_dict()[name], each) for name, each in torchs.state_dict().items())
