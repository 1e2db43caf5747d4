"""The first layer: sparse rows as dense ones."""

from __future__ import annotations

import pytest
import torch

from genevae.cells import ExpressionRows
from genevae.nn.linear import RowsLinear, product


def output_and_gradients(layer: RowsLinear, rows: ExpressionRows) -> list[torch.Tensor]:
    layer.zero_grad()
    h = layer(rows)
    (h * torch.linspace(-1, 2, h.numel(), dtype=h.dtype).view(h.shape)).sum().backward()
    return [h.detach(), layer.weight_gh.grad.clone(), layer.bias_h.grad.clone()]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_sparse_rows_give_the_value_and_the_gradients_of_dense_rows(make_cells, dtype, tolerance):
    rows = make_cells(9, 6).x.to("cpu", dtype)
    layer = RowsLinear(6, 4).to(dtype)
    dense, stored = (output_and_gradients(layer, each) for each in (ExpressionRows.from_dense(rows.dense()), rows))
    for one, other in zip(dense, stored, strict=True):
        torch.testing.assert_close(other, one, rtol=tolerance, atol=tolerance)


def test_it_is_torchs_linear_layer(make_cells):
    rows, layer, oracle = make_cells(9, 6).x, RowsLinear(6, 4), torch.nn.Linear(6, 4)
    oracle.load_state_dict({"weight": layer.weight_gh.T, "bias": layer.bias_h})
    torch.testing.assert_close(layer(rows), oracle(rows.dense()))


def test_gradcheck_on_sparse_rows(make_cells):
    rows, layer = make_cells(5, 4).x.to("cpu", torch.float64), RowsLinear(4, 3).double()
    assert torch.autograd.gradcheck(
        lambda w, b: torch.func.functional_call(layer, {"weight_gh": w, "bias_h": b}, (rows,)),
        (layer.weight_gh, layer.bias_h),
    )


def test_the_gradient_is_that_of_the_dense_product_for_any_number_of_threads(as_csr):
    x = torch.poisson(torch.full((37, 50), 0.3), generator=torch.Generator().manual_seed(0))
    x[5], x[:, 7] = 0, 0
    gradients = []
    before = torch.get_num_threads()
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            weight_gh = torch.ones(50, 6, requires_grad=True)
            upstream = torch.randn(37, 6, generator=torch.Generator().manual_seed(1))
            product(as_csr(x), weight_gh).backward(upstream)
            gradients.append(weight_gh.grad)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*gradients)
    torch.testing.assert_close(gradients[0].double(), x.double().T @ upstream.double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [0, 3])
def test_rows_without_entries_give_the_bias(as_csr, n):
    layer = RowsLinear(5, 2)
    h = layer(as_csr(torch.zeros(n, 5)))
    torch.testing.assert_close(h, layer.bias_h.expand(n, 2))
    h.sum().backward()
    assert (layer.weight_gh.grad == 0).all()


def test_initial_weights_are_those_of_torchs_linear_layer():
    torch.manual_seed(0)
    layer = RowsLinear(400, 50)
    assert layer.weight_gh.abs().max() <= 1 / 20
    assert layer.weight_gh.std().item() == pytest.approx(1 / 20 / 3**0.5, rel=0.05)
