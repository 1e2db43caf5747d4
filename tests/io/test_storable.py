"""What is written can be read: tables of any kind of column and name come back, and missing stays missing."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse

import genevae as gv
from genevae.cli.table_output import write_table
from genevae.errors import DataError, RunError
from genevae.io.formats import ReadOptions, open_source
from genevae.io.gene_lists import read_gene_list, write_gene_list
from genevae.io.h5ad import layers_of
from genevae.io.storable import storable, store_keys
from genevae.io.write.anndata import write_anndata
from genevae.io.write.by_suffix import write_output
from genevae.preprocessing.convert import convert

N = 6
DAYS = pd.date_range("2024-01-30", periods=N)
COLUMNS: dict[str, Any] = {
    "int": np.array([3, -1, 2**62, 0, 1, 2]),
    "float": np.array([1.5, np.nan, np.inf, -0.0, 1e-300, 2]),
    "half": np.arange(N, dtype=np.float16),
    "bool": np.array([True, False] * 3),
    "complex": np.array([1 + 2j] * N),
    "text": ["b", "a", None, "", "nan", "ü\n"],
    "bytes": [b"a", b"b"] * 3,
    "null character": ["a\0b", "c"] * 3,
    "lone surrogate": ["\ud800", "c"] * 3,
    "string": pd.array(["b", None] * 3, dtype="string"),
    "string[pyarrow]": pd.array(["b", None] * 3, dtype="string[pyarrow]"),
    "Int64": pd.array([1, None] * 3, dtype="Int64"),
    "UInt8": pd.array([1, 2] * 3, dtype="UInt8"),
    "Float64": pd.array([1.5, None] * 3, dtype="Float64"),
    "boolean": pd.array([True, None, False] * 2, dtype="boolean"),
    "int64[pyarrow]": pd.array([1, None] * 3, dtype="int64[pyarrow]"),
    "double[pyarrow]": pd.array([1.5, None] * 3, dtype="double[pyarrow]"),
    "bool[pyarrow]": pd.array([True, False] * 3, dtype="bool[pyarrow]"),
    "objects of numbers": np.array([1, None, 2.5] * 2, dtype=object),
    "objects of truths": np.array([True, None] * 3, dtype=object),
    "huge": np.array([2**80, 1] * 3, dtype=object),
    "mixed": np.array([1, "a", None, 2.5, True, ("t",)], dtype=object),
    "lists": pd.Series([[1, 2], [], None] * 2),
    "dates": DAYS,
    "dates that miss": pd.Series([pd.Timestamp("2024-01-01 12:30"), pd.NaT] * 3),
    "zone": DAYS.tz_localize("UTC"),
    "days": list(DAYS.date),
    "durations": pd.to_timedelta(np.arange(N), unit="h"),
    "periods": pd.period_range("2020", periods=N, freq="M"),
    "intervals": pd.cut(np.arange(N), 3),
    "sparse": pd.arrays.SparseArray([0.0, 1.0] * 3),
    "levels": pd.Categorical(["low", None, "high"] * 2, categories=["low", "mid", "high"], ordered=True),
    "unsorted levels": pd.Categorical(["b", "a"] * 3, categories=["b", "zz", "a"]),
    "mixed levels": pd.Categorical([1, "1", "a"] * 2),
    "number levels": pd.Categorical([2, 1, None] * 2, categories=[2, 3, 1]),
    "truth levels": pd.Categorical([True, False] * 3),
    "date levels": pd.Categorical(DAYS),
    "no levels": pd.Categorical([None] * N),
    "all missing": [None] * N,
}
NAMES = ["a", "a/b", "a_b", "_index", "index", "", ".", "..", "zarr.json", "__categories", "ü x", "x\0", "n" * 300]
NAMES += [0, 1.5, ("a", 1), "a\nb", "cell", "levels", "name", "obs"]


def plain(values: Any) -> list[Any]:
    """Return values as numbers, texts, and None where they are missing."""
    out: list[Any] = []
    for value in pd.Series(values).astype(object):
        if not isinstance(value, list) and pd.isna(value):
            out.append(None)
        elif isinstance(value, bool | np.bool_ | int | float | np.number) and not isinstance(value, complex):
            out.append(float(value))
        else:
            text = value.decode() if isinstance(value, bytes) else str(value)
            text = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
            out.append(text.removesuffix(" 00:00:00").removesuffix(" 00:00:00+00:00").removesuffix("+00:00"))
    return out


def numbers_as_text(values: list[Any]) -> list[Any]:
    """Return numbers and truths that had to become text as numbers again."""

    def number(value: Any) -> Any:
        try:
            return value if value in (None, "nan") else float({"True": 1, "False": 0}.get(value, value))
        except ValueError:
            return value

    return [number(value) for value in values]


def require_same_table(found: pd.DataFrame, written: pd.DataFrame) -> None:
    names = ["\N{REPLACEMENT CHARACTER}".join(str(name).split("\0")) for name in written.columns]
    assert list(found.columns) == names
    for at, name in enumerate(names):
        column = written.iloc[:, at]
        ours, theirs = plain(found[name]), plain(column)
        assert [v is None for v in ours] == [v is None for v in theirs], name
        assert numbers_as_text(ours) == numbers_as_text(theirs), name
        if isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.categories.dtype.kind in "OSi":
            levels = list(dict.fromkeys(map(str, column.cat.categories)))
            assert list(map(str, found[name].cat.categories)) == levels, name
            assert found[name].cat.ordered == column.cat.ordered


def write(path: Path, obs: pd.DataFrame) -> None:
    x = sparse.csr_matrix(np.eye(len(obs), 3, dtype=np.float32))
    write_output(path, [{"X": x}], obs, pd.DataFrame(index=["g0", "g1", "g2"]), {})


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr", ".h5"])
def test_every_kind_of_column_comes_back(suffix, tmp_path) -> None:
    columns = {kind: pd.Series(values).array for kind, values in COLUMNS.items()}
    obs = pd.DataFrame(columns, index=[f"c{i}" for i in range(N)])
    write(tmp_path / f"x{suffix}", obs)
    found = open_source(tmp_path / f"x{suffix}").obs.drop(columns=["gene_count", "umi_count"], errors="ignore")
    require_same_table(found, obs)


tables = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(list(COLUMNS))), max_size=5, unique_by=lambda c: str(c[0])
)


@settings(max_examples=8)
@given(tables, st.sampled_from([None, "cell", "_index", "a/b", "a", 7]))
@example([("a/b", "int"), ("a", "text"), ("a_b", "dates")], "a/b")
@example([("_index", "levels"), ("_index_", "text")], "_index")
def test_odd_tables_come_back_from_every_format(columns, title) -> None:
    obs = pd.DataFrame(index=pd.Index([f"c{i}" for i in range(N)], name=title))
    for name, kind in columns:
        obs[name] = pd.Series(COLUMNS[kind]).array
    before = obs.copy(deep=True)
    kept = title is not None and str(title) not in {*map(str, obs.columns), "_index"}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("x.h5ad", "x.zarr", "x.h5"):
            path = Path(folder) / name
            write(path, obs)
            found = open_source(path).obs
            if name != "x.h5":
                assert found.index.name == (str(title) if kept else None)
                assert list(gv.read(path).obs.columns) == list(found.columns)
                others = anndata.read_h5ad(path) if name == "x.h5ad" else anndata.read_zarr(path)
                assert others.obs.shape == obs.shape
            require_same_table(found.drop(columns=["gene_count", "umi_count"], errors="ignore"), obs)
            assert list(found.index) == list(obs.index)
        write(Path(folder) / "x.mtx", obs)
        csv = pd.read_csv(Path(folder) / "x.mtx" / "obs.csv", index_col=0)
        assert csv.shape == obs.shape
    pd.testing.assert_frame_equal(obs, before)


@given(st.lists(st.sampled_from([str(name) for name in NAMES]), unique=True))
def test_keys_are_distinct_and_plain_names_keep_theirs(names) -> None:
    keys = store_keys(names)
    assert list(keys) and len(set(keys.values())) == len(names) if names else not keys
    assert not any("/" in key or key in ("", ".", "..", "_index", "zarr.json") for key in keys.values())
    assert all(keys[name] == name for name in names if name in ("a", "a_b", "index", "ü x"))


def test_columns_of_one_name_are_named() -> None:
    adata = AnnData(np.ones((2, 2), np.float32))
    adata.obs = pd.DataFrame([[1, 2, 3]] * 2, columns=["0", "t", 0], index=["a", "b"])
    with pytest.raises(DataError, match="several columns with the same name: 0"):
        open_source(adata)
    assert list(storable(adata.obs).columns) == ["0", "t", "0_1"]


def test_a_table_of_names_and_odd_values_can_be_written(tmp_path) -> None:
    table = pd.DataFrame({"cell": pd.period_range("2020", periods=2, freq="M"), "n": [1, 2]}, index=["a", "b"])
    write_table(table, tmp_path / "x.json", "cell")
    written = [{"cell_1": "a", "cell": "2020-01", "n": 1}, {"cell_1": "b", "cell": "2020-02", "n": 2}]
    assert json.loads((tmp_path / "x.json").read_text()) == written


def test_a_gene_list_does_not_replace_a_file_of_the_user(tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("three years of work")
    with pytest.raises(RunError, match="did not write it"):
        write_gene_list(["a"], tmp_path / "mine.txt")
    for genes in (["a"], ["b"]):
        write_gene_list(genes, tmp_path / "genes.txt")
    assert read_gene_list(tmp_path / "genes.txt") == ["b"]


# --- conversion -------------------------------------------------------------------------------------------------------


def full(n: int = 50, g: int = 8) -> AnnData:
    rng = np.random.default_rng(0)
    x = sparse.csr_matrix(rng.poisson(0.4, (n, g)).astype(np.float32))
    adata = AnnData(x, pd.DataFrame(index=[f"c{i}" for i in range(n)]), pd.DataFrame(index=[f"g{i}" for i in range(g)]))
    adata.obs["kind"] = pd.Categorical(rng.choice(["b", "a"], n), categories=["b", "a"])
    adata.layers["spliced"] = x * 2
    adata.layers["scaled"] = rng.normal(size=(n, g)).astype(np.float32)
    adata.obsm["X_pca"] = rng.normal(size=(n, 3))
    adata.obsm["table"] = pd.DataFrame({"CD4/CD8": rng.normal(size=n)}, index=adata.obs_names)
    adata.varm["PCs"] = rng.normal(size=(g, 3))
    adata.var["mean"] = rng.normal(size=g)
    adata.var["_index"] = adata.var_names
    adata.uns["colors"] = {"kind": np.array(["#000", "#fff"])}
    adata.obsp["distances"] = sparse.identity(n, format="csr")
    adata.uns["odd"] = object()
    return adata


def require_same_content(found: AnnData, adata: AnnData) -> None:
    def dense(x: Any) -> Any:
        return x.toarray() if sparse.issparse(x) else np.asarray(x)

    np.testing.assert_array_equal(dense(found.X), dense(adata.X))
    for place in ("layers", "obsm", "varm"):
        assert set(getattr(found, place)) == set(getattr(adata, place))
        for name, value in getattr(adata, place).items():
            np.testing.assert_array_equal(dense(getattr(found, place)[name]), dense(value))
    assert list(found.obs["kind"].cat.categories) == ["b", "a"]
    assert found.obs["kind"].tolist() == adata.obs["kind"].tolist()
    np.testing.assert_array_equal(found.var["mean"], adata.var["mean"])
    assert found.var["_index"].tolist() == list(adata.var_names)
    assert found.uns["colors"]["kind"].tolist() == ["#000", "#fff"]


@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr"])
def test_a_conversion_keeps_all_that_fits_and_names_the_rest(name, tmp_path) -> None:
    adata = full()
    assert set(convert(adata, tmp_path / name)) == {"obsp['distances']", "uns['odd']"}
    found = gv.read(tmp_path / name)
    require_same_content(found, adata)
    assert convert(tmp_path / name, tmp_path / "b.h5ad", shuffle=True) == ()
    again = gv.read(tmp_path / "b.h5ad")
    assert list(again.obs_names) != list(adata.obs_names)
    require_same_content(again[adata.obs_names], adata)
    convert(tmp_path / name, tmp_path / "parts", to="h5ad", cells_per_file=20)
    last = adata[40:].copy()
    require_same_content(gv.read(tmp_path / "parts" / "cells_0002.h5ad"), last)
    left = convert(tmp_path / name, tmp_path / "batches")
    assert {"layers['spliced']", "obsm['X_pca']", "varm['PCs']", "var['mean']", "uns['colors']"} <= set(left)
    left = convert(tmp_path / "parts", tmp_path / "all.h5ad")
    assert {"layers['spliced']", "obsm['table']", "var['mean']"} <= set(left)


def test_of_another_layer_x_is_left_and_of_raw_its_genes_are_kept(tmp_path) -> None:
    adata = full()
    del adata.uns["odd"], adata.obsp["distances"], adata.var["_index"], adata.obsm["table"]
    adata.raw = adata.copy()
    adata = adata[:, :5].copy()
    write_anndata(tmp_path / "plain.h5ad", adata)
    adata.write_h5ad(tmp_path / "raw.h5ad")
    left = convert(ReadOptions(tmp_path / "plain.h5ad", layer="scaled"), tmp_path / "a.h5ad")
    assert left == ("X",)
    found = gv.read(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(found.X, adata.layers["scaled"])
    assert set(found.layers) == {"spliced"}
    left = convert(ReadOptions(tmp_path / "raw.h5ad", layer="raw"), tmp_path / "b.h5ad")
    assert {"X", "layers['spliced']", "varm['PCs']"} == set(left) - {"layers['scaled']"}
    assert gv.read(tmp_path / "b.h5ad").n_vars == 8
    assert "X_pca" in gv.read(tmp_path / "b.h5ad").obsm


def test_x_is_no_layer_also_where_anndata_has_it_among_them():
    """anndata 0.13 does, under None."""
    assert layers_of(SimpleNamespace(layers={None: 1, "counts": 2})) == {"counts": 2}


def test_names_of_a_subclass_of_text_are_stored_as_they_are_shown():
    class Shown(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "shown"

    index = storable(pd.DataFrame(index=pd.Index([Shown("kept"), "b"], dtype=object))).index
    assert [type(name) for name in index] == [str, str]
    assert list(index) == ["shown", "b"]
