"""Whether simulated cells look like real ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import pairwise_distances

from genevae.metrics import simulation
from genevae.metrics.neighbourhoods import nearest_cells
from genevae.metrics.response import log_normalised

RNG = np.random.default_rng(0)


def correlated(n: int, seed: int) -> np.ndarray:
    """Counts of genes that rise and fall together."""
    rng = np.random.default_rng(seed)
    return rng.poisson(3 * np.exp(rng.normal(size=(n, 2)) @ rng.normal(size=(2, 40)) * 0.5)).astype(float)


REAL, AGAIN = correlated(150, 1), np.random.default_rng(2).permutation(correlated(150, 1))
SHUFFLED = np.random.default_rng(3).permuted(REAL, axis=0)


@given(arrays(np.float64, 20, elements=st.floats(-3, 3)), arrays(np.float64, 31, elements=st.floats(-3, 3)))
def test_ks_distance_is_scipys(a: np.ndarray, b: np.ndarray):
    assert simulation.ks_distance(a, b) == pytest.approx(stats.ks_2samp(a, b, method="asymp").statistic, abs=1e-12)


def test_properties_are_numpys():
    values = log_normalised(REAL)
    found = simulation.properties(values, REAL)
    np.testing.assert_allclose(found["mean"], values.mean(0))
    np.testing.assert_allclose(found["variance"], values.var(0))
    np.testing.assert_allclose(found["zero fraction"], (REAL == 0).mean(0))
    np.testing.assert_allclose(found["library size"], REAL.sum(1))
    np.testing.assert_allclose(found["gene correlation"], np.corrcoef(values.T)[np.triu_indices(40, 1)])
    np.testing.assert_allclose(found["cell correlation"], np.corrcoef(values)[np.triu_indices(150, 1)])
    assert set(found) - set(simulation.properties(values, None)) == {"zero fraction", "library size"}


def test_genes_that_do_not_vary_have_no_correlation():
    values = np.column_stack([RNG.normal(size=(10, 2)), np.ones(10)])
    assert np.isfinite(simulation.properties(values, None)["gene correlation"]).all()


def test_shuffled_genes_keep_every_property_of_a_gene_and_lose_those_of_pairs():
    real, made = (simulation.properties(log_normalised(x), x) for x in (REAL, SHUFFLED))
    assert simulation.ks_distance(real["zero fraction"], made["zero fraction"]) == 0
    assert simulation.ks_distance(real["gene correlation"], made["gene correlation"]) > 0.2
    same = simulation.properties(log_normalised(AGAIN), AGAIN)
    assert simulation.ks_distance(real["gene correlation"], same["gene correlation"]) < 0.01  # but for rounding


def test_a_forest_tells_shuffled_cells_and_not_those_of_one_distribution():
    halves = np.random.default_rng(4).permutation(correlated(300, 1))
    assert abs(simulation.two_sample_auc(halves[:150], halves[150:], n_trees=20) - 0.5) < 0.1
    assert simulation.two_sample_auc(log_normalised(REAL), log_normalised(SHUFFLED), n_trees=20) > 0.7
    assert simulation.two_sample_auc(REAL, REAL + 100, n_trees=5) == 1


def test_fold_changes_between_types_and_their_line():
    types = np.repeat(["A", "B", "C"], 50)
    values = RNG.normal(size=(150, 6)) + 3 * (types == "B")[:, None]
    real = simulation.fold_changes(values, types)
    np.testing.assert_allclose(real["B"], values[50:100].mean(0) - values[np.r_[:50, 100:150]].mean(0))
    made = {name: 0.5 * shift + 1 for name, shift in real.items()}
    assert simulation.line(real, made) == pytest.approx((0.5, 1))


def test_the_line_is_scikit_learns():
    x, y = RNG.normal(size=(2, 50))
    slope = LinearRegression().fit(x[:, None], y).coef_[0]
    assert simulation.line({"a": x}, {"a": y}) == pytest.approx((slope, stats.pearsonr(x, y).statistic))


def test_copies_are_found_out_and_new_cells_are_not():
    train, held_out, made = (RNG.normal(size=(200, 4)) for _ in range(3))
    assert simulation.memorisation(train[:50], held_out, train) == 0
    assert simulation.memorisation(train[:50] + 0.01, held_out, train) < 0.1
    assert 0.8 < simulation.memorisation(made, held_out, train) < 1.25
    expected = np.median(pairwise_distances(made, train).min(1)) / np.median(pairwise_distances(held_out, train).min(1))
    assert simulation.memorisation(made, held_out, train) == pytest.approx(expected)


def test_one_nearest_neighbour_leaves_the_cell_itself_out():
    real, made = RNG.normal(size=(2, 60, 3))
    source = np.repeat([0, 1], 60)
    accuracy = simulation.neighbour_accuracy(nearest_cells(np.concatenate([real, made]), 5), source)
    distances = pairwise_distances(np.concatenate([real, made]))
    np.fill_diagonal(distances, np.inf)
    assert accuracy == pytest.approx((source[distances.argmin(1)] == source).mean())
    assert simulation.neighbour_accuracy(nearest_cells(np.concatenate([real, real + 100]), 5), source) == 1
    assert simulation.neighbour_accuracy(nearest_cells(np.concatenate([real, real]), 5), source) == 0


def test_copies_give_training_cells_away_and_new_cells_do_not():
    train, held_out, made = (RNG.normal(size=(200, 4)) for _ in range(3))
    assert simulation.membership_auroc(train, held_out, train) == 1
    auroc = simulation.membership_auroc(made, held_out, train)
    nearest_train, nearest_out = (pairwise_distances(each, made).min(1) for each in (train, held_out))
    assert auroc == pytest.approx((nearest_train[:, None] < nearest_out).mean())
    assert abs(auroc - 0.5) < 0.1
