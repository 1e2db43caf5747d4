"""Batch norm over several processes is that of torch over all cells."""

from __future__ import annotations

import pytest
import torch

from genevae.cells import Shard
from genevae.nn import norm


@pytest.fixture
def halves(monkeypatch):
    """Statistics of two processes, of which this one has the first cells."""
    x_nh = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
    parts = x_nh[:4], x_nh[4:]
    stats = torch.stack([torch.stack([part.mean(0), part.var(0, correction=0)]) for part in parts])
    monkeypatch.setattr(norm, "all_gather", lambda _: stats)
    return x_nh, parts, Shard(0, (4, 6))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_are_those_of_all_cells(halves, momentum) -> None:
    x_nh, parts, shard = halves
    ours, plain = norm.BatchNorm(3, momentum=momentum), torch.nn.BatchNorm1d(3, momentum=momentum)
    for layer in (ours, plain):
        torch.nn.init.constant_(layer.weight, 2.5)
        torch.nn.init.constant_(layer.bias, -1.0)
    expected = plain(x_nh)
    torch.testing.assert_close(ours(parts[0], shard), expected[:4])
    torch.testing.assert_close(ours.running_mean, plain.running_mean)
    torch.testing.assert_close(ours.running_var, plain.running_var)
