"""Cells are known by their expression."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from genevae.data.contents import contents_of, sampled_rows
from genevae.io.source import MemorySource


def a_source(x_ng: np.ndarray, genes: tuple[str, ...]) -> MemorySource:
    obs = pd.DataFrame(index=[str(i) for i in range(len(x_ng))])
    return MemorySource("cells", sparse.csr_matrix(x_ng.astype(np.float32)), genes, obs)


@given(st.integers(0, 1000))
def test_the_order_of_genes_does_not_matter_and_every_entry_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, genes = rng.poisson(1.0, (6, 9)), tuple(f"g{i}" for i in range(9))
    order, rows = rng.permutation(9), np.arange(6)
    there = contents_of(a_source(x, genes), rows)
    moved = contents_of(a_source(x[:, order], tuple(genes[g] for g in order)), rows)
    np.testing.assert_array_equal(there, moved)
    changed = x.copy()
    changed[3, rng.integers(9)] += 1
    np.testing.assert_array_equal(contents_of(a_source(changed, genes), rows) != there, rows == 3)


def test_zeros_add_nothing_however_they_are_stored() -> None:
    x = sparse.csr_matrix(np.array([[1.0, 0, 2], [0, 0, 0]], dtype=np.float32))
    stored = sparse.csr_matrix((np.array([1, -0.0, 2, 0], dtype=np.float32), [0, 1, 2, 0], [0, 3, 4]), shape=(2, 3))
    obs, genes = pd.DataFrame(index=["a", "b"]), ("g0", "g1", "g2")
    found = [contents_of(MemorySource("x", each, genes, obs), np.arange(2)) for each in (x, x.toarray(), stored)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert found[0][0]
    assert found[0][1] == ""


@pytest.mark.parametrize("n", [0, 5, 200_000, 200_001, 3_000_000])
def test_a_bounded_number_of_rows_is_read(n: int) -> None:
    rows = sampled_rows(n)
    assert len(rows) == min(n, 200_000) or (n > 200_000 and 100_000 < len(rows) <= 200_000)
    assert (np.diff(rows) > 0).all()
    assert not len(rows) or (rows[0] == 0 and rows[-1] == n - 1)
