"""Distances between groups of cells."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import rbf_kernel

from genevae.metrics.distances import e_distance, median_distance, mmd, nearest_distances

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 6)), RNG.normal(0.5, 2, size=(55, 6))


def test_e_distance_is_scipys_in_one_dimension_but_for_pairs_of_a_cell_with_itself():
    x, y = X[:, :1], Y[:, :1]
    itself = sum(pairwise_distances(z).sum() / len(z) ** 2 / (len(z) - 1) for z in (x, y))
    assert e_distance(x, y) + itself == pytest.approx(stats.energy_distance(x.ravel(), y.ravel()) ** 2, abs=1e-9)


def test_e_distance_is_cell_evals_but_for_pairs_of_a_cell_with_itself():
    """cell-eval 0.8.2, edistance: means over all pairs, those of a cell with itself too."""
    within = [pairwise_distances(z).mean() for z in (X, Y)]
    theirs = 2 * pairwise_distances(X, Y).mean() - sum(within)
    itself = sum(each / (len(z) - 1) for each, z in zip(within, (X, Y), strict=True))
    assert e_distance(X, Y) == pytest.approx(theirs - itself, abs=1e-9)


def test_e_distance_sees_a_change_of_spread_that_the_mean_does_not_show():
    wide = 3 * (X - X.mean(0)) + X.mean(0)
    assert e_distance(X, wide) > 1
    assert abs(e_distance(X[::2], X[1::2])) < 0.3


def test_e_distance_of_one_distribution_is_zero_on_average():
    found = [e_distance(*RNG.normal(size=(2, 15, 3))) for _ in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300)


def test_mmd_is_made_of_scikit_learns_kernels():
    width = np.median(pairwise_distances(X)[np.triu_indices(40, 1)])
    assert median_distance(X) == pytest.approx(width)
    gamma = 1 / (2 * width**2)

    def within(z: np.ndarray) -> float:
        return float(rbf_kernel(z, gamma=gamma)[np.triu_indices(len(z), 1)].mean())

    expected = within(X) + within(Y) - 2 * rbf_kernel(X, Y, gamma=gamma).mean()
    assert mmd(X, Y) == pytest.approx(expected, abs=1e-12)
    assert mmd(X, Y, width) == mmd(X, Y)


def test_mmd_is_zero_on_average_for_one_distribution_and_above_it_for_two():
    found = [mmd(*RNG.normal(size=(2, 15, 3))) for _ in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300)
    assert mmd(X, X[::-1] + 5) > 0.5


def test_cells_that_are_all_the_same_have_a_width_still():
    assert median_distance(np.zeros((4, 2))) == 1


def test_the_nearest_is_found():
    np.testing.assert_allclose(nearest_distances(X, Y), pairwise_distances(X, Y).min(1))
