"""Pseudobulk: sums are those of pandas and scanpy, and mixtures are the cells that were drawn."""

from __future__ import annotations

import multiprocessing
import tracemalloc
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import genevae.preprocessing.pseudobulk as module
from genevae.errors import CategoryError, DataError
from genevae.io.formats import MemorySource, ReadOptions, open_source
from genevae.io.source import Panels
from genevae.preprocessing.pseudobulk import mixtures, pseudobulk


def make(n: int = 60, seed: int = 0, counts: bool = True) -> AnnData:
    """Cells of three donors and two types, of which donor d3 has one only."""
    rng = np.random.default_rng(seed)
    donor = rng.choice(["d1", "d2", "d3"], n)
    kind = np.where(donor == "d3", "T", rng.choice(["B", "T"], n))
    x = rng.poisson(2, (n, 6)) if counts else rng.normal(size=(n, 6))
    obs = pd.DataFrame(
        {
            "kind": pd.Categorical(kind),
            "donor": donor,
            "sex": pd.Categorical(pd.Series(donor).map({"d1": "f", "d2": "m", "d3": "f"})),
            "age": pd.Series(donor).map({"d1": 30.5, "d2": 41.0, "d3": np.nan}).to_numpy(),
            "depth": rng.normal(size=n),
        },
        index=[f"c{i}" for i in range(n)],
    )
    adata = AnnData(
        sparse.csr_matrix(x.astype(np.float32)), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(6)])
    )
    adata.layers["twice"] = adata.X * 2
    return adata


def by_pandas(adata: AnnData, by: list[str], how: str) -> pd.DataFrame:
    frame = pd.DataFrame(np.asarray(adata.X.todense(), dtype=np.float64), columns=list(adata.var_names))
    keys = [adata.obs[name].astype(str).to_numpy() for name in by]
    return frame.groupby(keys, observed=True, sort=True).agg(how)


@pytest.fixture(scope="module")
def pools():
    context = multiprocessing.get_context("spawn")
    with ThreadPoolExecutor(3) as threads, ProcessPoolExecutor(2, mp_context=context) as processes:
        yield threads, processes


# --- sums by group ----------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**31), n=st.integers(1, 50), counts=st.booleans(), how=st.sampled_from(["sum", "mean"]))
def test_groups_are_those_of_pandas(seed, n, counts, how):
    adata = make(n, seed, counts)
    found, expected = pseudobulk(adata, by=["donor", "kind"], how=how), by_pandas(adata, ["donor", "kind"], how)
    assert list(found.obs_names) == ["|".join(key) for key in expected.index]
    assert np.allclose(found.X, expected.to_numpy(), rtol=1e-12)
    assert list(found.var_names) == list(adata.var_names)
    assert found.obs["n_cells"].tolist() == adata.obs.groupby(["donor", "kind"], observed=True).size().tolist()
    if counts and how == "sum":
        assert found.X.dtype == np.float32
        assert np.array_equal(found.X.sum(axis=0), np.asarray(adata.X.sum(axis=0)).ravel())


@given(seed=st.integers(0, 2**31), chunk=st.integers(1, 70))
def test_the_order_of_cells_does_not_matter(seed, chunk):
    adata, shuffled = make(), np.random.default_rng(seed).permutation(60)
    expected = pseudobulk(adata, by=["kind"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        found = pseudobulk(adata[shuffled], by=["kind"])
    assert np.array_equal(found.X, expected.X)
    pd.testing.assert_frame_equal(found.obs, expected.obs)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["sum", "mean"])
def test_kang_by_donor_and_type_is_scanpys(shared_data, how):
    scanpy = pytest.importorskip("scanpy")
    path = shared_data("kang_merged.h5ad")
    found = pseudobulk(ReadOptions(path=path, keep="disk"), by=["donor", "cell_type"], how=how, min_cells=10)
    adata = anndata.read_h5ad(path)
    for name in ("donor", "cell_type"):
        adata.obs[name] = adata.obs[name].astype("category")
    theirs = scanpy.get.aggregate(adata, ["donor", "cell_type"], how)
    names = theirs.obs["donor"].astype(str) + "|" + theirs.obs["cell_type"].astype(str)
    sizes = (adata.obs["donor"].astype(str) + "|" + adata.obs["cell_type"].astype(str)).value_counts()
    assert sorted(found.obs_names) == sorted(sizes.index[sizes >= 10])
    assert 20 < found.n_obs < len(sizes)
    assert found.obs["n_cells"].tolist() == sizes[found.obs_names].tolist()
    expected = np.asarray(theirs.layers[how])[pd.Index(names).get_indexer(found.obs_names)]
    assert np.allclose(found.X, expected, rtol=1e-6)
    if how == "sum":
        assert np.array_equal(found.X, expected)
        everything = pseudobulk(path, by=["donor", "cell_type"])
        assert np.array_equal(everything.X.sum(axis=0), np.asarray(adata.X.sum(axis=0, dtype=np.float64)).ravel())


def test_the_table_holds_what_is_constant_in_every_group(tmp_path):
    found = pseudobulk(make(), by=["donor", "kind"])
    assert list(found.obs) == ["donor", "kind", "n_cells", "sex", "age"]
    assert found.obs["donor"].cat.categories.tolist() == ["d1", "d2", "d3"]
    assert found.obs["sex"].tolist() == ["f", "f", "m", "m", "f"]
    assert found.obs["age"].isna().tolist() == [False] * 4 + [True]
    assert list(pseudobulk(make(), by=["kind"]).obs) == ["kind", "n_cells"]
    found.write_h5ad(tmp_path / "bulk.h5ad")
    again = anndata.read_h5ad(tmp_path / "bulk.h5ad")
    assert np.array_equal(again.X, found.X)
    assert again.uns["genevae"]["pseudobulk"] == "sum"
    assert list(again.uns["genevae"]["by"]) == ["donor", "kind"]


def test_one_name_a_layer_and_other_kinds_of_values():
    adata = make()
    assert np.array_equal(pseudobulk(adata, by="donor", layer="twice").X, 2 * pseudobulk(adata, by=["donor"]).X)
    adata.obs["lane"] = np.arange(60) % 12
    assert pseudobulk(adata, by=["lane", "lane"]).obs["lane"].tolist() == list(range(12))
    adata.obs["odd"] = pd.Series(["x", 1, 2.5], dtype=object).to_numpy()[np.arange(60) % 3]
    assert list(pseudobulk(adata, by=["odd"]).obs_names) == ["1", "2.5", "x"]
    adata.obs["bar"] = np.where(adata.obs["donor"] == "d1", "a|b", "a")
    adata.obs["end"] = np.where(adata.obs["donor"] == "d1", "c", "b|c")
    assert pseudobulk(adata, by=["bar", "end"]).obs_names.is_unique


def test_values_that_float32_cannot_hold_stay_float64():
    adata = make(2)
    adata.obs["all"] = "one"
    adata.X = np.array([[2.0**24, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]], dtype=np.float32)
    found = pseudobulk(adata, by=["all"])
    assert found.X.dtype == np.float64
    assert found.X[0, 0] == 2**24 + 1


def test_workers_change_no_bit(pools, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 7)
    adata = make(counts=False)
    adata.write_h5ad(tmp_path / "x.h5ad")
    expected = pseudobulk(adata, by=["donor"])
    mixed = mixtures(adata, by="kind", n=5, cells=20)
    for executor in pools:
        for data in (adata, ReadOptions(path=tmp_path / "x.h5ad", keep="disk")):
            assert pseudobulk(data, by=["donor"], executor=executor).X.tobytes() == expected.X.tobytes()
            assert mixtures(data, by="kind", n=5, cells=20, executor=executor).X.tobytes() == mixed.X.tobytes()


class Virtual:
    """Many cells, made as they are read."""

    name, genes, aliases, panels = "virtual", tuple(f"G{i}" for i in range(200)), {}, None
    tile = np.random.default_rng(0).poisson(1, (997, 200)).astype(np.float32)

    def __init__(self, n: int) -> None:
        self.obs = pd.DataFrame({"kind": pd.Categorical.from_codes(np.arange(n) % 5, list("abcde"))})

    def __len__(self) -> int:
        return len(self.obs)

    def read(self, rows):
        return self.tile[rows % 997]


def test_memory_is_that_of_the_groups():
    peaks = []
    for n in (20_000, 200_000):
        source = Virtual(n)
        tracemalloc.start()
        assert pseudobulk(source, by=["kind"]).obs["n_cells"].sum() == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    per_cell = 150  # bytes of labels, codes and row numbers
    assert peaks[1] < peaks[0] + 180_000 * per_cell < 200_000 * 200 * 4 / 3


def test_groups_that_cannot_be_made_are_refused():
    adata = make()
    with pytest.raises(CategoryError, match=r"no obs column 'Donor'.*Did you mean 'donor'"):
        pseudobulk(adata, by=["Donor"])
    with pytest.raises(CategoryError, match=r"None of the 3 groups.*min_cells=99.*The largest has \d\d"):
        pseudobulk(adata, by=["donor"], min_cells=99)
    for by in ([], ["n_cells"]):
        with pytest.raises(CategoryError, match="at least one, and none called 'n_cells'"):
            pseudobulk(adata, by=by)
    with pytest.raises(DataError, match=r"how cannot be 'median'.*There are: sum, mean"):
        pseudobulk(adata, by=["donor"], how="median")
    with pytest.raises(CategoryError, match="None of the 0 groups"):
        pseudobulk(adata[:0], by=["donor"])
    adata.obs.loc[adata.obs_names[:4], "kind"] = np.nan
    for call in (lambda: pseudobulk(adata, by=["donor", "kind"]), lambda: mixtures(adata, by="kind", n=2)):
        with pytest.raises(CategoryError, match=r"4 of the 60 cells.*no value of 'kind'.*notna"):
            call()


def test_genes_that_were_not_measured_everywhere_are_refused():
    source, adata = open_source(make()), make()
    measured_pg = np.ones((2, 6), dtype=bool)
    measured_pg[1, :2] = False
    panels = Panels(np.arange(60) % 2, measured_pg)
    holed = MemorySource("many files", source.read(np.arange(60)), source.genes, adata.obs, {}, panels)
    for call in (lambda: pseudobulk(holed, by=["donor"]), lambda: mixtures(holed, by="kind", n=2)):
        with pytest.raises(DataError, match=r"In many files, 2 genes were not measured in all cells.*join='inner'"):
            call()


# --- random mixtures --------------------------------------------------------------------------------------------------


def cells_that_tell() -> AnnData:
    """Every cell has one molecule, of a gene of its own; so a mixture's counts say which cells it drew."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"kind": rng.choice(list("ABC"), 40), "donor": rng.choice(["x", "y"], 40)})
    obs.index = [f"c{i}" for i in range(40)]
    obs["donor"] = np.where(obs["kind"] == "C", "y", obs["donor"])
    return AnnData(sparse.eye_array(40, format="csr", dtype=np.float32), obs=obs, var=pd.DataFrame(index=obs.index))


@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 12),
    cells=st.integers(1, 80),
    concentration=st.sampled_from([0.05, 1, 50]),
)
def test_mixtures_are_the_cells_that_were_drawn(seed, n, cells, concentration):
    adata = cells_that_tell()
    found = mixtures(adata, by="kind", n=n, cells=cells, concentration=concentration, seed=seed)
    assert found.shape == (n, 40)
    assert (found.X.sum(axis=1) == cells).all()
    shares, drawn = found.obsm["proportions"], found.obsm["proportions_drawn"]
    assert list(shares) == list(drawn) == list("ABC")
    assert np.allclose(drawn.sum(axis=1), 1)
    by_kind = np.stack([found.X[:, adata.obs["kind"] == kind].sum(axis=1) for kind in "ABC"], axis=1)
    assert np.allclose(shares.to_numpy(), by_kind / cells)
    assert found.obs["n_cells"].tolist() == [cells] * n


def test_mixtures_stay_within_one_level():
    adata = cells_that_tell()
    found = mixtures(adata, by="kind", n=60, cells=30, group="donor", seed=3)
    for donor, x, drawn in zip(found.obs["donor"], found.X, found.obsm["proportions_drawn"].to_numpy(), strict=True):
        assert set(adata.obs["donor"][x > 0]) == {donor}
        assert (drawn[2] == 0) == (donor == "x")  # type C is of donor y only
    assert set(found.obs["donor"]) == {"x", "y"}
    alone = make()
    assert "d3" not in set(mixtures(alone, by="kind", n=60, group="donor").obs["donor"])


def test_the_seed_decides_and_the_number_does_not():
    adata = make(counts=False)
    found, again = (mixtures(adata, by="kind", n=6, group="donor", seed=1) for _ in range(2))
    assert found.X.tobytes() == again.X.tobytes()
    pd.testing.assert_frame_equal(found.obsm["proportions"], again.obsm["proportions"])
    more, other = mixtures(adata, by="kind", n=9, group="donor", seed=1), mixtures(adata, by="kind", n=6, seed=2)
    assert np.allclose(more.X[:6], found.X)
    pd.testing.assert_frame_equal(more.obsm["proportions_drawn"][:6], found.obsm["proportions_drawn"])
    assert not np.allclose(other.X, found.X)


def test_concentration_says_how_even_mixtures_are():
    adata = cells_that_tell()
    spread = [
        mixtures(adata, by="kind", n=300, cells=2000, concentration=concentration)
        .obsm["proportions"]
        .var(axis=0)
        .mean()
        for concentration in (0.1, 1.0, 100.0)
    ]
    of_dirichlet = 1 / (3 * np.array([0.1, 1.0, 100.0]) + 1)
    expected = (1 / 3) * (2 / 3) * (of_dirichlet * (1 - 1 / 2000) + 1 / 2000)  # law of total variance
    assert np.allclose(spread, expected, rtol=0.2)


def test_mixtures_of_kang_are_stored(shared_data, tmp_path):
    found = mixtures(shared_data("kang_merged.h5ad"), by="cell_type", n=20, cells=100, group="donor", seed=1)
    found.write_h5ad(tmp_path / "mixed.h5ad")
    again = anndata.read_h5ad(tmp_path / "mixed.h5ad")
    pd.testing.assert_frame_equal(again.obsm["proportions"], found.obsm["proportions"])
    assert np.array_equal(again.X, found.X)
    assert (np.round(found.X) == found.X).all()
    assert again.uns["genevae"]["mixtures"] == "sum"
    percent = found.obsm["proportions"].to_numpy() * 100
    assert np.allclose(percent, np.round(percent), atol=1e-9)


def test_mixtures_that_cannot_be_made_are_refused():
    adata = make()
    with pytest.raises(CategoryError, match=r"no obs column 'knd'.*Did you mean 'kind'"):
        mixtures(adata, by="knd", n=2)
    with pytest.raises(CategoryError, match=r"no obs column 'dono'.*Did you mean 'donor'"):
        mixtures(adata, by="kind", n=2, group="dono")
    with pytest.raises(CategoryError, match=r"two categories of 'kind' to mix\. Give"):
        mixtures(adata[adata.obs["kind"] == "T"], by="kind", n=2)
    with pytest.raises(CategoryError, match=r"two categories of 'donor' to mix in any 'sex'\. Give"):
        mixtures(adata[adata.obs["donor"] != "d3"], by="donor", n=2, group="sex")
    for n, cells, concentration in ((0, 5, 1), (1, 0, 1), (1, 5, 0), (1, 5, np.nan), (1, 5, np.inf)):
        with pytest.raises(DataError, match="must be positive numbers"):
            mixtures(adata, by="kind", n=n, cells=cells, concentration=concentration)
