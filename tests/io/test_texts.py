"""Texts that are read block by block are those that anndata reads at once."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import read_elem, write_elem

from genevae.io.h5ad import ignore_warnings
from genevae.io.lowlevel import texts
from genevae.io.lowlevel.texts import read_with_few_copies


@pytest.mark.parametrize("at_once", [1, 4, 2**16])
@pytest.mark.parametrize("chunk", [None, 3, 12])
@pytest.mark.parametrize("n", [0, 1, 9, 12])
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_table_is_that_of_anndata(suffix, n, chunk, at_once, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(texts, "AT_ONCE", at_once)
    notes = np.array([f"ü{i}" * (i % 4) for i in range(n)], dtype=object)
    names = pd.Index([f"cell {i}" for i in range(n)], name="barcode", dtype=object)
    table = pd.DataFrame({"note": notes, "type": pd.Categorical(notes), "dose": np.arange(n) / 8}, index=names)
    path = tmp_path / f"cells{suffix}"
    root = h5py.File(path, "w") if suffix == ".h5ad" else zarr.open_group(str(path), mode="w", zarr_format=3)
    kwargs = {} if chunk is None or not n else {"chunks": (min(chunk, n),)}
    with ignore_warnings():
        for name, values in {"barcode": names.to_numpy(), "note": notes}.items():
            write_elem(root, name, values, dataset_kwargs=kwargs)
        write_elem(root, "obs", table)
    pd.testing.assert_frame_equal(read_with_few_copies(root["obs"]), read_elem(root["obs"]))
    assert list(read_with_few_copies(root["obs"]).index) == list(names)
    for name, values in {"barcode": names, "note": notes}.items():
        assert list(read_with_few_copies(root[name])) == list(values)


def test_no_chunk_is_read_twice(monkeypatch) -> None:
    monkeypatch.setattr(texts, "AT_ONCE", 4)
    read = []

    class Stored(np.ndarray):
        def __getitem__(self, key):
            read.append((key.start, key.stop))
            return super().__getitem__(key)

    stored = np.arange(10).astype(str).astype(object).view(Stored)
    assert list(texts._texts(stored, 10, (3,))) == [str(i) for i in range(10)]
    assert read == [(0, 3), (3, 6), (6, 9), (9, 12)]
    read.clear()
    texts._texts(stored, 10, None)
    assert read == [(0, 4), (4, 8), (8, 12)]
