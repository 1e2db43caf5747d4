"""Distributions of values as they were observed: counts, ranks and quantiles, against plain sorting."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from genevae.models.marginals import Marginals

seeds, sizes = st.integers(0, 10**6), st.integers(1, 30)


def values(seed: int, n: int, n_genes: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.3, 10, n_genes), (n, n_genes)).astype(np.float64)
    return counts if seed % 2 else np.where(counts > 0, rng.normal(size=counts.shape), 0.0)


@given(seeds, sizes, sizes)
def test_every_value_is_counted(seed, n, n_genes):
    x_ng = values(seed, n, n_genes)
    of = Marginals.of(x_ng)
    back = np.repeat(of.value_e, of.count_e)
    assert np.array_equal(back, np.sort(x_ng, axis=0).T.flatten())
    assert (of.n_g == n).all()


@given(seeds, sizes, sizes)
def test_quantiles_are_values_in_order(seed, n, n_genes):
    x_ng, rng = values(seed, n, n_genes), np.random.default_rng(seed)
    rank_ng = rng.random((20, n_genes))
    place = np.ceil(rank_ng * n).astype(int).clip(1, n) - 1
    assert np.array_equal(Marginals.of(x_ng).quantiles(rank_ng), np.take_along_axis(np.sort(x_ng, axis=0), place, 0))


@given(seeds, sizes, sizes)
def test_ranks_count_the_cells_below_and_at_a_value(seed, n, n_genes):
    x_ng, new_ng = values(seed, n, n_genes), values(seed + 2, 15, n_genes)
    v_ng = np.random.default_rng(seed).random(new_ng.shape)
    below, up_to = (x_ng < new_ng[:, None]).sum(1), (x_ng <= new_ng[:, None]).sum(1)
    assert np.allclose(Marginals.of(x_ng).ranks(new_ng, v_ng), (below + v_ng * (up_to - below + 1)) / (n + 1))


def test_ranks_among_cells_of_the_same_distribution_are_uniform():
    rng = np.random.default_rng(0)
    x_ng, new_ng = rng.poisson(2.0, (4000, 3)), rng.poisson(2.0, (4000, 3))
    for rank_n in Marginals.of(x_ng).ranks(new_ng, rng.random(new_ng.shape)).T:
        assert kstest(rank_n, "uniform").pvalue > 1e-3


def test_genes_that_were_not_measured_count_where_they_were():
    x_ng, measured_ng = (
        np.array([[1.0, 5.0, 2.0], [3.0, 6.0, 4.0]]),
        np.array([[True, False, False], [True, True, False]]),
    )
    of = Marginals.of(x_ng, measured_ng)
    assert of.n_g.tolist() == [2, 1, 0]
    assert of.quantiles(np.full((1, 3), 0.01)).tolist() == [[1.0, 6.0, 0.0]]
    assert Marginals.of(x_ng, np.zeros((2, 3), dtype=bool)).quantiles(np.full((1, 3), 0.5)).tolist() == [[0, 0, 0]]
