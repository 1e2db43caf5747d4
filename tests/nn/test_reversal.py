"""Gradient reversal: the value passes, the gradient turns round."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from genevae.nn.reversal import reverse_gradient


@given(strength=st.floats(0, 100), seed=st.integers(0, 99))
def test_the_value_passes_and_the_gradient_is_turned_round(strength, seed):
    x = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    y = reverse_gradient(x, strength)
    assert torch.equal(y, x)
    y.sin().sum().backward()
    torch.testing.assert_close(x.grad, -strength * x.detach().cos())


def test_strength_zero_passes_nothing_back():
    x = torch.ones(3, requires_grad=True)
    reverse_gradient(x, 0.0).square().sum().backward()
    assert torch.equal(x.grad, torch.zeros(3))


def test_two_reversals_are_the_product_of_their_strengths():
    x = torch.ones(3, requires_grad=True)
    reverse_gradient(reverse_gradient(x, 2.0), 3.0).sum().backward()
    assert torch.equal(x.grad, torch.full((3,), 6.0))


def test_what_comes_after_learns_as_without_it():
    layer = torch.nn.Linear(2, 1)
    x = torch.randn(5, 2, requires_grad=True)
    layer(reverse_gradient(x, 7.0)).square().sum().backward()
    turned = layer.weight.grad.clone()
    layer.weight.grad = None
    layer(x.detach()).square().sum().backward()
    assert torch.equal(turned, layer.weight.grad)
