"""Variable genes are those of scanpy, whoever adds the sums up."""

from __future__ import annotations

import multiprocessing
import pickle
import tracemalloc
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from tests.io.streamed import Streamed, make

from genevae.errors import DataError, GeneError, RunError
from genevae.io.formats import MemorySource, ReadOptions, open_source
from genevae.io.gene_lists import read_gene_list, write_gene_list
from genevae.io.source import Panels
from genevae.preprocessing.hvg import highly_variable
from genevae.preprocessing.map_chunks import map_chunks, sum_groups


def jaccard(one, other) -> float:
    return len(set(one) & set(other)) / len(set(one) | set(other))


# --- scanpy is the oracle ---------------------------------------------------------------------------------------------


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


SMALL, LARGE = "pbmc68k_reduced_counts.h5ad", "kang_merged.h5ad"


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "flavor", "batch"),
    [
        (SMALL, "seurat_v3", None),
        (SMALL, "seurat", None),
        (SMALL, "seurat", "louvain"),  # scanpy's seurat_v3 fails on clusters as small as these
        (SMALL, "seurat", "phase"),
        (LARGE, "seurat_v3", None),
        (LARGE, "seurat_v3", "condition"),
        (LARGE, "seurat_v3", "subset"),
        (LARGE, "seurat", None),
        (LARGE, "seurat", "condition"),
        (LARGE, "seurat", "donor"),
        (LARGE, "seurat", "cell_type"),
    ],
)
def test_variable_genes_are_scanpys(shared_data, name, flavor, batch):
    source = open_source(ReadOptions(path=shared_data(name), keep="memory"))
    adata = AnnData(source.read(np.arange(len(source))), obs=source.obs, var=pd.DataFrame(index=list(source.genes)))
    adata = adata if flavor == "seurat_v3" else log_normalised(adata)
    labels = None if batch is None else adata.obs[batch]
    for n_genes in (100, 300, 500) if name == SMALL else (500, 1000, 2000):
        found = highly_variable(open_source(adata), n_genes, batch=labels, flavor=flavor, chunk=1000)
        assert len(found) == n_genes
        assert jaccard(found, scanpys(adata, n_genes, flavor, batch)) >= 0.99, n_genes


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_where_scores_are_tied_they_are_scanpys_with_a_stable_sort(shared_data, monkeypatch):
    source = open_source(ReadOptions(path=shared_data(SMALL), keep="memory"))
    adata = AnnData(source.read(np.arange(len(source))), obs=source.obs, var=pd.DataFrame(index=list(source.genes)))
    sort = np.argsort
    monkeypatch.setattr(np, "argsort", lambda a, axis=-1, **_: sort(a, axis=axis, kind="stable"))
    expected = scanpys(adata, 300, "seurat_v3", "phase")
    monkeypatch.undo()
    assert set(highly_variable(open_source(adata), 300, batch=adata.obs["phase"])) == set(expected)


# --- laws -------------------------------------------------------------------------------------------------------------


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
    with pytest.raises(DataError, match="too few to select variable genes"):
        highly_variable(make(x), 50, np.arange(600))
    with pytest.raises(DataError, match="0 cells of data are too few"):
        highly_variable(make(x[:0]), 50)


def test_what_cannot_be_ranked_is_refused():
    x = overdispersed()
    for bad in (-1.0, np.nan, np.inf):
        broken = x.copy()
        broken[3, 3] = bad
        with pytest.raises(DataError, match="data has negative, missing or infinite values"):
            highly_variable(make(broken), 50)
    with pytest.raises(DataError, match="too large for logarithms"):
        highly_variable(make(x * 1000), 50, flavor="seurat")
    with pytest.raises(DataError, match="3 batch labels for the 600 cells"):
        highly_variable(make(x), 50, batch=["a", "b", "c"])
    with pytest.raises(DataError, match=r"Unknown flavor 'seurat_v4'.*Did you mean 'seurat_v3'"):
        highly_variable(make(x), 50, flavor="seurat_v4")
    with pytest.raises(GeneError, match="n_genes must be a positive number, not 0"):
        highly_variable(make(x), 0)


def test_genes_count_in_the_cells_where_they_were_measured():
    x = overdispersed()
    x[300:, 10:15] = 0  # not measured there, and read as zero
    measured_pg = np.ones((2, 200), dtype=bool)
    measured_pg[1, 10:15] = False
    source = make(x)
    whole = MemorySource(source.name, x, source.genes, source.obs, {}, Panels(np.arange(600) // 300, measured_pg))
    everywhere = Panels(np.zeros(600, dtype=np.int64), np.ones((1, 200), dtype=bool))
    plain = MemorySource(source.name, x, source.genes, source.obs, {}, everywhere)
    assert highly_variable(plain, 50) == highly_variable(source, 50)
    batch = np.repeat(["a", "b"], 300)
    half = highly_variable(make(x[:300]), 20)
    special = {f"G{i}" for i in range(10, 15)} & set(half)
    assert special
    assert special <= set(highly_variable(whole, 20, rows=np.arange(600)))
    assert highly_variable(whole, 20, batch, rows=np.arange(300)) == half


# --- workers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(3) as pool:
        yield pool


class Later(Executor):
    """Does nothing until it is asked for the result; keeps what was sent, and how much waited at once."""

    _max_workers = 2

    def __init__(self) -> None:
        self.n_waiting, self.most, self.sent = 0, 0, []

    def submit(self, work, /, *arguments):
        self.sent.append(len(pickle.dumps(arguments)))
        self.n_waiting += 1
        self.most = max(self.most, self.n_waiting)
        later = Future()

        def result(timeout=None):
            self.n_waiting -= 1
            return work(*arguments)

        later.result = result
        return later


def total(source, group_n, executor, chunk: int = 7) -> np.ndarray:
    total_bg = np.zeros((3, len(source.genes)))
    for part in map_chunks(sum_groups, source, np.arange(len(source)), group_n.__getitem__, chunk, executor):
        part.add_to(total_bg)
    return total_bg


@given(seed=st.integers(0, 2**31), n=st.integers(1, 60), as_sparse=st.booleans())
def test_sums_by_group_are_numpys_and_the_same_bits_for_any_workers(threads, seed, n, as_sparse):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(n, 5)) * rng.integers(0, 2, (n, 5))).astype(np.float32)
    source, group_n = make(sparse.csr_matrix(x) if as_sparse else x), rng.integers(0, 3, n)
    found = total(source, group_n, None)
    assert np.allclose(found, [x[group_n == group].sum(axis=0, dtype=np.float64) for group in range(3)])
    for executor in (threads, Later()):
        assert total(source, group_n, executor).tobytes() == found.tobytes()


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat"])
def test_processes_and_threads_choose_the_same_genes(processes, threads, tmp_path, flavor):
    x = overdispersed(300)
    x = sparse.csr_matrix(x if flavor == "seurat_v3" else np.log1p(x))
    memory = make(x)
    AnnData(x, obs=memory.obs, var=pd.DataFrame(index=list(memory.genes))).write_h5ad(tmp_path / "x.h5ad")
    disk = open_source(ReadOptions(path=tmp_path / "x.h5ad", keep="disk"))
    batch, group_n = np.arange(300) % 2, np.arange(300) % 3
    expected, bits = highly_variable(memory, 30, batch, chunk=100, flavor=flavor), total(memory, group_n, None, 100)
    for source in (memory, disk, Streamed(memory)):
        for executor in (processes, threads):
            found = highly_variable(source, 30, batch, chunk=100, flavor=flavor, executor=executor)
            assert found == expected
            assert total(source, group_n, executor, 100).tobytes() == bits.tobytes()


def test_workers_are_sent_the_rows_or_the_file_but_never_the_whole_matrix(tmp_path):
    x = np.random.default_rng(0).normal(size=(4000, 100)).astype(np.float32) + 9
    source, later = make(x), Later()
    total(source, np.zeros(4000, np.int64), later, 100)
    assert len(later.sent) == 40
    assert max(later.sent) < 2 * 100 * x[0].nbytes
    AnnData(x, obs=source.obs, var=pd.DataFrame(index=list(source.genes))).write_h5ad(tmp_path / "x.h5ad")
    later = Later()
    total(open_source(ReadOptions(path=tmp_path / "x.h5ad", keep="disk")), np.zeros(4000, np.int64), later, 100)
    assert max(later.sent) < 100 * x[0].nbytes / 2


def test_few_chunks_are_under_way_at_once():
    later = Later()
    total(make(np.ones((100, 2), np.float32)), np.zeros(100, np.int64), later, 5)
    assert later.most == 3


def test_errors_of_workers_are_told(threads, processes):
    x = overdispersed(300)
    x[250, 0] = -1
    for executor in (threads, processes):
        with pytest.raises(DataError, match="data has negative, missing or infinite values"):
            highly_variable(make(x), 50, chunk=50, executor=executor)

    class Broken(Executor):
        def submit(self, work, /, *arguments):
            raise BrokenExecutor("a process was killed")

    with pytest.raises(DataError, match=r"A worker died while it read data.*Use fewer workers"):
        highly_variable(make(x), 50, executor=Broken())


class Virtual:
    """Many cells, made as they are read."""

    name, genes, aliases, panels = "virtual", tuple(f"G{i}" for i in range(200)), {}, None
    tile = overdispersed(997)

    def __init__(self, n: int) -> None:
        self.n, self.obs = n, pd.DataFrame()

    def __len__(self) -> int:
        return self.n

    def read(self, rows):
        return self.tile[rows % 997]


def peak_bytes(n: int, executor: Executor | None) -> int:
    batch = np.array([b"a", b"b"])[np.arange(n) % 2]
    tracemalloc.start()
    highly_variable(Virtual(n), 50, batch, chunk=2000, executor=executor)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_cells():
    matrix = 200_000 * 200 * 4
    with ThreadPoolExecutor(2) as pool:
        few, many, by_two = peak_bytes(20_000, None), peak_bytes(200_000, None), peak_bytes(200_000, pool)
    per_cell = 60  # bytes of row numbers and batch labels
    assert many < few + 180_000 * per_cell < matrix / 3
    assert by_two < 3 * few + 180_000 * per_cell


# --- lists ------------------------------------------------------------------------------------------------------------


def test_gene_lists_are_written_as_they_are_read(tmp_path):
    path, genes = tmp_path / "new" / "genes.txt", ["CD3E", "HLA-DRA", "MT-CO1 like"]
    write_gene_list(genes, path, flavor="seurat_v3", source="some\nfile.h5ad")
    assert path.read_text().splitlines()[0] == "# 3 genes; flavor seurat_v3; from some file.h5ad"
    assert read_gene_list(path) == genes
    write_gene_list(genes[:1], path)
    assert path.read_text() == "# 1 gene\nCD3E\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["genes.txt"]


@pytest.mark.parametrize(
    ("genes", "reason"),
    [
        ([], "there are none"),
        (["A", "A"], "1 are repeated"),
        (["A#1"], r"1 contain '#'.*'A#1'"),
        ([" A"], "outer spaces"),
        (["A\nB"], "line ends"),
        ([""], "1 contain"),
    ],
)
def test_gene_lists_that_would_not_be_read_back_are_refused(tmp_path, genes, reason):
    with pytest.raises(GeneError, match=reason):
        write_gene_list(genes, tmp_path / "genes.txt")
    assert not list(tmp_path.iterdir())


def test_a_gene_list_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Nothing can be written"):
        write_gene_list(["A"], tmp_path / "file" / "genes.txt")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
