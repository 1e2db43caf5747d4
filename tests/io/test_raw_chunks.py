"""Chunks read straight from their files: what the library that wrote them reads, or a reason."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from genevae.errors import DataError
from genevae.io.lowlevel.hdf5 import Hdf5Array, csr_of
from genevae.io.lowlevel.raw_chunks import Chunks, unshuffled
from genevae.io.lowlevel.zarr import ZarrArray

N = 1000
RNG = np.random.default_rng(0)
NUMBERS = {
    "float32": RNG.poisson(1.0, N).astype(np.float32),
    "int32": RNG.integers(0, 20_000, N).astype(np.int32),
    "int64": RNG.integers(0, 2**40, N),
    "uint8": RNG.integers(0, 255, N).astype(np.uint8),
}
HDF5 = {
    "contiguous": {},
    "chunks": {"chunks": (64,)},
    "gzip": {"chunks": (64,), "compression": "gzip"},
    "gzip and shuffle": {"chunks": (64,), "compression": "gzip", "shuffle": True},
    "checksum": {"chunks": (64,), "fletcher32": True},
    "gzip, shuffle and checksum": {"chunks": (64,), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "one large chunk": {"chunks": (4096,), "maxshape": (None,), "compression": "gzip"},
}
LEFT_TO_HDF5 = {
    "lzf": {"chunks": (64,), "compression": "lzf"},
    "big-endian": {"dtype": ">f4"},
    "scaled": {"chunks": (64,), "scaleoffset": 3},
}
ZARR = {
    "v3": {"zarr_format": 3, "chunks": (64,)},
    "v3 bare": {"zarr_format": 3, "chunks": (64,), "compressors": None},
    "v3 blosc, checksum": {"zarr_format": 3, "chunks": (64,), "compressors": [BloscCodec(), Crc32cCodec()]},
    "v3 gzip": {"zarr_format": 3, "chunks": (64,), "compressors": GzipCodec()},
    "v3 shards": {"zarr_format": 3, "chunks": (64,), "shards": (256,), "compressors": ZstdCodec()},
    "v2": {"zarr_format": 2, "chunks": (64,)},
    "v2 bare": {"zarr_format": 2, "chunks": (64,), "compressors": None},
}


def hdf5_of(folder: Path, values: np.ndarray, words: dict) -> Hdf5Array:
    path = folder / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, **words)
    return Hdf5Array(path, "x")


def zarr_of(folder: Path, values: np.ndarray, words: dict) -> ZarrArray:
    words = dict(words)
    root = zarr.open_group(str(folder / "x.zarr"), mode="w", zarr_format=words.pop("zarr_format"))
    root.create_array("x", data=values, **words)
    return ZarrArray(folder / "x.zarr", "x")


def check(array, values: np.ndarray, start: int, stop: int) -> None:
    found = array(start, stop)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values[start:stop])
    out = np.empty(stop - start, dtype=values.dtype)
    array.read_into(start, out)
    np.testing.assert_array_equal(out, values[start:stop])
    middle = (start + stop) // 2
    starts, lengths = (
        np.array([start, middle, start, stop]),
        np.array([stop - start, stop - middle, 0, len(values) - stop]),
    )
    several = np.empty(lengths.sum(), dtype=values.dtype)
    array.read_all_into(starts, lengths, several)
    expected = [values[a : a + n] for a, n in zip(starts, lengths, strict=True)]
    np.testing.assert_array_equal(several, np.concatenate(expected))


RANGES = st.tuples(st.integers(0, N), st.integers(0, N)).map(sorted)
FEW = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("values", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("words", HDF5.values(), ids=HDF5)
@FEW
@given(at=RANGES)
def test_hdf5_chunks_are_what_hdf5_reads(tmp_path, values, words, at):
    array = hdf5_of(tmp_path, values, words)
    assert isinstance(array.opened(), Chunks)
    check(array, values, *at)


@pytest.mark.parametrize("words", LEFT_TO_HDF5.values(), ids=LEFT_TO_HDF5)
def test_what_only_hdf5_understands_is_left_to_it(tmp_path, words):
    values = NUMBERS["float32"]
    array = hdf5_of(tmp_path, values, words)
    assert not isinstance(array.opened(), Chunks)
    np.testing.assert_array_equal(array(3, 700), values[3:700])


def test_chunks_that_were_never_written_are_left_to_hdf5(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (N,), "f4", chunks=(64,))[100:200] = 1
    array = Hdf5Array(tmp_path / "x.h5", "x")
    assert array(0, N).sum() == 100


@pytest.mark.parametrize("values", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("words", ZARR.values(), ids=ZARR)
@FEW
@given(at=RANGES)
def test_zarr_chunks_are_what_zarr_reads(tmp_path, values, words, at):
    check(zarr_of(tmp_path, values, words), values, *at)


@pytest.mark.parametrize("words", [ZARR["v3"], ZARR["v3 shards"], ZARR["v2 bare"]])
def test_zarr_chunks_are_read_directly_where_all_were_written(tmp_path, words):
    assert isinstance(zarr_of(tmp_path, NUMBERS["int64"] + 1, words).opened(), Chunks)


@pytest.mark.parametrize("words", [HDF5["chunks"], HDF5["gzip"], HDF5["checksum"]])
def test_a_file_that_ends_too_soon_is_named(tmp_path, words):
    array = hdf5_of(tmp_path, NUMBERS["int64"], words)
    array.opened()
    with array.path.open("r+b") as file:
        file.truncate(2000)
    with pytest.raises(DataError, match=r"x\.h5"):
        array(0, N)
    with pytest.raises(DataError, match=r"x\.h5"):
        array.read_all_into(np.array([0, 3]), np.array([10, N - 3]), np.empty(N + 7, np.int64))


@pytest.mark.parametrize(("words", "is_compiled"), [("chunks", True), ("checksum", True), ("gzip", False)])
def test_ranges_that_are_not_compressed_are_read_in_one_call(tmp_path, words, is_compiled):
    pytest.importorskip("numba")
    array = hdf5_of(tmp_path, NUMBERS["float32"], HDF5[words])
    out = np.empty(150, np.float32)
    assert array.opened()._read_compiled(np.array([5, 400]), np.array([100, 50]), out) == is_compiled


def test_a_file_stays_open_while_it_is_read_although_another_thread_opens_it_too(tmp_path, monkeypatch):
    chunks = hdf5_of(tmp_path, NUMBERS["float32"], HDF5["chunks"]).opened()

    class Loops:
        @staticmethod
        def read(file: int, at: np.ndarray, *_: np.ndarray) -> int:
            chunks._opened.clear()  # as when another thread has put its own there
            os.fstat(file)
            return len(at)

    monkeypatch.setattr("genevae.io.lowlevel.raw_chunks.load", lambda _: Loops)
    assert chunks._read_compiled(np.array([5]), np.array([100]), np.empty(100, np.float32))


@pytest.mark.parametrize("wrong", [2**32 + 3, 3 - 2**32, 30, -1])
def test_columns_are_checked_before_they_are_converted(tmp_path, wrong):
    x = sparse.random(50, 30, 0.3, format="csr", random_state=0, dtype=np.float32)
    path, columns = tmp_path / "x.h5ad", x.indices.astype(np.int64)
    columns[5] = wrong
    AnnData(x).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["X/indices"]
        file["X/indices"] = columns
    with h5py.File(path) as file:
        stored = csr_of(path, file["X"], (50, 30))
    for rows in (np.arange(50), np.array([0, 2, 7, 7, 9])):
        with pytest.raises(DataError, match=f"gene number {wrong} "):
            stored.read(rows)


@given(st.lists(st.lists(st.integers(-2, 6), max_size=5), max_size=6), st.booleans())
def test_columns_are_sound_where_scipy_says_so_and_all_are_genes(rows, are_sorted):
    sound = pytest.importorskip("genevae.kernels.chunks", reason="numba is not installed").sound
    rows = [sorted(set(row)) if are_sorted else row for row in rows]
    indptr = np.cumsum([0, *map(len, rows)])
    gene_e = np.array([gene for row in rows for gene in row], np.int32)
    if ((gene_e < 0) | (gene_e >= 5)).any():
        assert sound(indptr, gene_e, 5) == 0
    else:
        x = sparse.csr_matrix((np.ones(len(gene_e)), gene_e, indptr), shape=(len(rows), 5))
        assert sound(indptr, gene_e, 5) == (2 if x.has_canonical_format else 1)


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path):
    array = hdf5_of(tmp_path, NUMBERS["float32"], HDF5["checksum"])
    place = int(array.opened().offset_c[3]) + 17
    content = bytearray(array.path.read_bytes())
    content[place] ^= 4
    array.path.write_bytes(content)
    assert Hdf5Array(array.path, "x")(0, 64) is not None
    with pytest.raises(DataError):
        Hdf5Array(array.path, "x")(0, N)
    with pytest.raises(DataError):
        Hdf5Array(array.path, "x").read_all_into(np.array([0]), np.array([N]), np.empty(N, np.float32))


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=50))
def test_unshuffling_puts_bytes_back(numbers):
    values = np.array(numbers, dtype=np.int32)
    shuffled = values.view(np.uint8).reshape(-1, 4).T.tobytes()
    np.testing.assert_array_equal(unshuffled(shuffled, values.dtype), values)


@pytest.mark.parametrize("n_words", [1, 2, 255, 256, 257, 360, 1000, 70_000])
@pytest.mark.parametrize("kind", ["random", "zeros", "all bits", "one bit"])
def test_the_compiled_checksum_is_that_of_hdf5(tmp_path, n_words, kind):
    fletcher32 = pytest.importorskip("genevae.kernels.chunks", reason="numba is not installed").fletcher32
    words = np.zeros(n_words, np.uint16)
    if kind == "random":
        words = np.random.default_rng(n_words).integers(0, 2**16, n_words).astype(np.uint16)
    elif kind != "zeros":
        words[-1 if kind == "one bit" else slice(None)] = 1 if kind == "one bit" else 2**16 - 1
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("x", data=words, chunks=(n_words,), fletcher32=True)
        _, chunk = stored.id.read_direct_chunk((0,))
    assert int(fletcher32(words)) == int(np.frombuffer(chunk[-4:], "<u4")[0])
