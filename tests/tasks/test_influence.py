"""What each field adds to expression: the sums of heads, recomputed cell by cell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

import genevae as gv
from genevae.cells import ExpressionRows
from genevae.errors import DataError


@pytest.fixture(scope="module")
def cells(make_adata: Callable[..., AnnData]) -> AnnData:
    adata = make_adata(90)
    adata.obs["drug"] = adata.obs["drug"].astype(object)
    adata.obs.iloc[3, adata.obs.columns.get_loc("drug")] = None
    return adata


@pytest.fixture(scope="module")
def model(cells: AnnData) -> gv.Trained:
    return gv.fit(cells, recipe="cycle", condition=["type", "drug"], epochs=2, progress=False, device="cpu")


@pytest.fixture(scope="module")
def added(model: gv.Trained, cells: AnnData) -> dict[str, np.ndarray]:
    """What each head adds to each cell, by the model's own parts."""
    x = cells.X.toarray()
    log = torch.from_numpy(np.log1p(1e4 * x / x.sum(1, keepdims=True)).astype(np.float32))
    codes = model.schema.encode(cells.obs).codes
    heads = model.module.heads
    with torch.no_grad():
        made = heads.contributions(heads.encode(ExpressionRows.from_dense(log), codes), codes)
    return {name: values.numpy() for name, values in made.items()}


def test_contributions_are_means_over_the_cells_of_a_category(model, cells, added):
    table = gv.contributions(model, cells, top=0, batch_size=7)
    total_ng = np.sum(list(added.values()), 0)
    genes = list(model.schema.genes)
    for field in ("type", "drug"):
        names = sorted(cells.obs[field].dropna().unique())
        mean_cg = np.stack([added[field][(cells.obs[field] == name).to_numpy()].mean(0) for name in names])
        for name, mean_g in zip(names, mean_cg, strict=True):
            rows = table[(table.index == field) & (table["category"] == name)].set_index("gene").loc[genes]
            of_all_g = total_ng[(cells.obs[field] == name).to_numpy()].mean(0)
            np.testing.assert_allclose(rows["contribution"], mean_g, atol=1e-5)
            np.testing.assert_allclose(rows["excess"], mean_g - mean_cg.mean(0), atol=1e-5)
            expected = np.divide(mean_g, of_all_g, out=np.zeros_like(mean_g), where=of_all_g > 0)
            np.testing.assert_allclose(rows["share"], expected, atol=1e-4)


@pytest.mark.parametrize("top", [1, 4, 0])
def test_the_top_genes_are_those_of_largest_excess(model, cells, top):
    whole, table = (gv.contributions(model, cells, top=t) for t in (0, top))
    n = top or len(model.schema.genes)
    for _, rows in table.groupby([table.index, "category"]):
        assert rows["rank"].tolist() == list(range(1, n + 1))
        assert rows["excess"].is_monotonic_decreasing
    pd.testing.assert_frame_equal(table, whole[whole["rank"] <= n])
    with pytest.raises(DataError, match="top"):
        gv.contributions(model, cells, top=-1)


def test_of_a_single_category_the_excess_is_all_that_is_added(model, cells):
    only_a = cells[(cells.obs["type"] == "A").to_numpy()].copy()
    table = gv.contributions(model, only_a, top=0).loc["type"]
    assert set(table["category"]) == {"A"}
    np.testing.assert_allclose(table["excess"], table["contribution"])
    assert table["contribution"].abs().max() > 0


def test_influence_is_the_norm_of_what_a_head_adds(model, cells, added):
    table = gv.influence(model, cells, batch_size=11).reset_index().set_index(["field", "category"])
    total_n = np.square(np.sum(list(added.values()), 0)).sum(1)
    for (field, category), row in table.iterrows():
        in_n = np.ones(90, dtype=bool) if field == "base" else (cells.obs[field] == category).to_numpy()
        if category == "all" and field != "base":
            in_n = cells.obs[field].notna().to_numpy()
        expected = np.sqrt(np.square(added[field][in_n]).sum(1).mean() / total_n[in_n].mean())
        assert row["influence"] == pytest.approx(expected, rel=1e-3), (field, category)
