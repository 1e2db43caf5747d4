"""Chunks: matrices and tables side by side are one source, and what does not fit together is refused."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from genevae.errors import DataError, GeneError
from genevae.io import npz_chunks as module
from genevae.io.formats import open_source
from genevae.io.lowlevel.npz import read_npz, shape_of_npz
from genevae.io.npz_chunks import is_chunks, open_chunks
from genevae.io.read_options import ReadOptions

N_GENES = 7


def counts(n: int, seed: int, n_genes: int = N_GENES) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(0.3, (n, n_genes)).astype(np.float32))


def table(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    index = [f"c{seed}-{i}" for i in range(n)]
    return pd.DataFrame({"type": pd.Categorical(rng.choice(list("TB"), n)), "age": rng.normal(size=n)}, index=index)


def fill(path: Path, sizes: dict[int, int], suffix: str = "pkl", prefix: str = "human_") -> Path:
    path.mkdir(exist_ok=True)
    for number, n in sizes.items():
        sparse.save_npz(path / f"{prefix}counts_{number}.npz", counts(n, number), compressed=number % 2 == 0)
        metadata = path / f"{prefix}metadata_{number}.{suffix}"
        (table(n, number).to_parquet if suffix == "parquet" else table(n, number).to_pickle)(metadata)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    return fill(tmp_path / "chunks", {1: 5, 2: 4, 10: 3, 9: 2})


def opened(path: Path, **how: Any) -> Any:
    return open_chunks(path, ReadOptions(path=path, **how))


def dense(source: Any) -> np.ndarray:
    x = source.read(np.arange(len(source)))
    return x.toarray() if sparse.issparse(x) else x


def test_patterns_choose_one_species_of_a_folder_and_its_genes(tmp_path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    for species, n_genes in (("human", 7), ("mouse", 4)):
        for number in (2, 10):
            sparse.save_npz(folder / f"{species}-x-{number}.npz", counts(3, number, n_genes))
            table(3, number).to_pickle(folder / f"{species}-cells-{number}.pkl")
        (folder / f"{species}_genes.txt").write_text("".join(f"{species}{n}\n" for n in range(n_genes)))
    source = open_source(ReadOptions(folder, counts_glob="mouse-x-*.npz", metadata_glob="mouse-cells-*.pkl"))
    assert source.genes == ("mouse0", "mouse1", "mouse2", "mouse3")
    assert np.array_equal(dense(source), np.vstack([counts(3, seed, 4).toarray() for seed in (2, 10)]))
    assert list(source.obs.index) == [f"c{seed}-{i}" for seed in (2, 10) for i in range(3)]


GENES = {"human": ("A", "B", "C", "D", "E"), "mouse": ("C", "X", "A")}


def both_species(path: Path, named: bool = True) -> Path:
    path.mkdir()
    for species, genes in GENES.items():
        for number in (2, 10):
            sparse.save_npz(path / f"{species}_counts_{number}.npz", counts(3, number, len(genes)))
            (path / f"{species}_metadata_{number}.pkl").write_bytes(pickle.dumps({"type": ["T", "B", "T"]}))
        if named:
            (path / f"{species}_genes.txt").write_text("\n".join(genes))
    return path


@pytest.mark.parametrize("how", [{}, {"counts_glob": "*_counts_*.npz", "metadata_glob": "*_metadata_*.pkl"}], ids=str)
@pytest.mark.parametrize(("join", "genes"), [("inner", ("A", "C")), ("outer", ("A", "B", "C", "D", "E", "X"))])
def test_species_with_other_genes_are_joined_and_are_a_column(tmp_path, how, join, genes) -> None:
    source = open_source(ReadOptions(both_species(tmp_path / "both"), join=join, **how))
    assert source.genes == genes
    assert list(source.obs["species"]) == ["human"] * 6 + ["mouse"] * 6
    assert list(source.obs["file"].cat.categories) == [
        "human_counts_2", "human_counts_10", "mouse_counts_2", "mouse_counts_10",
    ]  # fmt: skip
    assert list(source.obs.index) == [f"cell_{n}" for n in range(12)]
    stored = {name: np.vstack([counts(3, seed, len(own)).toarray() for seed in (2, 10)]) for name, own in GENES.items()}
    for column, gene in enumerate(genes):
        parts = [stored[s][:, own.index(gene)] if gene in own else np.zeros(6) for s, own in GENES.items()]
        assert np.array_equal(dense(source)[:, column], np.concatenate(parts)), gene
    assert (source.panels is None) == (join == "inner")
    if source.panels is not None:
        measured_ng = source.panels.measured_pg[source.panels.panel_n]
        assert np.array_equal(measured_ng[0], [gene in GENES["human"] for gene in genes])
        assert np.array_equal(measured_ng[-1], [gene in GENES["mouse"] for gene in genes])


def test_species_with_other_genes_without_names_are_an_error_with_both_ways_on(tmp_path) -> None:
    with pytest.raises(DataError, match=r'mouse_genes\.txt.*--counts-glob "human_counts_\*\.npz"'):
        open_source(both_species(tmp_path / "both", named=False))


def test_species_without_a_common_gene_are_an_error_that_names_the_option(tmp_path) -> None:
    folder = both_species(tmp_path / "both")
    (folder / "mouse_genes.txt").write_text("X\nY\nZ\n")
    with pytest.raises(GeneError, match=r"\(human\).*\(mouse\).*--join outer"):
        open_source(folder)


def test_other_names_without_patterns_are_an_error_that_names_the_option(tmp_path) -> None:
    sparse.save_npz(tmp_path / "x.npz", counts(3, 0))
    with pytest.raises(DataError, match=r"x\.npz.*--counts-glob"):
        open_source(ReadOptions(tmp_path, format="chunks"))
    with pytest.raises(DataError, match="--metadata-glob"):
        open_source(ReadOptions(tmp_path, counts_glob="x*.npz"))
    with pytest.raises(DataError, match="not a folder"):
        open_source(ReadOptions(tmp_path / "x.npz", format="chunks"))
    with pytest.raises(DataError, match="for chunks"):
        ReadOptions(tmp_path, format="h5ad", counts_glob="x*.npz")


# --- what is there ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_chunks_are_one_source_in_natural_order(folder, keep) -> None:
    assert is_chunks(folder)
    source = opened(folder, keep=keep)
    order = {1: 5, 2: 4, 9: 2, 10: 3}
    assert np.array_equal(dense(source), np.vstack([counts(n, seed).toarray() for seed, n in order.items()]))
    assert source.genes == tuple(f"gene_{n}" for n in range(N_GENES))
    expected = pd.concat([table(n, seed).astype({"type": str}) for seed, n in order.items()])
    pd.testing.assert_frame_equal(source.obs[["type", "age"]].astype({"type": str}), expected)
    assert set(source.obs["type"].cat.categories) == {"B", "T"}
    assert list(source.obs["file"].unique()) == [f"human_counts_{n}" for n in order]
    rows = np.array([13, 0, 6, 6])
    assert np.array_equal(source.read(rows).toarray(), dense(source)[rows])


@pytest.mark.parametrize("suffix", ["pkl.gz", "parquet"])
def test_tables_of_other_kinds_are_read(tmp_path, suffix) -> None:
    pytest.importorskip("pyarrow")
    source = opened(fill(tmp_path / "chunks", {1: 5}, suffix))
    pd.testing.assert_frame_equal(source.obs[["type", "age"]], table(5, 1), check_categorical=False)


def test_species_lie_side_by_side(folder) -> None:
    fill(folder, {1: 3}, prefix="mouse_")
    assert list(opened(folder).obs.groupby("file", observed=True).size()) == [5, 4, 2, 3, 3]


def test_hidden_files_are_not_meant(folder) -> None:
    (folder / "._human_counts_1.npz").write_bytes(b"what other systems leave beside a file")
    (folder / ".genes.txt").touch()
    assert len(opened(folder)) == 14


GLOBS = {"counts_glob": "human_*.npz", "metadata_glob": "human_*.pkl"}


@pytest.mark.parametrize("how", [{}, GLOBS, {"counts_glob": "human_*.npz"}, {"metadata_glob": "*.pkl"}], ids=str)
def test_a_matrix_gets_the_table_of_its_name(folder, how) -> None:
    obs = opened(folder, **how).obs
    assert all(cell.startswith(f"c{str(file).removeprefix('human_counts_')}-") for cell, file in obs["file"].items())


@pytest.mark.parametrize("how", [{}, GLOBS], ids=str)
def test_files_are_never_matched_by_order(tmp_path, how) -> None:
    folder = fill(tmp_path / "chunks", {2: 4, 3: 4})
    (folder / "human_metadata_3.pkl").rename(folder / "human_metadata_1.pkl")
    with pytest.raises(DataError, match=r"human_counts_3\.npz, human_metadata_1\.pkl"):
        opened(folder, **how)


def test_files_beside_the_chunks_are_named_with_patterns_that_leave_them_out(folder) -> None:
    sparse.save_npz(folder / "human_raw_1.npz", counts(5, 1))
    longer = r'human_raw_1\.npz.*--counts-glob "human_counts_\*\.npz" --metadata-glob "human_metadata_\*\.pkl"'
    with pytest.raises(DataError, match=longer):
        opened(folder, **GLOBS)
    assert len(opened(folder, counts_glob="human_counts_*.npz", metadata_glob="human_metadata_*.pkl")) == 14


def test_a_pattern_of_the_matrices_alone_asks_for_one_of_the_tables(folder) -> None:
    fill(folder, {1: 3}, prefix="mouse_")
    with pytest.raises(DataError, match=r'mouse_metadata_1\.pkl.*--metadata-glob "human_metadata_\*\.pkl"'):
        opened(folder, counts_glob="human_*.npz")


def test_one_matrix_and_one_table_are_a_pair_whatever_their_names(tmp_path) -> None:
    sparse.save_npz(tmp_path / "a.npz", counts(3, 0))
    table(3, 0).to_pickle(tmp_path / "b.pkl")
    with pytest.raises(DataError, match=r"--counts-glob.*--metadata-glob"):
        open_source(tmp_path)
    assert len(opened(tmp_path, counts_glob="*.npz", metadata_glob="*.pkl")) == 3


@pytest.mark.parametrize("names", [[], ["human_counts_1.npz"], ["human_metadata_1.pkl"], ["a.npz", "a.pkl"]])
def test_other_folders_are_not_chunks(tmp_path, names) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert not is_chunks(tmp_path)
    assert not is_chunks(tmp_path / "human_counts_1.npz")


def test_cells_are_counted_where_an_index_only_counts(folder) -> None:
    table(5, 1).reset_index(drop=True).to_pickle(folder / "human_metadata_1.pkl")
    assert list(opened(folder).obs.index) == [f"cell_{n}" for n in range(14)]


def test_columns_and_categories_are_united(folder) -> None:
    other = table(4, 2).drop(columns="age")
    other["type"], other["donor"] = pd.Categorical(["NK"] * 4), ["d1"] * 4
    other.to_pickle(folder / "human_metadata_2.pkl")
    obs = opened(folder).obs
    assert set(obs["type"].cat.categories) == {"B", "T", "NK"}
    assert obs["age"].isna().sum() == 4
    assert obs["donor"].notna().sum() == 4


def test_a_column_that_is_left_out_of_many_tables_is_named_once(folder, capsys) -> None:
    for number, n in {1: 5, 2: 4, 10: 3}.items():
        table(n, number).assign(markers=[["CD3E"]] * n).to_pickle(folder / f"human_metadata_{number}.pkl")
    assert "markers" not in opened(folder).obs
    assert capsys.readouterr().err.count("\n") == 1


# --- genes ------------------------------------------------------------------------------------------------------------

SYMBOLS = [f"G{n}" for n in range(N_GENES - 1)] + ["G0"]
UNIQUE = (*SYMBOLS[:-1], "G0-1")
LINES = "".join(f"{name}\n" for name in SYMBOLS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("genes.txt", LINES),
        ("genes.txt", "gene\r\n" + LINES.replace("\n", "\r\n")),
        ("human_genes.tsv", "".join(f"{name}\tENSG{n}\n" for n, name in enumerate(SYMBOLS))),
        ("var.csv", "symbol,id\n" + "".join(f'"{name}",ENSG{n}\n' for n, name in enumerate(SYMBOLS))),
    ],
)
def test_genes_are_named_by_a_text_file(folder, name, content) -> None:
    (folder / name).write_text(content, newline="")
    assert opened(folder).genes == UNIQUE


@pytest.mark.parametrize("suffix", ["pkl", "parquet"])
@pytest.mark.parametrize("by_index", [False, True])
def test_genes_are_named_by_a_table(folder, suffix, by_index) -> None:
    pytest.importorskip("pyarrow")
    var = pd.DataFrame({"length": range(N_GENES)}, index=SYMBOLS) if by_index else pd.DataFrame({"symbol": SYMBOLS})
    (var.to_parquet if suffix == "parquet" else var.to_pickle)(folder / f"var.{suffix}")
    assert opened(folder).genes == UNIQUE


def test_genes_that_do_not_fit_are_refused(folder) -> None:
    (folder / "genes.txt").write_text("A\nB\n")
    with pytest.raises(DataError, match=r"genes\.txt names 2 genes, .* 7 columns"):
        opened(folder)
    (folder / "var.csv").write_text(LINES)
    with pytest.raises(DataError, match=r"genes\.txt, var\.csv\. Keep one"):
        opened(folder)


def test_a_table_that_names_no_gene_is_refused(folder) -> None:
    pd.DataFrame(index=pd.RangeIndex(N_GENES)).to_pickle(folder / "var.pkl")
    with pytest.raises(DataError, match=r"var\.pkl has no gene names"):
        opened(folder)


# --- what does not fit together ---------------------------------------------------------------------------------------


def test_a_chunk_without_its_half_is_named(folder) -> None:
    (folder / "human_metadata_9.pkl").unlink()
    with pytest.raises(DataError, match=r"4 matrices and 3 tables.*human_counts_9\.npz"):
        opened(folder)


def test_one_table_twice_is_refused(folder) -> None:
    table(5, 1).to_pickle(folder / "human_metadata_1.pkl.gz")
    with pytest.raises(DataError, match=r"human_metadata_1\.pkl, human_metadata_1\.pkl\.gz"):
        opened(folder)


def test_rows_that_differ_are_named(folder) -> None:
    table(6, 1).to_pickle(folder / "human_metadata_1.pkl")
    with pytest.raises(DataError, match=r"metadata_1\.pkl has 6 rows, but .*counts_1\.npz has 5"):
        opened(folder)


def test_genes_that_differ_are_named(folder) -> None:
    sparse.save_npz(folder / "human_counts_9.npz", counts(2, 9, 8))
    with pytest.raises(DataError, match=r"counts_1\.npz has 7 genes and .*counts_9\.npz has 8"):
        opened(folder)


def test_columns_of_one_name_are_refused(folder) -> None:
    pd.DataFrame([[1, 2]] * 5, columns=["a", "a"]).to_pickle(folder / "human_metadata_1.pkl")
    with pytest.raises(DataError, match="several columns with the same name: a"):
        opened(folder)


def test_categories_of_two_kinds_are_refused(folder) -> None:
    table(4, 2).assign(type=pd.Categorical([1, 2, 1, 2])).to_pickle(folder / "human_metadata_2.pkl")
    with pytest.raises(DataError, match="cannot be concatenated"):
        opened(folder)


def test_chunks_have_no_layers(folder) -> None:
    with pytest.raises(DataError, match="no layers"):
        opened(folder, layer="counts")


def test_a_table_that_runs_a_program_is_refused(folder) -> None:
    canary = folder / "canary"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(canary),)

    (folder / "human_metadata_9.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match=r"human_metadata_9\.pkl may be unsafe.* 'posix\.mkdir'"):
        opened(folder)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["human_counts_9.npz", "human_metadata_9.pkl"])
def test_a_file_that_changes_while_it_is_read_is_noticed(folder, monkeypatch, name) -> None:
    reader = "read_npz" if name.endswith("npz") else "read_pickled_table"
    read = getattr(module, reader)

    def read_and_touch(path: Path, *left_out: Any) -> Any:
        found = read(path, *left_out)
        if path.name == name:
            os.utime(path, ns=(1, 1))
        return found

    monkeypatch.setattr(module, reader, read_and_touch)
    with pytest.raises(DataError, match=f"{name} changed"):
        opened(folder)


# --- matrices ---------------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(0, 6), st.integers(1, 6)),
    kind=st.sampled_from(["csr", "csc"]),
    dtype=st.sampled_from(["f4", "f8", "i4", "u1", "?", ">f4", "<i8"]),
    compressed=st.booleans(),
)
def test_any_matrix_comes_back(tmp_path_factory, seed, shape, kind, dtype, compressed) -> None:
    x = np.random.default_rng(seed).poisson(1, shape)
    path = tmp_path_factory.mktemp("any") / "x.npz"
    stored = (sparse.csr_matrix if kind == "csr" else sparse.csc_matrix)(x)
    stored.data = stored.data.astype(dtype)
    sparse.save_npz(path, stored, compressed=compressed)
    found = read_npz(path)
    assert shape_of_npz(path) == shape
    assert found.dtype == np.float32
    assert found.format == "csr"
    assert np.array_equal(found.toarray(), x.astype(bool) if dtype == "?" else x)


def parts(**other: Any) -> dict[str, Any]:
    """Return two cells, the first with genes 2 and 0, the second with gene 1 twice."""
    given = {"data": [1, 2, 200, 100], "indices": [2, 0, 1, 1], "indptr": [0, 2, 4], "shape": [2, 3], "format": b"csr"}
    arrays = {name: np.array(values) for name, values in (given | other).items() if values is not None}
    return arrays | ({"data": arrays["data"].astype(np.uint8)} if "data" not in other else {})


def test_entries_are_sorted_and_summed(tmp_path) -> None:
    np.savez(tmp_path / "x.npz", **parts())
    found = read_npz(tmp_path / "x.npz")
    assert np.array_equal(found.toarray(), [[2, 0, 1], [0, 300, 0]])  # 300 is more than a byte holds
    assert found.has_canonical_format


LIES: dict[str, dict[str, Any]] = {
    "holds no CSR matrix": {"format": None},
    "lacks shape": {"shape": None},
    "sparse format 'coo'": {"format": b"coo"},
    "without indptr": {"indptr": None},
    "cannot be a number of cells": {"shape": [-2, 3]},
    "be a number of cells and of genes": {"shape": [2.0, 3.0]},
    "of genes": {"shape": [2, 3, 1]},
    "row starts": {"indptr": [0, 3, 2]},
    "row starts .indptr. do not fit": {"indptr": [0, 4]},
    "do not fit 2 cells": {"indptr": [1, 2, 4]},
    "do not fit 2 cells and 4": {"indptr": [0, 2, 5]},
    "lie between -1": {"indices": [2, 0, -1, 1]},
    "and 3, and there are 3 columns": {"indices": [2, 0, 3, 1]},
    "4 values and 3 column numbers": {"indices": [2, 0, 1]},
    "'indices' is an array of float64": {"indices": [2.0, 0, 1, 1]},
    "'data' is an array of <U1": {"data": ["1", "2", "3", "4"]},
    "'data' is an array of int64 with 2 axes": {"data": [[1, 2, 3, 4]]},
    "cannot be read": {"data": np.array([1, None, 2, 3], dtype=object)},
    "too large for float32": {"data": [1, 2, 3, 2**24 + 1], "indices": [2, 0, 1, 0]},
}


@pytest.mark.parametrize("reason", LIES)
def test_matrices_that_lie_are_refused(tmp_path, reason) -> None:
    np.savez(tmp_path / "x.npz", **parts(**LIES[reason]))
    with pytest.raises(DataError, match=reason) as caught:
        read_npz(tmp_path / "x.npz")
    assert str(tmp_path / "x.npz") in str(caught.value)


def test_other_files_are_refused(tmp_path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(DataError, match="No such file"):
        read_npz(path)
    for content in (b"", b"PK\x03\x04", pickle.dumps([1]), gzip.compress(b"1")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npz"):
            read_npz(path)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(DataError, match="one array"):
        read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("format.npy", b"not an array")
        archive.writestr("shape.npy", b"")
    with pytest.raises(DataError, match=r"x\.npz"):
        read_npz(path)


def test_an_array_that_announces_too_much_is_refused(tmp_path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **parts())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["data.npy"] = members["data.npy"].replace(b"(4,)", b"(10000000000000,)")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match="would unpack to"):
        read_npz(path)


def survives(path: Path, n: int, seed: int) -> None:
    """Damage a file's bytes, and at times those of an array within it, whose checksum is then right."""
    content, shape, rng = path.read_bytes(), shape_of_npz(path), random.Random(seed)  # noqa: S311
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(n):
        if rng.random() < 0.5:
            path.write_bytes(damaged(content, rng))
        else:
            chosen = rng.choice([name for name in members if name != "shape.npy"])
            with zipfile.ZipFile(path, "w") as archive:
                for name, member in members.items():
                    archive.writestr(name, damaged(member, rng) if name == chosen else member)
        with contextlib.suppress(DataError):
            assert read_npz(path).shape == shape


def damaged(content: bytes, rng: random.Random) -> bytes:
    data, at = bytearray(content), rng.randrange(len(content))
    kind = rng.randrange(4)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at:at] = rng.randbytes(rng.randrange(1, 9))
    else:
        del data[at : at + rng.randrange(1, 9)]
    return bytes(data)


@pytest.mark.parametrize("number", [1, 2])
def test_damaged_matrices_are_read_or_refused(folder, number) -> None:
    survives(folder / f"human_counts_{number}.npz", 60, seed=number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_many_damaged_matrices_are_read_or_refused(folder, number) -> None:
    survives(folder / f"human_counts_{number}.npz", 2000, seed=10 + number)
