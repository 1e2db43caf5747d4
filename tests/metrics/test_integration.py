"""The scores of scIB: beside scib-metrics, and on cells of which the answer is known."""

from __future__ import annotations

import importlib
import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from genevae.metrics.integration import (
    BATCH,
    BIO,
    TOTALS,
    batch_share,
    bras,
    graph_connectivity,
    integration_scores,
)
from genevae.metrics.kbet import kbet
from genevae.metrics.neighbourhoods import fuzzy_graph, lisi_n, nearest_cells

RNG = np.random.default_rng(0)
N = 400
LABEL = RNG.integers(0, 3, N)
BATCH_OF = np.where(LABEL == 0, RNG.integers(0, 2, N), RNG.integers(0, 3, N))
NAMES, LANES = np.array(list("ABC"))[LABEL], np.array(["x", "y", "z"])[BATCH_OF]
TYPES = 6 * np.eye(3)[LABEL]
LANE = 6 * np.eye(3)[BATCH_OF]
NOISE = RNG.normal(size=(N, 3))


@pytest.mark.slow  # compiling takes its time
def test_every_score_is_that_of_scib_metrics() -> None:
    """With the same exact neighbours; scib-metrics computes in float32, and both k-means find types that lie apart."""
    pytest.importorskip("scib_metrics", reason="scib-metrics is not installed: pip install 'genevae[scib]'")
    z = TYPES / 2.5 + 0.3 * LANE / 6 + NOISE
    plain = np.hstack([z, LANE + NOISE])
    expected = benchmark(z, plain)
    found = integration_scores(z, NAMES, LANES, plain)
    assert list(found) == [*BIO, *BATCH, *TOTALS]
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=2e-6), name


def benchmark(z: np.ndarray, plain: np.ndarray) -> pd.Series:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tensorflow, which is missing, and of matplotlib's own
        core = importlib.import_module("scib_metrics.benchmark")
        results = importlib.import_module("scib_metrics.nearest_neighbors").NeighborsResults
        obs = pd.DataFrame(
            {"label": pd.Categorical(NAMES), "batch": pd.Categorical(LANES)}, index=[f"c{i}" for i in range(N)]
        )
        adata = AnnData(np.zeros((N, 2), np.float32), obs=obs, obsm={"z": z, "plain": plain})
        judge = core.Benchmarker(
            adata, "batch", "label", ["z"], pre_integrated_embedding_obsm_key="plain", progress_bar=False
        )

        def near(x: np.ndarray, n: int) -> object:
            found = nearest_cells(x, n)
            return results(found.index_nj, found.distance_nj)

        judge.prepare(near)
        judge.benchmark()
        return judge.get_results().loc["z"]


def test_types_apart_and_batches_mixed_score_high_and_the_reverse_scores_low() -> None:
    plain = TYPES + LANE + NOISE
    good = integration_scores(TYPES + NOISE, NAMES, LANES, plain)
    bad = integration_scores(LANE + NOISE, NAMES, LANES, plain)
    assert good["Bio conservation"] > 0.85
    assert bad["Bio conservation"] < 0.5
    assert good["Batch correction"] > 0.75
    assert bad["Batch correction"] < 0.4
    assert good["Total"] == pytest.approx(0.6 * good["Bio conservation"] + 0.4 * good["Batch correction"])


def test_around_a_cell_meet_as_many_labels_as_are_mixed() -> None:
    near = nearest_cells(NOISE, 90)
    assert 2.5 < np.median(lisi_n(near, np.arange(N) % 3)) <= 3
    assert lisi_n(nearest_cells(100 * TYPES + NOISE, 90), NAMES) == pytest.approx(np.ones(N))


def test_the_graph_is_symmetric_and_its_weights_are_shares() -> None:
    graph = fuzzy_graph(nearest_cells(NOISE, 15))
    assert abs(graph - graph.T).max() < 1e-12
    assert graph.data.min() >= 0
    assert graph.data.max() <= 1 + 1e-12
    assert graph.diagonal().max() == 0
    np.testing.assert_array_less(1 - 1e-9, graph.max(axis=1).toarray().ravel())  # the nearest has weight one


@pytest.mark.slow  # compiling takes its time
def test_the_graph_is_umaps() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tensorflow, which is missing
        umap = pytest.importorskip("umap.umap_", reason="umap-learn is not installed", exc_type=ImportError)
    near = nearest_cells(NOISE, 15)
    theirs = umap.fuzzy_simplicial_set(
        NOISE, 15, None, "euclidean", knn_indices=near.index_nj, knn_dists=near.distance_nj
    )[0]
    assert abs(fuzzy_graph(near) - theirs).max() < 2e-5  # where its search for widths ends


def test_mixed_batches_pass_and_separate_ones_do_not() -> None:
    alike = np.array(list("ab"))[np.arange(N) % 2]
    assert kbet(nearest_cells(NOISE, 50), alike, NAMES) > 0.8
    apart = NOISE + 4 * (alike == "a")[:, None]
    assert kbet(nearest_cells(apart, 50), alike, NAMES) < 0.2


def test_labels_of_one_batch_or_of_few_cells_cannot_be_asked_about() -> None:
    near = nearest_cells(NOISE, 50)
    assert np.isnan(kbet(near, NAMES, NAMES))
    assert np.isnan(bras(NOISE, NAMES, NAMES))
    found = integration_scores(NOISE, NAMES, NAMES, NOISE)
    known = [found[name] for name in BATCH if np.isfinite(found[name])]
    assert found["Batch correction"] == pytest.approx(np.mean(known))


def test_a_label_in_two_pieces_has_half_of_its_cells_connected() -> None:
    z = np.where(np.arange(N)[:, None] % 2 == 0, 0, 100) + NOISE
    assert graph_connectivity(nearest_cells(z, 15), np.zeros(N)) == pytest.approx(0.5)


def test_the_batch_explains_what_a_regression_of_every_component_does() -> None:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LinearRegression

    z = LANE + 3 * NOISE
    pca = PCA().fit(z)
    components, is_batch = pca.transform(z), np.eye(3)[BATCH_OF]
    r2 = [LinearRegression().fit(is_batch, c).score(is_batch, c) for c in components.T]
    assert batch_share(z, LANES) == pytest.approx(np.average(r2, weights=pca.explained_variance_))


def test_few_cells_or_one_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="two batches"):
        integration_scores(NOISE, NAMES, np.zeros(N), NOISE)
    with pytest.raises(ValueError, match="300 cells"):
        integration_scores(NOISE[:50], NAMES[:50], LANES[:50], NOISE[:50])
