"""Batch norm over several processes is that of torch over all cells; compiled, it is the plain one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genevae.cells import Shard
from genevae.nn import norm
from genevae.nn.mlp import LayerStyle


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


@pytest.mark.parametrize("share", [0.0, 0.25])
@pytest.mark.parametrize("n", [2, 31])
def test_the_compiled_layer_is_the_plain_one_with_the_same_random_numbers(n, share):
    results = []
    for dtype in (torch.float32, torch.float64):
        layer, rng = LayerStyle(dropout=share).after(7).to(dtype), np.random.default_rng(0)
        x_nh = torch.tensor(rng.normal(3, 5, (n, 7)), dtype=dtype, requires_grad=True)
        with torch.no_grad():
            for weights in (layer[0].weight, layer[0].bias):
                weights.copy_(torch.tensor(rng.normal(size=7)))
        torch.manual_seed(4)
        out_nh = layer(x_nh)
        (out_nh * torch.tensor(rng.normal(size=(n, 7)), dtype=dtype)).sum().backward()
        statistics = (layer[0].running_mean, layer[0].running_var, layer[0].num_batches_tracked)
        results.append([out_nh.detach(), x_nh.grad, layer[0].weight.grad, layer[0].bias.grad, *statistics])
        assert (type(out_nh.grad_fn).__name__ == "_NormReLUBackward") == (dtype == torch.float32)
    for compiled, plain in zip(*results, strict=True):
        torch.testing.assert_close(compiled.double(), plain.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["evaluation", "no momentum", "one cell", "another activation"])
def test_other_layers_stay_plain(change):
    layer = LayerStyle(activation=torch.nn.ELU if change == "another activation" else torch.nn.ReLU).after(3)
    layer.train(change != "evaluation")
    layer[0].momentum = None if change == "no momentum" else 0.1
    if change == "one cell":
        with pytest.raises(ValueError, match="more than 1 value"):
            layer(torch.ones(1, 3))
    else:
        assert "_NormReLU" not in type(layer(torch.randn(4, 3)).grad_fn).__name__


def test_what_is_not_a_number_stays_so():
    x_nh = torch.randn(6, 3)
    x_nh[2, 1] = torch.nan
    out_nh = LayerStyle(dropout=0.0).after(3)(x_nh.requires_grad_())
    assert torch.equal(out_nh.isnan().any(0), torch.tensor([False, True, False]))
