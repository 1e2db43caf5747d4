"""Files that would end the process, never end, or fill the memory are refused in words."""

from __future__ import annotations

import bz2
import gzip
import os
import struct
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import genevae as gv
from genevae.errors import DataError
from genevae.io.formats import ReadOptions, open_source
from genevae.io.lowlevel import soundness
from genevae.io.lowlevel.soundness import TRUST, require_sound
from genevae.io.ram import MAX_MEMORY, available_bytes


@pytest.fixture
def wary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Try files, with a cache of the test's own."""
    monkeypatch.setenv(TRUST, "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(soundness, "_known", set())
    return tmp_path


def cells(path: Path, n: int = 50) -> Path:
    obs = pd.DataFrame({"n": np.arange(float(n))}, index=[f"c{i}" for i in range(n)])
    AnnData(np.ones((n, 20), dtype=np.float32), obs=obs).write_h5ad(path)
    return path


def endless(path: Path) -> Path:
    """Zero the size of the free space in every global heap, by which HDF5 would advance for ever."""
    content = bytearray(cells(path).read_bytes())
    at = content.find(b"GCOL\x01\0\0\0")
    while at >= 0:
        size, place = struct.unpack_from("<Q", content, at + 8)[0], at + 16
        while place + 16 <= at + size:
            index, length = struct.unpack_from("<H", content, place)[0], struct.unpack_from("<Q", content, place + 8)[0]
            if index == 0:
                content[place + 8 : place + 16] = bytes(8)
                break
            place += 16 + (length + 7) // 8 * 8
        at = content.find(b"GCOL\x01\0\0\0", at + 8)
    path.write_bytes(content)
    return path


def test_a_file_that_hdf5_never_ends_reading_is_refused(wary):
    with pytest.raises(DataError, match=r"bad\.h5ad is damaged: reading it does not end"):
        open_source(endless(wary / "bad.h5ad"))


def test_a_file_is_tried_once_until_it_changes(wary, monkeypatch):
    tried: list[list[Path]] = []
    original = soundness._try
    monkeypatch.setattr(soundness, "_try", lambda paths: (tried.append(list(paths)), original(paths)))
    files = [cells(wary / f"{number}.h5ad") for number in range(3)]
    open_source(wary / "*.h5ad")
    monkeypatch.setattr(soundness, "_known", set())  # as in another process
    require_sound(files)
    cells(files[1], n=60)
    require_sound(files)
    assert tried == [files, [files[1]]]


def test_a_cache_that_cannot_be_written_is_no_error(wary, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    require_sound([cells(wary / "a.h5ad")])


@pytest.mark.parametrize("how", ["external storage", "external link", "virtual"])
def test_data_in_other_files_are_not_read(wary, how):
    other, path = cells(wary / "other.h5ad"), cells(wary / "d.h5ad")
    with h5py.File(path, "a") as file:
        del file["X"]
        if how == "external storage":
            file.create_dataset("X", shape=(50, 20), dtype="u1", external=[(str(other), 0, 1000)])
        elif how == "external link":
            file["X"] = h5py.ExternalLink(str(other), "X")
        else:
            layout = h5py.VirtualLayout((50, 20), dtype="f4")
            layout[:] = h5py.VirtualSource(str(other), "X", (50, 20))
            file.create_virtual_dataset("X", layout)
    with pytest.raises(DataError, match=r"d\.h5ad is not read: .*X.*not read"):
        gv.read(path)


@pytest.mark.parametrize(("column", "n"), [("obs/n", 2_000_000_000), ("var/_index", 300_000_000)])
def test_a_table_that_declares_too_much_is_refused_before_it_is_read(tmp_path, column, n):
    path = cells(tmp_path / "cells.h5ad")
    with h5py.File(path, "a") as file:
        attributes, kind = dict(file[column].attrs), file[column].dtype
        del file[column]
        file.create_dataset(column, (n,), kind, chunks=(100_000,), compression="gzip").attrs.update(attributes)
    with pytest.raises(DataError, match=r"cells\.h5ad would unpack to"):
        open_source(path)


@pytest.mark.parametrize("pack", [bz2.compress, lambda data: gzip.compress(data, 1)])
def test_a_pickle_that_unpacks_to_too_much_is_refused(tmp_path, pack):
    from genevae.io.safe_pickle.table import read_pickled_table

    (tmp_path / "t.pkl").write_bytes(pack(bytes(2**24)) * 8)
    with pytest.raises(DataError, match=r"t\.pkl would unpack to"):
        read_pickled_table(tmp_path / "t.pkl")


def test_text_without_line_ends_is_refused_early(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"cell,a\n") + gzip.compress(b"1" * 2**24, 1) * 5)
    with pytest.raises(DataError, match=r"t\.csv\.gz is not a table of text: it has a line of more than"):
        open_source(tmp_path / "t.csv.gz")


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "x.h5ad")
    with pytest.raises(DataError, match=r"x\.h5ad is a pipe"):
        open_source(tmp_path / "x.h5ad")


def tenx(folder: Path, entries: str, kind: str = "integer general", sizes: str = "3 2 2") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "matrix.mtx").write_text(f"%%MatrixMarket matrix coordinate {kind}\n% a comment\n{sizes}\n{entries}")
    (folder / "features.tsv").write_text("".join(f"e{i}\tg{i}\tGene Expression\n" for i in range(3)))
    (folder / "barcodes.tsv").write_text("b0\nb1\n")
    return folder


@pytest.mark.parametrize(
    ("entries", "kind"),
    [
        ("1 1 5\n2 1 7\n", "integer general"),
        ("1 1 5\n2 1 7 ", "integer general"),
        ("2 1 7\n1 1 5", "real general"),
        ("1 1 5e0\n 2\t1  7.0\n\n", "real general"),
    ],
)
def test_a_matrix_market_file_is_read(tmp_path, entries, kind):
    x = gv.read(tenx(tmp_path / "run", entries, kind)).X
    assert sparse.issparse(x)
    np.testing.assert_array_equal(x.toarray(), [[5, 7, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("entries", "sizes"),
    [
        ("1 1 5\n2 1 7\0\n", "3 2 2"),
        ("1 1 5\n", "3 2 2"),
        ("1 1 5\n2 1 7\n3 1 1\n", "3 2 2"),
        ("1 1 5\n4 1 7\n", "3 2 2"),
        ("1 1 5\n0 1 7\n", "3 2 2"),
        ("1 1 5\n2 1 x\n", "3 2 2"),
        ("1 1 5\n2 1\n", "3 2 2"),
        ("1 1 5\n2 1 7\n", "3 2"),
        ("1 1 5\n2 1 7\n", "3 2 99999999999"),
    ],
)
def test_a_damaged_matrix_market_file_is_named(tmp_path, entries, sizes):
    with pytest.raises(DataError, match=r"matrix\.mtx"):
        gv.read(tenx(tmp_path / "run", entries, sizes=sizes))


def test_the_most_memory_can_be_set(tmp_path, monkeypatch):
    monkeypatch.setenv(MAX_MEMORY, "100G")
    path = cells(tmp_path / "cells.h5ad")
    assert len(open_source(ReadOptions(path=path, max_memory="1M"))) == 50
    assert available_bytes() <= 10**6
    with pytest.raises(DataError, match=r"cells\.h5ad would unpack to"):
        open_source(ReadOptions(path=path, max_memory="1K"))
    with pytest.raises(DataError, match=r"'lots'.*8G"):
        ReadOptions(path=path, max_memory="lots")
