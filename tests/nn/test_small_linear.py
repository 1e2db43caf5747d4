"""Small products in one thread have the values and gradients of torch's layer, and leave the number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from genevae.nn.linear import SMALL, Linear


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_out", [5, 2 * SMALL // (64 * 32)], ids=["small", "large"])
def test_values_and_gradients_are_those_of_torch(bias, n_out):
    torch.manual_seed(0)
    ours, plain = Linear(32, n_out, bias=bias), torch.nn.Linear(32, n_out, bias=bias)
    plain.load_state_dict(ours.state_dict())
    x_nk, weight_nh = torch.randn(64, 32), torch.randn(64, n_out)
    found = []
    for layer in (ours, plain):
        x = x_nk.clone().requires_grad_()
        out = layer(x)
        (out * weight_nh).sum().backward()
        found.append([out, x.grad, *(p.grad for p in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.get_num_threads() == 2
    assert (type(ours(x_nk).grad_fn).__name__ == "_SmallLinearBackward") == (n_out == 5)


def test_only_what_needs_a_gradient_gets_one():
    layer = Linear(3, 2)
    layer.bias.requires_grad_(False)
    x = torch.randn(4, 3)
    layer(x).sum().backward()
    assert layer.bias.grad is None
    torch.testing.assert_close(layer.weight.grad, x.sum(0).expand(2, 3))


def test_evaluation_half_precision_and_other_shapes_are_left_to_torch():
    layer, x = Linear(3, 2), torch.randn(4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer(x.expand(5, 4, 3)).shape == (5, 4, 2)
    assert "SmallLinear" not in type(layer.eval()(x).grad_fn).__name__


def test_an_error_restores_the_number_of_threads():
    with pytest.raises(RuntimeError):
        Linear(3, 2)(torch.randn(4, 5))
    assert torch.get_num_threads() == 2
