"""Clusters of the latent, and how far they can be relied on."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

import genevae as gv
from genevae.cli import main
from genevae.errors import DataError
from genevae.tasks.cluster import cluster
from genevae.tasks.clustering import ClusteredSubsamples, best_n_clusters, cluster_subsamples, kmeans, leiden, margin_n


def blobs(n_blobs: int, n: int = 240, apart: float = 12.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % n_blobs
    return rng.normal(size=(n, n_blobs)) + apart * np.eye(n_blobs)[kind], kind


def test_groups_that_are_far_apart_come_back_whole():
    z, kind = blobs(3)
    label = kmeans(3)(z, 0)
    assert adjusted_rand_score(kind, label) == 1
    repeats = cluster_subsamples(kmeans(3), z, 5, seed=0)
    assert repeats.agreement() == 1
    np.testing.assert_array_equal(repeats.stability_c(label), np.ones(3))
    assert margin_n(z, label).min() > 0.3


@pytest.mark.parametrize("n", [2, 5, 40])
def test_graphs_of_few_points_have_as_many_neighbours_as_there_are(n):
    pytest.importorskip("igraph")
    assert len(leiden(1.0)(np.random.default_rng(0).normal(size=(n, 3)), 0)) == n


def test_groups_that_are_not_there_do_not_come_back():
    z = np.random.default_rng(0).normal(size=(300, 6))
    repeats = cluster_subsamples(kmeans(6), z, 6, seed=0)
    assert repeats.agreement() < 0.6
    assert repeats.stability_c(kmeans(6)(z, 0)).mean() < 0.75


@pytest.mark.parametrize("n_blobs", [2, 3, 4])
def test_the_number_of_groups_is_found(n_blobs):
    rng = np.random.default_rng(1)
    centres = 15 * rng.normal(size=(n_blobs, 5))
    z = rng.normal(size=(200, 5)) + centres[np.arange(200) % n_blobs]
    assert best_n_clusters(z, range(2, 7), 6, seed=0) == n_blobs


@settings(max_examples=20)
@given(st.lists(st.integers(0, 4), min_size=10, max_size=40), st.integers(0, 99))
def test_stability_is_the_best_jaccard_index_and_does_not_depend_on_names(labels, seed):
    _, mine = np.unique(np.array(labels), return_inverse=True)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(mine), len(mine) * 4 // 5, replace=False))
    theirs = rng.integers(0, 3, len(rows))
    found = ClusteredSubsamples([rows], [theirs]).stability_c(mine)
    for c, value in enumerate(found):
        own = set(rows[mine[rows] == c])
        best = max(
            (len(own & set(rows[theirs == d])) / len(own | set(rows[theirs == d])) for d in set(theirs)), default=0
        )
        assert value == pytest.approx(best if own else 0)
    np.testing.assert_allclose(ClusteredSubsamples([rows], [2 - theirs]).stability_c(mine), found)


def test_margins_are_one_at_the_centre_zero_halfway_and_below_for_the_misplaced():
    z = np.array([[-1.0], [1.0], [9.0], [11.0], [0.0], [10.0], [5.0], [10.0]])
    margin = margin_n(z[:6], np.array([0, 0, 1, 1, 0, 1]))
    assert margin[4] == margin[5] == 1
    z = np.array([[0.0], [0.0], [10.0], [10.0], [10.0], [0.0]])
    assert margin_n(z, np.array([0, 0, 1, 1, 0, 1]))[4] < 0
    np.testing.assert_array_equal(margin_n(z, np.zeros(6, dtype=int)), np.ones(6))


def test_leiden_finds_groups():
    pytest.importorskip("igraph")
    z, kind = blobs(3)
    label = leiden(0.3)(z, 0)
    assert adjusted_rand_score(kind, label) == 1
    np.testing.assert_array_equal(leiden(0.3)(z, 0), label)
    assert leiden(5.0)(z, 0).max() > 2


def test_without_igraph_the_error_names_what_to_install(tiny_model, adata, monkeypatch):
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(DataError, match=r"genevae\[leiden\]"):
        cluster(tiny_model, adata, method="leiden")


def test_the_types_of_cells_are_discovered(make_adata):
    from genevae.runs.fit import fit

    adata = make_adata(160)
    model = fit(adata, recipe="nb", epochs=25, n_latent=4, hidden=[32], batch_size=32, learning_rate=5e-3,
                progress=False, device="cpu")  # fmt: skip
    table = cluster(model, adata, n_clusters=3, n_repeats=4)
    assert list(table.columns) == ["cluster", "stability", "margin", "agreement"]
    assert table.index.tolist() == adata.obs_names.tolist()
    assert adjusted_rand_score(adata.obs["type"], table["cluster"]) > 0.4
    sizes = table["cluster"].value_counts()
    assert sizes.sort_index().is_monotonic_decreasing
    assert table["stability"].between(0, 1).all()
    assert len(table[["cluster", "stability"]].drop_duplicates()) == 3


def test_the_same_seed_gives_the_same_table(tiny_model, adata):
    one, same = (cluster(tiny_model, adata, n_clusters=3, n_repeats=3, seed=5) for _ in range(2))
    pd.testing.assert_frame_equal(one, same)
    assert one["cluster"].nunique() == 3


def test_cells_beyond_the_most_join_the_nearest_cluster(tiny_model, make_adata, monkeypatch):
    adata = make_adata(200, seed=3)
    whole = cluster(tiny_model, adata, n_clusters=2, n_repeats=3)
    monkeypatch.setattr("genevae.tasks.cluster.MAX_CELLS", 120)
    part = cluster(tiny_model, adata, n_clusters=2, n_repeats=3)
    assert len(part) == 200
    assert adjusted_rand_score(whole["cluster"], part["cluster"]) > 0.5


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"method": "kmean"}, "Did you mean 'kmeans'"), ({"n_repeats": 1}, "n_repeats"), ({"n_clusters": 0}, "n_clusters"),
     ({"method": "leiden", "n_clusters": 3}, "resolution"), ({"resolution": 0.0}, "resolution"),
     ({"n_clusters": 41}, "too few")],
)  # fmt: skip
def test_every_wrong_argument_is_its_typed_error(tiny_model, adata, asked, words):
    with pytest.raises(DataError, match=words):
        cluster(tiny_model, adata, **asked)


def test_data_of_fewer_cells_than_can_be_grouped_are_refused(tiny_model, adata):
    with pytest.raises(DataError, match="too few"):
        cluster(tiny_model, AnnData(adata.X[:5], adata.obs[:5], adata.var))


def test_the_old_names_still_work_with_a_warning():
    for old, new in (("discover", "cluster"), ("genes", "gene_embeddings")):
        with pytest.warns(DeprecationWarning, match=f"genevae.{old} is now genevae.{new}"):
            assert getattr(gv, old) is getattr(gv, new)
        assert old not in dir(gv)


@pytest.mark.parametrize(("old", "new"), [("discover", "cluster"), ("genes", "gene-embeddings")])
def test_the_old_commands_still_work_with_a_warning(old, new, capsys):
    main([old, "--help"])
    found = capsys.readouterr()
    assert found.err == f"genevae: the command {old} is now {new}.\n"
    assert f"genevae {new}" in found.out
