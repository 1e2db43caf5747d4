"""Differential expression: on data whose truth is known, on real cells with thinned genes, and what it refuses."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import genevae as gv
from genevae.cli import main
from genevae.errors import CategoryError, DataError, GenevaeWarning
from genevae.tasks.differential_expression import differential_expression

FAST = {"epochs": 10, "n_latent": 4, "hidden": [16], "progress": False, "folds": 0}


def simulated(n: int = 400, seed: int = 0, raised: int = 10, donors: float = 0.0, uneven: bool = False) -> ad.AnnData:
    """Return counts of 200 genes in two groups: some are raised in group a, the last forty differ between two lanes."""
    rng = np.random.default_rng(seed)
    group_n, donor_n = rng.integers(2, size=n), rng.integers(4, size=n)
    donor_n = donor_n + 4 * group_n  # each donor is of one group
    lane_n = rng.random(n) < np.where(group_n == 1, 0.9 if uneven else 0.5, 0.1 if uneven else 0.5)
    rate_ng = np.tile(rng.gamma(2.0, 1.0, 200), (n, 1))
    rate_ng[group_n == 1, :raised] *= 3
    rate_ng[lane_n, 160:] *= 2.5
    rate_ng *= np.exp(donors * rng.standard_normal((8, 200)))[donor_n] * rng.lognormal(0, 0.3, (n, 1))
    obs = pd.DataFrame(
        {
            "group": np.array(["b", "a"])[group_n],
            "lane": np.array(["l1", "l2"])[lane_n.astype(int)],
            "donor": [f"d{i}" for i in donor_n],
        },
        index=[f"cell{i}" for i in range(n)],
    )
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rate_ng).astype(np.float32)), obs=obs)
    adata.var_names = [f"G{i}" for i in range(200)]
    return adata


@pytest.fixture(scope="module")
def adata():
    return simulated()


@pytest.fixture(scope="module")
def model(adata):
    return gv.fit(adata, **FAST)


RAISED = {f"G{i}" for i in range(10)}


def called(table: pd.DataFrame) -> set[str]:
    return set(table["gene"][table["called"]])


def test_the_genes_that_are_raised_are_called_with_their_fold_change(model, adata):
    table = differential_expression(model, adata, "group", group1="a")
    assert called(table) >= RAISED
    assert len(called(table)) <= 11
    first = table[:10]
    assert set(first["gene"]) == RAISED
    assert first["lfc"].between(1.2, 1.9).all(), "the truth is log2(3)"
    assert (first["lower"] < np.log2(3)).mean() > 0.7
    assert (first["upper"] > np.log2(3)).mean() > 0.7
    assert table["probability"].is_monotonic_decreasing
    assert table["fdr"].is_monotonic_increasing
    back = differential_expression(model, adata, "group", group1="b").set_index("gene")
    np.testing.assert_allclose(back.loc[table["gene"], "lfc"], -table["lfc"], atol=1e-6)
    assert model.differential_expression(adata, "group")["group1"].unique().tolist() == ["a", "b"]


def test_what_is_measured_does_not_depend_on_minibatches_or_draws(model, adata):
    one, other = (
        differential_expression(model, adata, "group", group1="a", batch_size=size, n_draws=n, seed=n)
        .set_index("gene").sort_index() for size, n in ((512, 3), (37, 2))
    )  # fmt: skip
    measured = ["lfc", "lower", "upper", "probability", "measured_lfc", "error", "mean1"]
    pd.testing.assert_frame_equal(one[measured], other[measured], rtol=1e-5)
    np.testing.assert_allclose(one["model_lfc"], other["model_lfc"], atol=0.3)
    x_ng, size_n1 = adata.X.toarray(), np.asarray(adata.X.sum(1))
    means = [(x_ng / size_n1)[adata.obs["group"] == g].mean(0) * size_n1.mean() for g in "ab"]
    np.testing.assert_allclose(one.loc[adata.var_names, "mean1"], means[0], rtol=1e-4)
    np.testing.assert_allclose(one.loc[adata.var_names, "mean2"], means[1], rtol=1e-4)


def test_groups_without_a_difference_have_no_genes(model, adata):
    cells = adata.copy()
    for seed in range(10, 13):
        cells.obs["random"] = np.random.default_rng(seed).choice(["a", "b"], cells.n_obs)
        assert not called(differential_expression(model, cells, "random"))


def test_batches_are_averaged_over():
    """Most cells of one group are of one lane, whose genes seem to be those of the group."""
    cells = simulated(900, uneven=True)
    model = gv.fit(cells, batch="lane", **{**FAST, "epochs": 60})
    with_lane = called(differential_expression(model, cells, "group", group1="a", average_batches=False))
    averaged = called(differential_expression(model, cells, "group", group1="a"))
    of_lane = {f"G{i}" for i in range(160, 200)}
    assert len(with_lane & of_lane) > 30
    assert len(averaged & of_lane) < 5
    assert len(averaged & RAISED) >= 9


def test_replicates_are_what_is_independent(model):
    """Donors differ, groups do not: cells alone find differences between donors, and replicates none."""
    cells = simulated(800, seed=4, raised=0, donors=0.4)
    assert len(called(differential_expression(model, cells, "group", group1="a"))) > 5
    table = differential_expression(model, cells, "group", group1="a", replicate="donor")
    assert len(called(table)) <= 1
    assert (table["p_adjusted"] > 0.05).mean() > 0.98
    assert 0.02 < (table["p_value"] < 0.1).mean() < 0.25
    raised = simulated(800, seed=4, raised=10, donors=0.2)
    assert len(called(differential_expression(model, raised, "group", group1="a", replicate="donor")) & RAISED) >= 7
    one = raised[raised.obs["donor"].isin(["d0", "d4"])].copy()
    with pytest.raises(CategoryError, match="cannot be compared"):
        differential_expression(model, one, "group", replicate="donor")


def test_a_group_of_one_replicate_is_measured_and_the_others_are_tested(model):
    cells = simulated(400, seed=4)
    cells.obs["group"] = cells.obs["group"].astype(str).mask((cells.obs["donor"] == "d0").to_numpy(), "rare")
    with pytest.warns(gv.GenevaeWarning, match="without p-values: rare; fewer than two of 'donor'"):
        table = differential_expression(model, cells, "group", replicate="donor")
    rare = table[table["group1"] == "rare"]
    missing = ["p_value", "p_adjusted", "lfc", "lower", "upper", "probability", "fdr", "error"]
    assert rare[missing].isna().all().all()
    assert not rare["called"].any()
    assert rare[["measured_lfc", "model_lfc", "mean1", "mean2"]].notna().all().all()
    rest = table[table["group1"] != "rare"]
    assert rest["p_value"].notna().all()
    alone = differential_expression(model, cells, "group", group1=["a", "b"], replicate="donor")
    assert rest.reset_index(drop=True).equals(alone)


def test_logarithms_are_differences_of_means(adata):
    cells = adata.copy()
    cells.X = np.log1p(1e4 * cells.X.toarray() / np.asarray(cells.X.sum(1)))
    table = differential_expression(gv.fit(cells, "gaussian", **FAST), cells, "group", group1="a").set_index("gene")
    x_ng = np.asarray(cells.X)
    difference_g = x_ng[cells.obs["group"] == "a"].mean(0) - x_ng[cells.obs["group"] == "b"].mean(0)
    np.testing.assert_allclose(table.loc[cells.var_names, "measured_lfc"], difference_g / np.log(2), atol=1e-3)
    assert called(table.reset_index()) >= RAISED


def test_genes_that_cells_lack_are_not_called(model, adata):
    with pytest.warns(gv.GenevaeWarning, match="lacks 5"):
        table = differential_expression(model, adata[:, 5:].copy(), "group", group1="a").set_index("gene")
    lacking = table.loc[[f"G{i}" for i in range(5)]]
    assert not lacking["called"].any()
    assert np.isinf(lacking["error"]).all()
    assert table["called"].sum() == 5


def test_mistakes_are_explained(model, adata):
    with pytest.raises(CategoryError, match="'c' is not a group of 'group'"):
        differential_expression(model, adata, "group", group1="c")
    with pytest.raises(CategoryError, match="no obs column 'grup'"):
        differential_expression(model, adata, "grup")
    with pytest.raises(DataError, match="between 0 and 1"):
        differential_expression(model, adata, "group", fdr=5)
    few = adata.copy()
    few.obs["group"] = ["rare"] * 2 + ["b"] * (adata.n_obs - 2)
    with pytest.raises(CategoryError, match="'rare' of 'group' has 2 cells"):
        differential_expression(model, few, "group", group1="rare")
    few.obs["group"] = "b"
    with pytest.raises(CategoryError, match="nothing to compare"):
        differential_expression(model, few, "group")


def test_thinned_genes_of_real_cells_are_found(shared_data, tmp_path, capsys):
    """A story on real data: B cells in two random groups, of which one has a tenth of its genes thinned."""
    adata = ad.read_h5ad(shared_data("pbmc_facs_fasttopics.h5ad"))
    adata = adata[(adata.obs["cell_type"] == "B cell").to_numpy()].copy()
    x_ng = adata.X.toarray()
    expressed = np.flatnonzero((x_ng > 0).mean(0) > 0.1)
    adata, x_ng = adata[:, expressed].copy(), x_ng[:, expressed]
    rng = np.random.default_rng(0)
    in_one_n, thinned_g = rng.random(adata.n_obs) < 0.5, rng.random(adata.n_vars) < 0.1
    x_ng[np.ix_(in_one_n, thinned_g)] = rng.binomial(x_ng[np.ix_(in_one_n, thinned_g)].astype(int), 0.4)
    adata.X = sparse.csr_matrix(x_ng)
    adata.obs["half"] = np.where(in_one_n, "one", "two")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    gv.fit(adata, out=tmp_path / "run", **FAST)
    main(["de", str(tmp_path / "run"), str(tmp_path / "cells.h5ad"), "--group-by", "half", "--group1", "one",
          "--out", str(tmp_path / "de.csv"), "--picture", str(tmp_path / "volcano.png")])  # fmt: skip
    table = pd.read_csv(tmp_path / "de.csv")
    found = table[table["called"]]["gene"]
    thinned = set(adata.var_names[thinned_g])
    assert len(set(found) & thinned) > 0.6 * len(thinned)
    assert len(set(found) - thinned) < 0.1 * len(found)
    assert (tmp_path / "volcano.png").stat().st_size > 5000
    assert "one against rest" in capsys.readouterr().out


def test_groups_may_be_numbers_and_small_ones_are_left_out_where_all_are_compared(tiny_model, make_adata):
    adata = make_adata(90)
    adata.obs["cluster"] = [0] * 44 + [1] * 44 + [2] * 2
    one = differential_expression(tiny_model, adata, "cluster", group1=1, group2=0)
    assert set(one["group1"]) == {"1"}
    with pytest.warns(GenevaeWarning, match="fewer than .* cells are left out: 2"):
        every = differential_expression(tiny_model, adata, "cluster")
    assert set(every["group1"]) == {"0", "1"}
