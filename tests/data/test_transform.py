"""Transforms: what is applied can be undone, and zeros stay."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import StandardScaler

from genevae.cells import Cells, ExpressionRows
from genevae.data.transforms.from_json import transform_from_json
from genevae.data.transforms.transform import AsIs, LogNormalise, Standardise
from genevae.data.value_kind import Kind
from genevae.errors import DataError

TRANSFORMS = [AsIs(), LogNormalise(), LogNormalise(target=1e6)]
COUNTS = hnp.arrays(np.float64, (4, 3), elements=st.one_of(st.just(0.0), st.integers(1, 10**6), st.floats(0.001, 1.0)))


@given(COUNTS)
def test_sparse_and_dense_rows_are_transformed_alike_and_zeros_stay(as_csr, x):
    x_ng = torch.from_numpy(x)
    size_n1 = x_ng.sum(-1, keepdim=True)
    dense, stored = (
        LogNormalise().apply(rows, size_n1).dense() for rows in (ExpressionRows.from_dense(x_ng), as_csr(x_ng))
    )
    torch.testing.assert_close(stored, dense)
    assert (dense[x_ng == 0] == 0).all()


def test_log_normalise_is_scanpys_formula():
    x = torch.tensor([[1.0, 3.0], [10.0, 30.0]])
    seen = LogNormalise(1e4).apply(ExpressionRows.from_dense(x), x.sum(-1, keepdim=True)).dense()
    np.testing.assert_allclose(seen.numpy(), np.log1p([[2500.0, 7500.0], [2500.0, 7500.0]]), rtol=1e-6)


def test_a_transform_says_what_the_numbers_become():
    assert AsIs().kind(Kind.COUNTS) is Kind.COUNTS
    assert LogNormalise().kind(Kind.COUNTS) is Kind.LOG


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_a_transform_survives_json(transform):
    assert transform_from_json(json.loads(json.dumps(transform.to_json()))) == transform


def test_standardise_is_scikit_learns_scaler_and_can_be_undone(make_cells):
    cells = [make_cells(40, seed=1), make_cells(25, seed=2)]
    raw = torch.cat([each.x.dense() for each in cells])
    size_n1 = torch.cat([each.condition.size_n1 for each in cells])
    logged = LogNormalise(100.0).apply(ExpressionRows.from_dense(raw), size_n1).dense()
    fitted = Standardise(LogNormalise(100.0)).fit(cells)
    seen = torch.cat([fitted.apply(each.x, each.condition.size_n1).dense() for each in cells])
    np.testing.assert_allclose(seen.numpy(), StandardScaler().fit_transform(logged.double().numpy()), atol=1e-4)
    torch.testing.assert_close(fitted.invert(seen, size_n1), logged, rtol=1e-4, atol=1e-4)
    again = transform_from_json(json.loads(json.dumps(fitted.to_json())))
    torch.testing.assert_close(again.apply(ExpressionRows.from_dense(raw), size_n1).dense(), seen)
    assert (fitted.kind(Kind.COUNTS), fitted.output_kind(Kind.COUNTS)) == (Kind.SCALED, Kind.LOG)


def test_standardise_looks_at_measured_values_only_and_leaves_constant_genes(make_cells):
    cells = make_cells(40)
    measured = torch.ones(40, 7, dtype=torch.bool)
    measured[20:, 0] = False
    x = cells.x.dense()
    x[:, 1], x[20:, 0] = 3.0, 0.0
    fitted = Standardise(AsIs()).fit(
        [Cells(ExpressionRows.from_dense(x), cells.condition.with_measured(measured), cells.row_n)]
    )
    torch.testing.assert_close(fitted.mean_g[0], x[:20, 0].mean())
    assert fitted.scale_g[1] == 1
    assert fitted.apply(ExpressionRows.from_dense(x), torch.ones(40, 1)).dense()[:, 1].abs().max() == 0


def test_genes_that_hardly_vary_are_divided_by_a_share_of_the_median_scale(make_cells):
    """A gene that all but one of the training cells lack, and another cell has, stays within reason."""
    cells = make_cells(200, counts=False, stored=False)
    x = cells.x.dense().clone()
    x[:, 0], x[0, 0] = 0.0, 0.01
    x[:, 1] = 4.0
    training = [Cells(ExpressionRows.from_dense(x), cells.condition, cells.row_n)]
    plain, floored = (Standardise(AsIs(), floor=floor).fit(training) for floor in (0.0, 0.25))
    lower_median = np.sort(x.double().numpy()[:, [0, 2, 3, 4, 5, 6]].std(0))[2]
    torch.testing.assert_close(floored.scale_g[2:], plain.scale_g[2:])
    assert floored.scale_g[0].item() == pytest.approx(0.25 * lower_median, rel=1e-5)
    assert floored.scale_g[1] == plain.scale_g[1] == 1
    other = ExpressionRows.from_dense(torch.full((1, 7), 5.0))
    square = [fitted.apply(other, torch.ones(1, 1)).dense()[0, 0].square() for fitted in (plain, floored)]
    assert square[0] > 10_000
    assert square[1] < 600
    torch.testing.assert_close(floored.invert(floored.apply(other, torch.ones(1, 1)).dense(), torch.ones(1, 1)),
                               other.dense())  # fmt: skip


def test_an_unknown_transform_is_an_error_with_the_nearest():
    with pytest.raises(DataError, match="Did you mean 'log-normalise'"):
        transform_from_json({"name": "log-normalize"})
