"""Transposition in bounded memory: of numbers in blocks, and of tables of text."""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import genevae.io.tables.transpose as module
from genevae.errors import DataError, RunError
from genevae.io.tables.transpose import transpose, transposed

# --- numbers ----------------------------------------------------------------------------------------------------------


@given(
    heights=st.lists(st.integers(0, 9), max_size=12),
    n_columns=st.integers(1, 12),
    n_bytes=st.sampled_from([1, 64, 300, 2000, 10**6]),
)
def test_blocks_of_any_size_are_transposed(heights, n_columns, n_bytes):
    matrix = np.random.default_rng(sum(heights)).normal(size=(sum(heights), n_columns)).astype(np.float32)
    blocks = np.split(matrix, np.cumsum(heights)[:-1]) if heights else []
    found = list(transposed(iter(blocks), n_columns, n_bytes))
    assert all(block.dtype == np.float32 for block in found)
    if len(matrix):
        assert np.array_equal(np.concatenate(found), matrix.T)
    else:
        assert not found


def test_yielded_blocks_are_not_written_to_again():
    kept = list(transposed([np.arange(200, dtype=np.float32).reshape(20, 10)], 10, 400))
    assert len(kept) > 2
    assert np.array_equal(np.concatenate(kept), np.arange(200).reshape(20, 10).T)


@pytest.mark.parametrize("shape", [(4000, 2000), (100, 80_000), (80_000, 100)])
def test_memory_is_bounded(shape):
    budget, height = 2**21, max(1, 2**16 // shape[1])  # the matrix has 32 MB, the blocks that come in 256 KiB

    def blocks():
        for start in range(0, shape[0], height):
            rows = np.arange(start, min(start + height, shape[0]), dtype=np.float32)
            yield np.repeat(rows[:, None], shape[1], axis=1)

    tracemalloc.start()
    try:
        n_read = 0
        for rows in transposed(blocks(), shape[1], budget):
            assert rows[0, -1] == shape[0] - 1
            n_read += len(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n_read == shape[1]
    assert peak < budget + 2**19


def test_blocks_must_be_of_one_width():
    with pytest.raises(DataError, match="has 3 columns, but 4 are expected"):
        list(transposed([np.zeros((2, 4), np.float32), np.zeros((2, 3), np.float32)], 4))


def test_a_full_disk_is_an_error(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(DataError, match=r"No space left on device.*TMPDIR"):
        list(transposed([np.zeros((2, 4), np.float32)], 4))


# --- text -------------------------------------------------------------------------------------------------------------

FIELDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)


def parsed(path: Path) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(path.read_bytes().decode(), newline="")) if row]


@given(
    shape=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    data=st.data(),
    n_bytes=st.sampled_from([1, 500, 4000, 10**8]),
)
def test_any_table_is_transposed_and_comes_back(tmp_path_factory, shape, data, n_bytes):
    rows = data.draw(
        st.lists(st.lists(FIELDS, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0])
    )
    rows[0][0] = "x" + rows[0][0]  # at the start of a file, a byte order mark and # are no text
    folder = tmp_path_factory.mktemp("tables")
    with (folder / "in.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\r\n").writerows(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BUDGET", n_bytes)
        transpose(folder / "in.csv", folder / "turned.csv")
        transpose(folder / "turned.csv", folder / "back.csv")
        transpose(folder / "back.csv", folder / "again.csv")
    assert parsed(folder / "turned.csv") == list(map(list, zip(*rows, strict=True)))
    assert parsed(folder / "back.csv") == rows
    assert (folder / "turned.csv").read_bytes() == (folder / "again.csv").read_bytes()


@pytest.mark.parametrize("n_bytes", [1, 3000, 10**8])
@pytest.mark.parametrize("packing", ["", ".gz"])
@pytest.mark.parametrize(("kind", "separator"), [("csv", ","), ("tsv", "\t")])
def test_twice_gives_the_same_bytes(tmp_path, monkeypatch, kind, separator, packing, n_bytes):
    monkeypatch.setattr(module, "BUDGET", n_bytes)
    values = [
        ["", "s1", "s2", "s3"],
        *([f"G{at}", f"{at}.50", "007", "1e-3"] for at in range(20)),
        ["last", "", "NA", "é"],
    ]
    content = "".join(separator.join(row) + "\n" for row in values).encode()
    (tmp_path / f"a.{kind}").write_bytes(content)
    turned, back = tmp_path / f"b.{kind}{packing}", tmp_path / f"c.{kind}{packing}"
    transpose(str(tmp_path / f"a.{kind}"), turned)
    transpose(turned, back)
    assert (gzip.decompress(back.read_bytes()) if packing else back.read_bytes()) == content
    assert set(tmp_path.iterdir()) == {tmp_path / f"a.{kind}", turned, back}


@pytest.mark.parametrize("n_bytes", [1, 10**8])
def test_one_row_and_one_column(tmp_path, n_bytes, monkeypatch):
    monkeypatch.setattr(module, "BUDGET", n_bytes)
    (tmp_path / "row.csv").write_text('a,,"b,c"\n')
    transpose(tmp_path / "row.csv", tmp_path / "column.csv")
    assert (tmp_path / "column.csv").read_text() == 'a\n""\n"b,c"\n'
    transpose(tmp_path / "column.csv", tmp_path / "back.csv")
    assert (tmp_path / "back.csv").read_text() == 'a,,"b,c"\n'


def test_zstd_and_tables_of_r_are_read(tmp_path):
    packed = pytest.importorskip("zstandard").compress(b"s1 s2\nA 1 2\nB 3 4\n")
    (tmp_path / "a.txt.zst").write_bytes(packed)
    transpose(tmp_path / "a.txt.zst", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == ",A,B\ns1,1,3\ns2,2,4\n"


def test_real_bulk_comes_back(shared_data, tmp_path):
    import anndata

    adata = anndata.read_h5ad(shared_data("bulk_airway_inmoose.h5ad"))
    adata.to_df().to_csv(tmp_path / "a.csv", lineterminator="\n")
    transpose(tmp_path / "a.csv", tmp_path / "b.csv.gz")
    transpose(tmp_path / "b.csv.gz", tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


def test_text_takes_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BUDGET", 2**21)
    row = ",".join(f"{number}.25" for number in range(1000, 1500))
    (tmp_path / "a.csv").write_text("".join(f"{row}\n" for _ in range(1200)))
    size = (tmp_path / "a.csv").stat().st_size
    tracemalloc.start()
    try:
        transpose(tmp_path / "a.csv", tmp_path / "b.csv")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 2**22
    assert peak < 2**21 + 2**20
    assert len(parsed(tmp_path / "b.csv")) == 500


def test_what_is_there_is_not_replaced_unasked(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    transpose(tmp_path / "a.csv", tmp_path / "b.csv")
    (tmp_path / "a.csv").write_text("a,b\n3,4\n")
    with pytest.raises(RunError, match="already exists"):
        transpose(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == "a,1\nb,2\n"
    transpose(tmp_path / "a.csv", tmp_path / "b.csv", overwrite=True)
    assert (tmp_path / "b.csv").read_text() == "a,3\nb,4\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a,b\n1,2\n3\n", "line 3, has 1 fields, but the lines before have 2"),
        (b"a,b\n1,2\n3,4,5\n", "line 3, has 3 fields"),
        (b"a,b\n1,\xff\n", "not text"),
        (b'a,b\n"1"x,"2"\n', "line 2, cannot be split"),
    ],
)
def test_bad_tables_leave_nothing_behind(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        transpose(tmp_path / "a.csv", tmp_path / "b.csv")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.csv"]


def test_names_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "a.gct").write_text("#1.2\n")
    with pytest.raises(DataError, match=r"Did you mean 'a\.csv'"):
        transpose(tmp_path / "aa.csv", tmp_path / "b.csv")
    with pytest.raises(DataError, match="not a text table"):
        transpose(tmp_path / "a.gct", tmp_path / "b.csv")
    for name in ("b", "b.parquet", "b.csv.zst"):
        with pytest.raises(RunError, match=r"Choose \.csv"):
            transpose(tmp_path / "a.csv", tmp_path / name)
    with pytest.raises(RunError, match="Nothing can be written"):
        transpose(tmp_path / "a.csv", tmp_path / "a.csv" / "b.csv")
