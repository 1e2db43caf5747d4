"""Transforms: what is applied can be undone, and zeros stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from genevae.cells import Rows
from genevae.data.kind import Kind
from genevae.data.transform import AsIs, LogNormalise, transform_from_json, transform_to_json
from genevae.errors import DataError

TRANSFORMS = [AsIs(), LogNormalise(), LogNormalise(target=1e6)]
COUNTS = hnp.arrays(np.float64, (4, 3), elements=st.one_of(st.just(0.0), st.integers(1, 10**6), st.floats(0.001, 1.0)))


@given(COUNTS)
def test_sparse_and_dense_rows_are_transformed_alike_and_zeros_stay(as_csr, x):
    x_ng = torch.from_numpy(x)
    size_n1 = x_ng.sum(-1, keepdim=True)
    dense, stored = (LogNormalise().apply(rows, size_n1).dense() for rows in (Rows.from_dense(x_ng), as_csr(x_ng)))
    torch.testing.assert_close(stored, dense)
    assert (dense[x_ng == 0] == 0).all()


def test_log_normalise_is_scanpys_formula():
    x = torch.tensor([[1.0, 3.0], [10.0, 30.0]])
    seen = LogNormalise(1e4).apply(Rows.from_dense(x), x.sum(-1, keepdim=True)).dense()
    np.testing.assert_allclose(seen.numpy(), np.log1p([[2500.0, 7500.0], [2500.0, 7500.0]]), rtol=1e-6)


def test_a_transform_says_what_the_numbers_become():
    assert AsIs().kind(Kind.COUNTS) is Kind.COUNTS
    assert LogNormalise().kind(Kind.COUNTS) is Kind.LOG


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_a_transform_survives_json(transform):
    assert transform_from_json(transform_to_json(transform)) == transform


def test_an_unknown_transform_is_an_error_with_the_nearest():
    with pytest.raises(DataError, match="Did you mean 'log-normalise'"):
        transform_from_json({"name": "log-normalize"})
