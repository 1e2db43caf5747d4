"""Genes as pixels: a bijection, and padding that nothing depends on."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genevae.cells import Condition
from genevae.nn.image import Convolutions, Layout, TransposedConvolutions, curve, smallest_side
from genevae.nn.one_hot import OneHot


@given(st.integers(1, 500))
def test_the_smallest_image_holds_the_genes_and_the_next_smaller_does_not(n_genes):
    side = smallest_side(n_genes)
    assert side**2 >= n_genes > (side - 1) ** 2


@given(st.integers(1, 40))
def test_the_curve_meets_every_pixel_once(side):
    assert sorted(curve(side)) == list(range(side**2))


@pytest.mark.parametrize("side", [2, 4, 8, 32])
def test_on_the_curve_each_pixel_touches_the_next(side):
    row, column = np.divmod(curve(side), side)
    assert (np.abs(np.diff(row)) + np.abs(np.diff(column)) == 1).all()


def test_also_within_other_sides_the_curve_seldom_leaps():
    row, column = np.divmod(curve(27), 27)
    steps = np.abs(np.diff(row)) + np.abs(np.diff(column))
    assert (steps == 1).mean() > 0.95


@given(st.integers(1, 60), st.integers(0, 3))
def test_a_layout_is_a_bijection_of_genes(n_genes, more):
    side = smallest_side(n_genes) + more
    layout = Layout(torch.randperm(side**2)[:n_genes], side)
    x_ng = torch.randn(3, n_genes)
    image = layout.to_image(x_ng)
    assert torch.equal(layout.from_image(image), x_ng)
    assert image.count_nonzero() == x_ng.count_nonzero()


def test_what_lies_in_the_padding_does_not_come_back():
    layout = Layout(torch.tensor([3, 0]), 2)
    image = torch.tensor([[[[1.0, 9.0], [9.0, 2.0]]]])
    assert layout.from_image(image).tolist() == [[2.0, 1.0]]


@pytest.mark.parametrize("side", range(1, 14))
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_transposed_convolutions_mirror_convolutions_of_every_side(side, kernel):
    forth = Convolutions(side, 2, (3, 5), kernel, nn.ReLU)
    back = TransposedConvolutions(side, (3, 5), kernel, nn.ReLU)
    assert back.n_in == forth.n_out
    assert forth(torch.randn(2, 2, side, side)).shape == (2, forth.n_out)
    assert back(torch.randn(2, back.n_in)).shape == (2, 1, side, side)


def test_a_transposed_convolution_is_the_gradient_of_a_convolution():
    forth = nn.Conv2d(1, 4, 3, 2, 1, bias=False)
    back = TransposedConvolutions(9, (4,), 3, nn.Identity)
    first = back.layers[0]
    assert first.weight.shape == (4, 2, 3, 3)
    image, small = torch.randn(1, 1, 9, 9, requires_grad=True), torch.randn(1, 4, 5, 5)
    (forth(image) * small).sum().backward()
    with torch.no_grad():
        first.weight[:, :1], first.bias[:] = forth.weight, 0
        torch.testing.assert_close(first(small)[:, :1], image.grad)


WRITES_BEYOND_ITS_MEMORY = """
import torch
from torch import nn
from genevae.nn.image import TransposedConvolutions

torch.set_num_threads(2)
torch.manual_seed(0)
for _ in range(3):
    for side in (1, 2, 3, 5, 9, 12, 13):
        for n in (1, 3, 8, 11):
            back = TransposedConvolutions(side, (16, 5), 1, nn.ReLU)
            back(torch.randn(n, back.n_in, requires_grad=True)).square().sum().backward()
print("fine")
"""


def test_gradients_with_a_kernel_of_one_stay_within_their_memory():
    # with channels last, PyTorch 2.13 does not, and the C library ends the process sooner or later
    done = subprocess.run([sys.executable, "-c", WRITES_BEYOND_ITS_MEMORY], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr[-500:]


def test_one_hot_lights_the_unit_of_the_category_and_passes_numbers_on():
    condition = Condition(torch.ones(3, 1), {"type": torch.tensor([0, 2, 1])}, {"dose": torch.tensor([0.5, 0.0, 2.0])})
    units = OneHot({"type": 3}, ["dose"])(condition)
    assert units.tolist() == [[1, 0, 0, 0.5], [0, 0, 1, 0], [0, 1, 0, 2]]
    assert OneHot({})(condition).shape == (3, 0)


def test_a_combination_lights_the_units_of_its_parts():
    condition = Condition(torch.ones(2, 1), {"drug": torch.tensor([1, 2])})
    units = OneHot({"drug": 3}, parts={"drug": ((0,), (1,), (0, 1))})(condition)
    assert units.tolist() == [[0, 1, 0], [1, 1, 0]]
