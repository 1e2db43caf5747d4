"""Rows, Condition and Cells: sparse rows obey the laws of dense ones."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from genevae.cells import Cells, Condition, ExpressionRows

SHAPES = st.tuples(st.integers(0, 6), st.integers(1, 5))
MATRICES = SHAPES.flatmap(
    lambda shape: hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0, 7.0, -3.0]))
)
ENDS = st.one_of(st.none(), st.integers(-8, 8))


def both(x_ng: np.ndarray) -> tuple[ExpressionRows, ExpressionRows]:
    """Return the same matrix as dense and as sparse rows."""
    x = sparse.csr_matrix(x_ng)
    indptr, gene = (torch.from_numpy(part.astype(np.int64)) for part in (x.indptr, x.indices))
    return ExpressionRows.from_dense(torch.from_numpy(x_ng)), ExpressionRows(
        torch.from_numpy(x.data), x_ng.shape[1], indptr, gene
    )


def same(rows: ExpressionRows, x_ng: np.ndarray) -> None:
    assert rows.n_cells == len(x_ng)
    assert rows.n_genes == x_ng.shape[1]
    np.testing.assert_array_equal(rows.dense().numpy(), x_ng)


@given(MATRICES)
def test_sparse_and_dense_rows_hold_the_same_matrix(x_ng):
    dense, stored = both(x_ng)
    assert stored.is_sparse
    assert not dense.is_sparse
    same(dense, x_ng)
    same(stored, x_ng)


@given(MATRICES)
def test_row_and_flat_place_of_every_stored_entry_are_scipys(x_ng):
    _, stored = both(x_ng)
    x = sparse.coo_matrix(sparse.csr_matrix(x_ng))
    np.testing.assert_array_equal(stored.cell_e.numpy(), x.row)
    np.testing.assert_array_equal(x_ng.ravel()[stored.flat_e.numpy()], stored.values.numpy())


@given(MATRICES, ENDS, ENDS)
def test_slicing_takes_the_rows_that_numpy_takes(x_ng, start, stop):
    for rows in both(x_ng):
        same(rows[start:stop], x_ng[start:stop])


@pytest.mark.parametrize("rows", both(np.eye(4)), ids=["dense", "sparse"])
def test_slicing_refuses_steps_since_rows_are_contiguous(rows):
    with pytest.raises(ValueError, match="contiguous"):
        rows[::2]


@given(MATRICES, st.integers(1, 4))
def test_repeat_stacks_copies(x_ng, times):
    for rows in both(x_ng):
        same(rows.repeat(times), np.tile(x_ng, (times, 1)))


@given(MATRICES)
def test_sum_n_sums_over_genes(x_ng):
    for rows in both(x_ng):
        np.testing.assert_allclose(rows.sum_n().numpy(), x_ng.sum(1))


@given(MATRICES, st.integers(1, 3))
def test_sum_n_sums_other_numbers_with_axes_in_front(x_ng, n_particles):
    for rows in both(x_ng):
        other = torch.stack([rows.values * (s + 1) for s in range(n_particles)])
        expected = np.arange(1, n_particles + 1)[:, None] * x_ng.sum(1)
        np.testing.assert_allclose(rows.sum_n(other).numpy(), expected)


@given(MATRICES)
def test_map_is_the_same_on_sparse_and_dense_rows_where_zero_stays(x_ng):
    for rows in both(x_ng):
        same(rows.map(torch.expm1), torch.expm1(torch.from_numpy(x_ng)).numpy())


@given(MATRICES)
def test_to_changes_the_type_of_the_values_alone(x_ng):
    for rows in both(x_ng):
        moved = rows.to("cpu", torch.float32)
        assert moved.values.dtype == torch.float32
        same(moved, x_ng.astype(np.float32))


def test_slicing_does_not_copy_the_entries():
    for rows in both(np.arange(12.0).reshape(4, 3)):
        part = rows[1:3]
        part.values[0] = 99.0
        assert 99.0 in rows.values


def test_dense_rows_have_no_stored_entries():
    dense, _ = both(np.eye(2))
    with pytest.raises(TypeError, match="dense"):
        _ = dense.cell_e


def test_gradients_pass_through_the_dense_form():
    _, stored = both(np.eye(3))
    values = stored.values.clone().requires_grad_()
    (stored.map(lambda _: values).dense() * 2).sum().backward()
    np.testing.assert_array_equal(values.grad.numpy(), [2.0, 2.0, 2.0])


@pytest.fixture
def condition() -> Condition:
    return Condition(torch.ones(3, 1), {"type": torch.tensor([0, 1, 2])}, {"dose": torch.tensor([0.5, 1.0, 1.5])})


def test_condition_replace_changes_the_named_fields_only(condition):
    other = condition.replace(codes={"type": torch.tensor([2, 2, 2])})
    assert other.codes["type"].tolist() == [2, 2, 2]
    assert torch.equal(other.values["dose"], condition.values["dose"])
    assert condition.codes["type"].tolist() == [0, 1, 2]
    other = condition.replace(values={"dose": torch.zeros(3)})
    assert other.values["dose"].tolist() == [0, 0, 0]
    assert torch.equal(other.codes["type"], condition.codes["type"])


def test_condition_with_size_keeps_the_fields(condition):
    other = condition.with_size(torch.full((3, 1), 7.0))
    assert other.size_n1.flatten().tolist() == [7, 7, 7]
    assert other.codes is condition.codes
    assert other.n_cells == 3


def test_condition_map_reaches_every_tensor(condition):
    first = condition.map(lambda t: t[:1])
    assert (len(first.size_n1), len(first.codes["type"]), len(first.values["dose"])) == (1, 1, 1)


@pytest.mark.parametrize("stored", [True, False])
def test_cells_slice_and_repeat_all_their_parts_alike(make_cells, stored):
    cells = make_cells(5, stored=stored)
    twice = cells.repeat(2)
    assert twice.n_cells == 10
    for copy in (twice[:5], twice[5:], twice[5:][:5]):
        assert torch.equal(copy.x.dense(), cells.x.dense())
        assert torch.equal(copy.condition.size_n1, cells.condition.size_n1)
        assert torch.equal(copy.condition.codes["type"], cells.condition.codes["type"])
        assert torch.equal(copy.condition.values["dose"], cells.condition.values["dose"])
        assert torch.equal(copy.row_n, cells.row_n)


def test_cells_given_another_condition_keep_their_expression(make_cells):
    cells = make_cells(4)
    other = cells.given(cells.condition.with_size(torch.ones(4, 1)))
    assert other.x is cells.x
    assert other.condition.size_n1.sum() == 4


def test_cells_move_with_all_their_parts(make_cells):
    moved = make_cells(4).to("meta")
    assert {t.device.type for t in (moved.x.values, moved.x.gene_e, moved.row_n, moved.condition.size_n1)} == {"meta"}
    assert moved.condition.codes["type"].device.type == "meta"


def test_records_cannot_be_changed_in_place(make_cells):
    cells = make_cells(2)
    with pytest.raises(FrozenInstanceError):
        cells.row_n = torch.zeros(2)
    assert isinstance(cells, Cells)
