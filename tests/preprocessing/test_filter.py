"""Filtering keeps what scanpy's rules keep, in one pass over any source."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

import genevae as gv
from genevae.cli import main
from genevae.errors import DataError
from genevae.io.formats import open_source
from genevae.preprocessing.filter import filter_cells, quality


@pytest.fixture
def counts() -> AnnData:
    rng = np.random.default_rng(0)
    x = rng.poisson(rng.gamma(0.3, 2.0, (300, 1)) * rng.gamma(0.4, 1.0, 60))
    adata = AnnData(sparse.csr_matrix(x.astype(np.float32)))
    adata.var_names = [*(f"MT-{i}" for i in range(5)), *(f"G{i}" for i in range(55))]
    adata.obs["batch"] = rng.choice(["a", "b"], 300)
    return adata


def test_quality_numbers_are_scanpys(counts):
    cells, genes = quality(open_source(counts))
    counts.var["mt"] = counts.var_names.str.startswith("MT-")
    sc.pp.calculate_qc_metrics(counts, qc_vars=["mt"], percent_top=None, log1p=False, inplace=True)
    np.testing.assert_allclose(cells["n_counts"], counts.obs["total_counts"])
    np.testing.assert_array_equal(cells["n_genes"], counts.obs["n_genes_by_counts"])
    np.testing.assert_allclose(cells["mito"], counts.obs["pct_counts_mt"].fillna(0) / 100, atol=1e-6)
    np.testing.assert_array_equal(genes["n_cells"], counts.var["n_cells_by_counts"])


def test_what_passes_is_what_scanpy_keeps(counts):
    filtered = filter_cells(counts, min_counts=5, min_genes=3, min_cells=10)
    sc.pp.filter_cells(counts, min_counts=5)
    sc.pp.filter_cells(counts, min_genes=3)
    sc.pp.filter_genes(counts, min_cells=10)
    assert filtered.source.obs.index.tolist() == counts.obs_names.tolist()
    assert list(filtered.source.genes) == counts.var_names.tolist()
    rows = np.arange(len(filtered.source))
    np.testing.assert_array_equal(sparse.csr_matrix(filtered.source.read(rows)).toarray(), counts.X.toarray())


def test_the_report_counts_what_each_rule_removes(counts):
    filtered = filter_cells(counts, min_counts=5, max_counts=200, max_genes=50, max_mito=0.2)
    assert filtered.removed == {
        "min_counts": int((filtered.cells["n_counts"] < 5).sum()),
        "max_counts": int((filtered.cells["n_counts"] > 200).sum()),
        "max_genes": int((filtered.cells["n_genes"] > 50).sum()),
        "max_mito": int((filtered.cells["mito"] > 0.2).sum()),
    }
    assert f"cells  300 → {filtered.cells['passed'].sum()}" in str(filtered)


def test_when_nothing_passes_the_error_says_which_rule(counts):
    with pytest.raises(DataError, match=r"No cell .*'min_counts': 300"):
        filter_cells(counts, min_counts=1e9)
    with pytest.raises(DataError, match="share from 0 to 1"):
        filter_cells(counts, max_mito=20)


def test_the_command_filters_a_file(counts, tmp_path, capsys):
    counts.write_h5ad(tmp_path / "cells.h5ad")
    main(["data", "filter", str(tmp_path / "cells.h5ad"), "--min-genes", "5", "--out", str(tmp_path / "kept.h5ad")])
    kept = gv.read(tmp_path / "kept.h5ad")
    assert (np.asarray((kept.X > 0).sum(1)).ravel() >= 5).all()
    assert kept.obs["batch"].tolist() == counts[kept.obs_names].obs["batch"].tolist()
    assert "min_genes removes" in capsys.readouterr().out
