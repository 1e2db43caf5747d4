"""Tables of stores are those that anndata writes."""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import read_elem, write_elem
from scipy import sparse

from genevae.io import storable as tables
from genevae.io.formats import read
from genevae.io.h5ad import ignore_warnings
from genevae.io.storable import storable
from genevae.io.write import frame
from genevae.io.write.anndata import write_store
from genevae.io.write.frame import write_frame


def a_table(n: int, title: str | None) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    columns = {
        "type": pd.Categorical.from_codes(rng.integers(-1, 3, n), ["B", "T", "NK"]),
        "donor": rng.choice(["ä", "b"], n).astype(object),
        "dose": rng.normal(size=n),
        "n": pd.array(rng.integers(0, 9, n), dtype="Int64"),
        "kept": rng.random(n) < 0.5,
    }
    return pd.DataFrame(columns, index=pd.Index([f"cell-{i}é" for i in range(n)], name=title, dtype=object))


def a_store(path: Path) -> h5py.File | zarr.Group:
    return h5py.File(path, "w") if path.suffix == ".h5ad" else zarr.open_group(str(path), mode="w", zarr_format=3)


@pytest.mark.parametrize("at_once", [3, 2**18])
@pytest.mark.parametrize("title", [None, "barcode"])
@pytest.mark.parametrize("n", [0, 1, 6, 10])
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_table_written_in_blocks_is_that_of_anndata(suffix, n, title, at_once, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(frame, "NAMES_AT_ONCE", at_once)
    table, root = a_table(n, title), a_store(tmp_path / f"store{suffix}")
    write_frame(root, "ours", table)
    with ignore_warnings():
        write_elem(root, "theirs", storable(table))
    pd.testing.assert_frame_equal(read_elem(root["ours"]), read_elem(root["theirs"]))
    assert set(root["ours"]) == set(root["theirs"])
    for ours, theirs in [(root["ours"], root["theirs"]), *((root["ours"][key], root["theirs"][key]) for key in table)]:
        assert set(ours.attrs) == set(theirs.attrs)
        assert all(np.array_equal(ours.attrs[name], theirs.attrs[name]) for name in theirs.attrs)


@pytest.mark.parametrize("n", [4_000, 4_096])
def test_a_table_of_very_many_columns_fits_into_a_file(n, tmp_path) -> None:
    table = pd.DataFrame(np.zeros((1, n)), index=["a"], columns=[f"column-{i}" for i in range(n)])
    with h5py.File(tmp_path / "wide.h5ad", "w") as file:
        write_frame(file, "obs", table)
        assert list(read_elem(file["obs"])) == list(table)


@pytest.mark.parametrize("odd", ["\ud800", "null\0", 7])
@pytest.mark.parametrize("at", [0, 4])
def test_one_odd_name_in_any_block_is_found(odd, at, monkeypatch) -> None:
    monkeypatch.setattr(tables, "NAMES_AT_ONCE", 2)
    names = [f"c{i}" for i in range(5)]
    names[at] = odd
    found = storable(pd.DataFrame(index=pd.Index(names, dtype=object))).index
    expected = {"\ud800": "?", "null\0": "null\N{REPLACEMENT CHARACTER}", 7: "7"}[odd]
    assert list(found) == [*names[:at], expected, *names[at + 1 :]]


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize("sizes", [[], [0], [1, 2, 3], [40], [7, 0, 33, 64, 1], [16, 16, 16]])
def test_rows_of_blocks_of_any_size_follow_each_other(sizes, suffix, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("genevae.io.write.anndata.CHUNK", 8)  # four rows of two values
    monkeypatch.setattr("genevae.io.write.anndata.SHARD", 32)
    x = np.random.default_rng(0).poisson(1.0, (sum(sizes), 2)).astype(np.float32)
    ends = np.cumsum([0, *sizes])
    parts = [x[a:b] for a, b in itertools.pairwise(ends)]
    blocks = [{"X": sparse.csr_matrix(part), "obsm/z": part, "layers/dense": part} for part in parts]
    obs = pd.DataFrame(index=pd.Index([f"c{i}" for i in range(len(x))], dtype=object))
    path = tmp_path / f"cells{suffix}"
    write_store(path, blocks, obs, pd.DataFrame(index=["a", "b"]))
    found = read(path)
    for name, rows in {"X": found.X, **found.layers, **found.obsm}.items():
        np.testing.assert_array_equal(rows.toarray() if sparse.issparse(rows) else rows, x, err_msg=name)
    assert bool(found.obsm) == bool(sizes)
