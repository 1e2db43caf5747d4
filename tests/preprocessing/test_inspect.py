"""The inspection tells what data are, and what is wrong with them."""

from __future__ import annotations

import gc
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from genevae.data.covariates import Categorical
from genevae.data.value_kind import Kind, probe
from genevae.errors import DataError, RecipeError
from genevae.io.formats import open_source
from genevae.io.source import MemorySource
from genevae.preprocessing.inspect import Inspection, check_likelihood, detect_kind, inspect
from genevae.preprocessing.obs_summary import field_specifications

N_CELLS, N_GENES = 200, 300


def draw_counts(seed: int = 0, n_cells: int = N_CELLS, depth: float = 1.0, theta: float | None = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(0, 0.4, (n_cells, 1)) * rng.lognormal(-0.5, 1.2, N_GENES) * depth
    return rng.poisson(mean if theta is None else mean * rng.gamma(theta, 1 / theta, mean.shape)).astype(np.float32)


def normalise(counts: np.ndarray, target: float) -> np.ndarray:
    return (counts / counts.sum(1, keepdims=True) * target).astype(np.float32)


def texts(inspection: Inspection, level: str) -> str:
    return "\n".join(finding.text for finding in inspection.findings if finding.level == level)


KINDS = {
    "counts": (Kind.COUNTS, lambda x: x),
    "almost whole counts": (Kind.COUNTS, lambda x: np.expm1(np.log1p(x.astype(np.float64)))),
    "expected counts": (
        Kind.FRACTIONAL,
        lambda x: np.where(np.random.default_rng(1).random(x.shape) < 0.4, x, x * 1.37 + 0.01 * (x > 0)),
    ),
    "deep fractional": (Kind.FRACTIONAL, lambda x: x * np.random.default_rng(1).lognormal(3, 0.3, x.shape)),
    "CPM": (Kind.NORMALISED, lambda x: normalise(x, 1e6)),
    "CP10k of some genes": (Kind.NORMALISED, lambda x: normalise(x, 1e5)[:, : N_GENES // 3]),
    "proportions": (Kind.NORMALISED, lambda x: normalise(x, 1.0)),
    "TPM": (Kind.NORMALISED, lambda x: normalise(x * np.random.default_rng(2).lognormal(0, 1, x.shape), 1e6)),
    "log CP10k": (Kind.LOG, lambda x: np.log1p(normalise(x, 1e4))),
    "log CP10k of some genes": (Kind.LOG, lambda x: np.log1p(normalise(x, 1e4))[:, : N_GENES // 3]),
    "log2 TPM": (
        Kind.LOG,
        lambda x: np.log2(1 + normalise((x + 0.1) * np.random.default_rng(2).lognormal(0, 1, x.shape), 1e6)),
    ),
    "log10 CPM": (Kind.LOG, lambda x: np.log10(1 + normalise(x, 1e6))),
    "scaled": (Kind.SCALED, lambda x: (np.log1p(x) - np.log1p(x).mean(0)) / (np.log1p(x).std(0) + 1e-3)),
}


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_kinds_are_told_apart(name, as_sparse):
    kind, change = KINDS[name]
    for seed in range(3):
        x = change(draw_counts(seed)).astype(np.float32)
        assert detect_kind(sparse.csr_matrix(x) if as_sparse else x) is kind


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 40), dtype=st.sampled_from([np.int32, np.float32, np.float64]))
def test_whole_numbers_are_counts_whatever_their_type(seed, n, dtype):
    x = np.random.default_rng(seed).negative_binomial(0.4, 0.01, (n, 20)).astype(dtype)
    assert detect_kind(x) is Kind.COUNTS
    assert detect_kind(sparse.csr_matrix(x)) is Kind.COUNTS


@pytest.mark.parametrize("name", ["bulk_airway_inmoose", "kang_merged", "mixology_celllines", "pbmc_3tech_symphony"])
def test_real_data_keep_their_kind_through_processing(shared_data, name):
    source = open_source(shared_data(f"{name}.h5ad"))
    x = source.read(np.arange(min(len(source), 400)))
    x = (x.toarray() if sparse.issparse(x) else x).astype(np.float64)
    some = np.random.default_rng(0).permutation(x.shape[1])[: x.shape[1] // 2]
    assert detect_kind(x) is Kind.COUNTS
    assert detect_kind(normalise(x, 1e4)) is Kind.NORMALISED
    assert detect_kind(np.log1p(normalise(x, 1e4))) is Kind.LOG
    assert detect_kind(np.log1p(normalise(x, 1e4))[:, some]) is Kind.LOG
    assert detect_kind(np.log2(1 + normalise(x, 1e6))) is Kind.LOG


def test_scanpys_own_example():
    scanpy = pytest.importorskip("scanpy")
    adata = scanpy.datasets.pbmc68k_reduced()
    assert inspect(adata).kind is Kind.SCALED
    raw = inspect(adata, layer="raw")
    assert (raw.kind, raw.recipe, raw.storage) == (Kind.LOG, "conditional", "csr")


def test_a_probe_reads_a_bounded_sample():
    class Counting:
        def __init__(self) -> None:
            self.inner, self.rows = open_source(AnnData(draw_counts())), []

        def __len__(self) -> int:
            return len(self.inner)

        def read(self, rows):
            self.rows.append(rows)
            return self.inner.read(rows)

    first, second = Counting(), Counting()
    assert probe(first, n_cells=50, seed=3) is Kind.COUNTS
    probe(second, n_cells=50, seed=3)
    assert len(first.rows[0]) == 50
    assert (np.diff(first.rows[0]) > 0).all()
    assert np.array_equal(first.rows[0], second.rows[0])


# --- numbers and recipes ----------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_data(tmp_path):
    x = draw_counts()
    obs = pd.DataFrame({"donor": ["a", "b"] * 100, "age": np.arange(200) / 2}, index=[f"c{i}" for i in range(200)])
    adata = AnnData(sparse.csc_matrix(x), obs=obs)
    assert inspect(adata).storage == "csc"
    assert "CSC" in texts(inspect(adata), "note")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    found = inspect(tmp_path / "cells.h5ad")
    assert (found.n_cells, found.n_genes, found.n_sampled) == (N_CELLS, N_GENES, N_CELLS)
    assert found.density == pytest.approx((x > 0).mean())
    assert found.median_size == pytest.approx(np.median(x.sum(1)))
    assert found.max_value == x.max()
    assert found.covariates == {"donor": 2, "age": (0.0, 99.5)}
    assert found.name == str(tmp_path / "cells.h5ad")


def test_a_sample_says_that_it_is_one():
    found = inspect(AnnData(draw_counts()), n_cells=20)
    assert found.n_sampled == 20
    assert "in a sample of 20 cells" in str(found)
    assert found == inspect(AnnData(draw_counts()), n_cells=20)
    with pytest.raises(DataError, match="not 0"):
        inspect(AnnData(draw_counts()), n_cells=0)


@pytest.mark.parametrize(
    ("change", "recipe"),
    [
        ("counts", "nb"),
        ("log CP10k", "conditional"),
        ("scaled", "gaussian"),
        ("CPM", "gaussian"),
        ("expected counts", "gaussian"),
    ],
)
def test_recipes_fit_the_kind(change, recipe):
    assert inspect(AnnData(KINDS[change][1](draw_counts()).astype(np.float32))).recipe == recipe


def test_poisson_is_suggested_only_where_variance_is_the_mean():
    assert inspect(AnnData(draw_counts(n_cells=1500, theta=None))).recipe == "poisson"
    assert inspect(AnnData(draw_counts(n_cells=1500, theta=1.0))).recipe == "nb"


def test_the_summary_reads_well(shared_data):
    text = str(inspect(shared_data("kang_merged.h5ad")))
    for words in ("4,856 cells", "4,805 genes", "counts", "condition  2 levels", "--recipe nb"):
        assert words in text
    assert all(len(line) <= 110 for line in text.splitlines()[1:])


# --- findings ---------------------------------------------------------------------------------------------------------


def test_good_counts_have_no_findings():
    assert inspect(AnnData(draw_counts(depth=20))).findings == ()


def test_broken_values_are_errors():
    x = draw_counts()
    x[0, 0], x[1, 1] = np.nan, np.inf
    for broken in (x, sparse.csr_matrix(x)):
        found = inspect(AnnData(broken))
        assert "2 values are NaN or infinite" in texts(found, "error")
        assert found.kind is Kind.COUNTS
        assert np.isfinite([found.max_value, found.median_size]).all()


@pytest.mark.parametrize("x", [np.zeros((5, 4), np.float32), sparse.csr_matrix((5, 4), dtype=np.float32)])
def test_zeros_are_an_error(x):
    assert "all values are zero" in texts(inspect(AnnData(x)), "error")


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_nothing_is_an_error(shape):
    found = inspect(AnnData(np.zeros(shape, np.float32)))
    assert f"{shape[0]} cells and {shape[1]} genes" in texts(found, "error")
    assert str(found)


def test_negative_values_are_judged():
    x = draw_counts()
    damaged = x.copy()
    damaged[0, :3] = -1
    assert "damaged" in texts(inspect(AnnData(damaged)), "error")
    scaled = KINDS["scaled"][1](x)
    assert "centred" in texts(inspect(AnnData(scaled)), "note")
    assert "not centred" in texts(inspect(AnnData(np.log(x + 0.01))), "warning")


def test_doubtful_counts_are_warned_of():
    x = draw_counts()
    assert "not integers" in texts(inspect(AnnData(KINDS["expected counts"][1](x).astype(np.float32))), "warning")
    assert "binary" in texts(inspect(AnnData((x > 0).astype(np.float32))), "warning")
    assert "nearly equal" in texts(inspect(AnnData(np.round(normalise(x, 1e6)))), "warning")
    large = inspect(AnnData(x * np.float32(2**20)))
    assert "float32" in texts(large, "warning")
    assert "very large" in texts(large, "note")


def test_empty_cells_and_genes_are_counted():
    x = draw_counts(depth=20)
    x[:3] = 0
    x[:, :5] = 0
    found = inspect(AnnData(x))
    assert "3 of all cells are empty" in texts(found, "warning")
    assert "5 genes are zero in all cells" in texts(found, "note")


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_repeated_names_are_found():
    adata = AnnData(draw_counts())
    adata.var_names = ["A", "A", *[f"G{i}" for i in range(N_GENES - 2)]]
    adata.obs_names = ["c"] * 5 + [f"c{i}" for i in range(N_CELLS - 5)]
    found = inspect(adata)
    assert "1 gene names occur more than once: A" in texts(found, "warning")
    assert "4 cell names are repeated" in texts(found, "note")


def test_poor_covariates_are_found():
    adata = AnnData(draw_counts())
    adata.obs["tissue"] = pd.Categorical(["blood"] * N_CELLS, categories=["blood", "bone"])
    adata.obs["barcode"] = [f"AC{i}" for i in range(N_CELLS)]
    adata.obs["donor"] = [None] * 7 + ["a", "b", "c"] * 64 + ["a"]
    adata.obs["age"] = [np.nan] * N_CELLS
    found = inspect(adata)
    assert found.covariates["donor"] == 3
    assert "obs['tissue'] has a single level" in texts(found, "note")
    assert "obs['barcode'] differs in every cell" in texts(found, "note")
    assert "obs['donor'] is missing in 7 of 200" in texts(found, "warning")
    assert "donor" not in texts(found, "note")


def test_the_gravest_come_first():
    x = draw_counts()
    x[0] = 0
    x[1, 1] = np.nan
    levels = [finding.level for finding in inspect(AnnData(x)).findings]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert {"error", "warning"} <= set(levels)


def test_the_users_data_are_untouched():
    x = sparse.csr_matrix(draw_counts())
    x.data[0] = np.nan
    adata = AnnData(x.copy())
    inspect(adata)
    assert np.array_equal(adata.X.data, x.data, equal_nan=True)
    assert np.array_equal(adata.X.indices, x.indices)


# --- likelihoods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_count_likelihoods_want_counts(kind):
    check_likelihood(kind, needs_counts=False, recipe="conditional", name="cells.h5ad")
    if kind is Kind.COUNTS:
        check_likelihood(kind, needs_counts=True, recipe="nb", name="cells.h5ad")
        return
    with pytest.raises(RecipeError, match=rf"cells\.h5ad has {kind}.*'nb'.*--layer counts.*--recipe conditional"):
        check_likelihood(kind, needs_counts=True, recipe="nb", name="cells.h5ad")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["age", "__no_feature"], "age, __no_feature among the genes describe samples"),
        (["1-Mar", "2023-09-02", "2.31E+13"], "3 gene names are dates or numbers that a spreadsheet made"),
        (["", "nan"], "2 genes have no name"),
        ([" TP53"], "1 gene names have spaces around them, such as ' TP53'"),
    ],
)
def test_names_that_are_no_genes_are_reported(names, message):
    genes = [f"G{at}" for at in range(N_GENES)]
    assert "gene" not in texts(inspect(AnnData(draw_counts(), var=pd.DataFrame(index=genes))), "warning")
    genes[: len(names)] = names
    assert message in texts(inspect(AnnData(draw_counts(), var=pd.DataFrame(index=genes))), "warning")


def test_few_genes_with_other_values_are_named():
    counts = draw_counts()
    counts[:, 7] += np.random.default_rng(1).random(N_CELLS) + 1
    found = texts(inspect(AnnData(counts, var=pd.DataFrame(index=[f"G{at}" for at in range(N_GENES)]))), "warning")
    assert "all genes have integers, except G7: are these metadata" in found


# --- what else the data hold ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["memory", "h5ad"])
def test_other_matrices_are_listed_with_what_they_hold_and_that_can_be_used(place, tmp_path):
    x = draw_counts()
    adata = AnnData(np.log1p(normalise(x, 1e4)).astype(np.float32), layers={"umis": sparse.csr_matrix(x)})
    adata.raw = AnnData(x.astype(np.float32))
    adata.obsm["X_pca"] = np.zeros((N_CELLS, 3))
    data: Any = adata
    if place != "memory":
        data = tmp_path / f"cells.{place}"
        adata.write_h5ad(data)
    found = inspect(data)
    assert found.layers == {"umis": f"counts, {N_GENES} genes", "raw": f"counts, {N_GENES} genes"}
    assert found.obsm == {"X_pca": 3}
    assert "'umis' has counts" in texts(found, "note")
    assert "--layer umis, or layer='umis'" in str(found)
    for layer in found.layers:
        chosen = inspect(data, layer=layer)
        assert chosen.kind is Kind.COUNTS
        assert chosen.layers["X"] == f"log-normalised, {N_GENES} genes"
        assert layer not in chosen.layers
        assert "has counts" not in texts(chosen, "note")


def test_figures_are_of_all_cells_and_categories_are_counted():
    x = draw_counts(n_cells=3000)
    x[2999, 0] = 10_000
    kinds = ["a"] * 1500 + ["b"] * 1400 + [f"c{i}" for i in range(100)]
    found = inspect(AnnData(x, obs=pd.DataFrame({"kind": kinds}, index=[f"c{i}" for i in range(3000)])))
    assert (found.n_sampled, found.max_value) == (3000, 10_000)
    assert found.density == pytest.approx((x > 0).mean())
    assert found.median_size == pytest.approx(np.median(x.sum(1)))
    assert found.categories["kind"] == {"a": 1500, "b": 1400} | dict.fromkeys(list(found.categories["kind"])[2:], 1)
    assert "kind  102 levels: a 1,500, b 1,400, " in str(found)
    assert "and 97 more" in " ".join(str(found).split())


def test_the_representation_fits_a_screen_and_is_no_code():
    obs = pd.DataFrame({f"column {i} <b>": ["a", "b"] * 100 for i in range(60)}, index=[f"c{i}" for i in range(200)])
    found = inspect(AnnData(draw_counts(), obs=obs))
    assert len(repr(found).splitlines()) <= 24 < len(str(found).splitlines())
    assert repr(found).splitlines()[-1].endswith(f"all {len(str(found).splitlines())} lines")
    assert "column 59 &lt;b&gt;" in found._repr_html_()


@given(st.lists(st.integers(-1, 6), min_size=3, max_size=60), st.sampled_from(["T{}", "{}", "1.{}"]))
def test_categories_are_counted_as_their_texts_are(codes: list[int], spelling: str) -> None:
    levels = [spelling.format(i) for i in range(8)]  # one of them in no cell
    texts = np.array([*levels, None], dtype=object)[codes]
    x_ng = np.ones((len(codes), 2), dtype=np.float32)
    names = [f"c{i}" for i in range(len(codes))]
    found = [
        inspect(MemorySource("x", x_ng, ("a", "b"), pd.DataFrame({"type": column}, index=names)))
        for column in (pd.Categorical.from_codes(codes, levels), texts)
    ]
    assert found[0].covariates == found[1].covariates
    assert list(found[0].categories["type"].items()) == list(found[1].categories["type"].items())
    assert found[0].findings == found[1].findings


@pytest.mark.parametrize("n_twice", [0, 3])
def test_repeated_names_are_counted(n_twice: int) -> None:
    names = [f"c{i}" for i in range(20)] + ["c0"] * n_twice
    source = MemorySource("x", np.ones((len(names), 2), dtype=np.float32), ("a", "b"), pd.DataFrame(index=names))
    notes = texts(inspect(source), "note")
    assert ("3 cell names are repeated" in notes) == (n_twice == 3)
    assert ("cell names are repeated" in notes) == (n_twice > 0)


def test_nothing_of_the_size_of_all_names_is_kept() -> None:
    n = 50_000
    columns = {"type": pd.Categorical(["a", "b"] * (n // 2)), "dose": np.arange(n), "donor": ["x", None] * (n // 2)}
    obs = pd.DataFrame(columns, index=[f"c{i}" for i in range(n)])
    source = MemorySource("x", np.ones((n, 2), dtype=np.float32), ("a", "b"), obs)
    inspect(MemorySource("x", np.ones((30, 2), dtype=np.float32), ("a", "b"), obs.iloc[:30]))
    tracemalloc.start()
    try:
        inspect(source)
        field_specifications(obs)
        for name in ("type", "donor"):
            Categorical.fit(obs[name], unknown=True).encode(obs[name])
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 8 * n
    finally:
        tracemalloc.stop()


def test_a_zarr_store_is_described_as_the_same_h5ad_file(tmp_path):
    adata = AnnData(draw_counts(), layers={"other": draw_counts(1)}, obsm={"X_pca": np.zeros((N_CELLS, 7))})
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with warnings.catch_warnings(action="ignore"):  # of other formats in later versions of anndata
        adata.write_zarr(tmp_path / "cells.zarr")
    h5ad, zarr = (repr(inspect(tmp_path / f"cells.{suffix}")).split(": ", 1)[1] for suffix in ("h5ad", "zarr"))
    assert "X_pca" in zarr
    assert "other" in zarr
    assert zarr == h5ad
