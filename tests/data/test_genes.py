"""Genes: matching tells why names differ, and variable genes are those of scanpy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from genevae.data.genes import GeneView, highly_variable, match_genes, read_gene_list
from genevae.data.loess import loess
from genevae.data.sources import MemorySource, open_source
from genevae.errors import DataError, GeneError


class Streamed:
    """A source that is not in memory, and says how many rows were read at once."""

    def __init__(self, inner: MemorySource) -> None:
        self.inner, self.longest, self.n_read = inner, 0, 0
        self.name, self.genes, self.obs = "streamed", inner.genes, inner.obs

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, rows):
        self.longest, self.n_read = max(self.longest, len(rows)), self.n_read + len(rows)
        return self.inner.read(rows)


def make(x, genes=None, name: str = "data") -> MemorySource:
    genes = tuple(genes or (f"G{i}" for i in range(x.shape[1])))
    return MemorySource(name, x, genes, pd.DataFrame(index=[f"c{i}" for i in range(x.shape[0])]))


def dense(x) -> np.ndarray:
    return x.toarray() if sparse.issparse(x) else x


def jaccard(one, other) -> float:
    return len(set(one) & set(other)) / len(set(one) | set(other))


# --- matching ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), as_sparse=st.booleans(), streamed=st.booleans(), n_chosen=st.integers(1, 9))
def test_columns_come_in_the_models_order(seed, as_sparse, streamed, n_chosen):
    rng = np.random.default_rng(seed)
    x = rng.poisson(0.8, (7, 9)).astype(np.float32)
    source = make(sparse.csr_matrix(x) if as_sparse else x)
    chosen = rng.permutation(9)[:n_chosen]
    genes = [f"G{i}" for i in chosen]
    rows = rng.integers(0, 7, 5)
    matched = match_genes(Streamed(source) if streamed else source, genes)
    found = matched.read(rows)
    assert matched.genes == tuple(genes)
    assert (len(matched), matched.obs is source.obs) == (7, True)
    assert found.dtype == np.float32
    assert np.array_equal(dense(found), x[rows][:, chosen])
    if as_sparse:
        assert found.has_canonical_format
    padded = match_genes(Streamed(source) if streamed else source, ["new", *genes], allow_missing=True).read(rows)
    assert np.array_equal(dense(padded), np.column_stack([np.zeros(5), x[rows][:, chosen]]))


def test_the_same_genes_are_the_same_source():
    source = make(np.ones((2, 3), np.float32))
    assert match_genes(source, list(source.genes)) is source
    assert isinstance(match_genes(Streamed(source), ["G1"]), GeneView)
    assert match_genes(Streamed(source), ["G1"]).name == "streamed"


MOUSE = ["Gapdh", "Actb", "Cd8a", "Xist"]
HUMAN = ["GAPDH", "ACTB", "CD8A", "XIST"]
IDS = [f"ENSG0000000{i}" for i in range(1000, 1004)]
VERSIONED = [f"{name}.{i + 3}" for i, name in enumerate(IDS)]


@pytest.mark.parametrize(
    ("present", "asked", "reason"),
    [
        (MOUSE, HUMAN, "lacks 4 of the 4 genes.*4 of them are there in another case.*ACTB as Actb"),
        (VERSIONED, IDS, "there without the version suffix"),
        (IDS, VERSIONED, "there without the version suffix"),
        (HUMAN, IDS, "Asked for are Ensembl ids, and the data have gene symbols"),
        (IDS, HUMAN, "Asked for are gene symbols, and the data have Ensembl ids"),
        (HUMAN, [*HUMAN, "RP11-1.2", "MYC"], "lacks 2 of the 6 genes asked for: MYC, RP11-1.2.*allow missing"),
    ],
)
def test_missing_genes_are_explained(present, asked, reason):
    with pytest.raises(GeneError, match=reason):
        match_genes(make(np.ones((2, len(present)), np.float32), present), asked)


def test_a_few_missing_genes_may_be_allowed_but_not_all():
    source = make(np.ones((2, 4), np.float32), HUMAN)
    assert match_genes(source, ["GAPDH", "MYC"], allow_missing=True).read(np.array([0])).tolist() == [[1, 0]]
    with pytest.raises(GeneError, match="lacks 4 of the 4"):
        match_genes(source, MOUSE, allow_missing=True)


def test_genes_that_come_twice_are_refused_where_they_are_asked():
    source = make(np.ones((2, 4), np.float32), ["A", "B", "B", "C"])
    assert match_genes(source, ["C", "A"]).genes == ("C", "A")
    with pytest.raises(GeneError, match=r"In data, 1 of the genes come more than once: B \(2 times\)"):
        match_genes(source, ["A", "B"])
    with pytest.raises(GeneError, match=r"list of genes asked for.*A \(2 times\)"):
        match_genes(source, ["A", "A"])


# --- lists ------------------------------------------------------------------------------------------------------------


def test_gene_lists_are_read(tmp_path):
    path = tmp_path / "genes.txt"
    path.write_text("\ufeff# markers\nCD3E\n\n  MS4A1 # B cells\r\nCD3E\n", encoding="utf-8")
    assert read_gene_list(path) == ["CD3E", "MS4A1"]


def test_bad_gene_lists_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(GeneError, match="names no gene"):
        read_gene_list(tmp_path / "empty.txt")
    with pytest.raises(GeneError, match=r"no gene list.*Did you mean 'empty.txt'"):
        read_gene_list(tmp_path / "emty.txt")
    for path in (tmp_path / "binary.txt", tmp_path):
        with pytest.raises(GeneError, match="cannot be read"):
            read_gene_list(path)


# --- loess ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(60, 400), ties=st.booleans())
def test_loess_reproduces_parabolas_in_any_order(seed, n, ties):
    rng = np.random.default_rng(seed)
    x = np.repeat(np.linspace(-2, 3, n // 2), 2) if ties else rng.normal(size=n)
    y = 1 - 2 * x + 0.5 * x**2
    shuffled = rng.permutation(len(x))
    assert np.allclose(loess(x, y), y, atol=1e-6)
    assert np.allclose(loess(x[shuffled], y[shuffled]), y[shuffled], atol=1e-6)


@pytest.mark.parametrize("x", [[], [1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0] * 50 + [1.0]])
def test_loess_is_finite_on_few_or_equal_points(x):
    fitted = loess(np.array(x), np.ones(len(x)))
    assert np.allclose(fitted, 1, atol=1e-6)
    assert fitted.shape == (len(x),)


def test_loess_agrees_with_the_original():
    original = pytest.importorskip("skmisc.loess", reason="scikit-misc is the oracle").loess
    rng = np.random.default_rng(0)
    x = rng.gamma(2, size=2000)
    y = np.sin(x) + rng.normal(size=2000) / 5
    model = original(x, y, span=0.3, degree=2)
    model.fit()
    assert np.abs(loess(x, y) - model.outputs.fitted_values).max() < 5e-3


# --- highly variable genes --------------------------------------------------------------------------------------------


def scanpys(adata: AnnData, n_genes: int, flavor: str, batch: str | None) -> list[str]:
    scanpy = pytest.importorskip("scanpy")
    if flavor == "seurat_v3":
        pytest.importorskip("skmisc", reason="scanpy's seurat_v3 needs scikit-misc")
    table = scanpy.pp.highly_variable_genes(adata, flavor=flavor, n_top_genes=n_genes, batch_key=batch, inplace=False)
    return list(adata.var_names[table["highly_variable"]])


def log_normalised(adata: AnnData) -> AnnData:
    x = sparse.csr_matrix(adata.X, dtype=np.float64)
    scale = sparse.diags_array(1e4 / np.asarray(x.sum(1)).ravel())
    return AnnData(sparse.csr_matrix(scale @ x).log1p().astype(np.float32), obs=adata.obs, var=adata.var)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("batch", [None, "condition"])
@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat"])
def test_variable_genes_are_scanpys_on_kang(shared_data, flavor, batch):
    source = open_source(shared_data("kang_merged.h5ad"))
    adata = AnnData(source.x_ng, obs=source.obs, var=pd.DataFrame(index=list(source.genes)))
    adata = adata if flavor == "seurat_v3" else log_normalised(adata)
    labels = None if batch is None else adata.obs[batch]
    found = highly_variable(open_source(adata), 2000, batch=labels, flavor=flavor, chunk=1000)
    assert len(found) == 2000
    assert jaccard(found, scanpys(adata, 2000, flavor, batch)) >= 0.99


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("flavor", "batch"), [("seurat_v3", None), ("seurat", None), ("seurat", "louvain")])
def test_variable_genes_are_scanpys_on_pbmc68k(shared_data, flavor, batch):
    source = open_source(shared_data("pbmc68k_reduced_counts.h5ad"))
    adata = AnnData(source.x_ng, obs=source.obs, var=pd.DataFrame(index=list(source.genes)))
    adata = adata if flavor == "seurat_v3" else log_normalised(adata)
    labels = None if batch is None else adata.obs[batch]
    found = highly_variable(open_source(adata), 100, batch=labels, flavor=flavor)
    assert jaccard(found, scanpys(adata, 100, flavor, batch)) >= 0.99


def overdispersed(n_cells: int = 600, n_genes: int = 200, n_special: int = 20, seed: int = 0) -> np.ndarray:
    """Poisson genes, the first of which vary more than their mean explains."""
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(0, 1, (1, n_genes)) * np.ones((n_cells, 1))
    mean[:, :n_special] *= rng.gamma(0.5, 2, (n_cells, n_special))
    return rng.poisson(mean).astype(np.float32)


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat"])
def test_genes_that_vary_are_found(flavor):
    x = overdispersed()
    x = x if flavor == "seurat_v3" else np.log1p(x)
    found = highly_variable(make(x), 20, flavor=flavor)
    assert jaccard(found, [f"G{i}" for i in range(20)]) > 0.6


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat"])
@pytest.mark.parametrize("batched", [False, True])
def test_neither_chunks_nor_storage_nor_order_matter(flavor, batched):
    x = overdispersed()
    x = x if flavor == "seurat_v3" else np.log1p(x)
    batch = np.array(["a", "b", "c"])[np.arange(600) % 3] if batched else None
    expected = highly_variable(make(x), 50, batch=batch, flavor=flavor)
    for chunk in (7, 600, 10_000):
        source = Streamed(make(sparse.csr_matrix(x)))
        assert highly_variable(source, 50, batch=batch, chunk=chunk, flavor=flavor) == expected
        assert source.longest <= chunk
        assert source.n_read <= 2 * 600
    shuffled = np.random.default_rng(1).permutation(600)
    again = highly_variable(make(x[shuffled]), 50, batch=None if batch is None else batch[shuffled], flavor=flavor)
    assert again == expected


def test_rows_choose_the_cells():
    x = overdispersed()
    rows = np.arange(100, 400)
    batch = np.array(["a", "b"])[np.arange(600) % 2]
    assert highly_variable(make(x), 50, rows=rows) == highly_variable(make(x[rows]), 50)
    assert highly_variable(make(x), 50, batch, rows) == highly_variable(make(x[rows]), 50, batch[rows])
    assert highly_variable(make(x), 50, rows=rows) != highly_variable(make(x), 50)


def test_genes_come_in_the_sources_order_and_no_more_than_there_are():
    source = make(overdispersed())
    places = [source.genes.index(gene) for gene in highly_variable(source, 50)]
    assert places == sorted(places)
    assert highly_variable(source, 1000) == list(source.genes)


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat"])
def test_silent_and_constant_genes_are_chosen_last(flavor):
    x = overdispersed()
    x = x if flavor == "seurat_v3" else np.log1p(x)
    x[:, 50:60], x[:, 60:70] = 0, 3
    assert not {f"G{i}" for i in range(50, 70)} & set(highly_variable(make(x), 180, flavor=flavor))


def test_a_batch_of_one_cell_is_left_out():
    x = overdispersed()
    batch = np.array(["a"] * 300 + ["b"] * 299 + ["alone"])
    assert highly_variable(make(x), 50, batch) == highly_variable(make(x), 50, batch, rows=np.arange(599))
    with pytest.raises(DataError, match="too few to choose variable genes"):
        highly_variable(make(x), 50, np.arange(600))
    with pytest.raises(DataError, match="0 cells of data are too few"):
        highly_variable(make(x[:0]), 50)


def test_what_cannot_be_ranked_is_refused():
    x = overdispersed()
    for bad in (-1.0, np.nan, np.inf):
        broken = x.copy()
        broken[3, 3] = bad
        with pytest.raises(DataError, match="data holds negative, missing or infinite values"):
            highly_variable(make(broken), 50)
    with pytest.raises(DataError, match="too large for logarithms"):
        highly_variable(make(x * 1000), 50, flavor="seurat")
    with pytest.raises(DataError, match="3 batch labels for the 600 cells"):
        highly_variable(make(x), 50, batch=["a", "b", "c"])
    with pytest.raises(DataError, match=r"no flavor 'seurat_v4'.*Did you mean 'seurat_v3'"):
        highly_variable(make(x), 50, flavor="seurat_v4")
    with pytest.raises(GeneError, match="n_genes=0"):
        highly_variable(make(x), 0)
