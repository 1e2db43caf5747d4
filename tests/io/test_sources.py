"""Sources: every format gives back what was written, and bad files are refused with a reason."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.io import mmwrite

import genevae.io.formats as sources
from genevae.errors import DataError
from genevae.io.formats import MemorySource, ReadOptions, fingerprint, open_source, read
from genevae.io.source import update_lines
from genevae.io.tables.metadata import read_table

N_CELLS, N_GENES = 30, 12


@pytest.fixture
def adata() -> AnnData:
    rng = np.random.default_rng(0)
    x = sparse.csr_matrix(rng.poisson(0.7, (N_CELLS, N_GENES)).astype(np.float32))
    obs = pd.DataFrame(
        {"donor": pd.Categorical(rng.choice(["a", "b"], N_CELLS)), "age": rng.normal(size=N_CELLS)},
        index=[f"cell{i}" for i in range(N_CELLS)],
    )
    made = AnnData(x, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(N_GENES)]))
    made.layers["counts"] = sparse.csr_matrix(x * 2)
    return made


def dense(source) -> np.ndarray:
    x = source.read(np.arange(len(source)))
    return x.toarray() if sparse.issparse(x) else x


def write_tenx_h5(path: Path, adata: AnnData, symbols: list[str], types: list[str], version: int = 3) -> None:
    x = sparse.csr_matrix(adata.X).astype(np.int32)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "hg19")
        for name, values in (("data", x.data), ("indices", x.indices), ("indptr", x.indptr), ("shape", x.shape[::-1])):
            group[name] = np.asarray(values)
        group["barcodes"] = np.array(adata.obs_names, dtype="S")
        if version == 3:
            group["features/id"] = np.array(adata.var_names, dtype="S")
            group["features/name"] = np.array(symbols, dtype="S")
            group["features/feature_type"] = np.array(types, dtype="S")
            group["features/genome"] = np.array(["hg38"] * len(symbols), dtype="S")
        else:
            group["genes"] = np.array(adata.var_names, dtype="S")
            group["gene_names"] = np.array(symbols, dtype="S")


def write_tenx_folder(path: Path, adata: AnnData, symbols: list[str], types: list[str] | None, zipped: bool) -> None:
    path.mkdir()
    mmwrite(path / "matrix.mtx", sparse.coo_matrix(adata.X.T.astype(np.int64)))
    columns = [adata.var_names, symbols, *([types] if types else [])]
    lines = ["\t".join(row) for row in zip(*columns, strict=True)]
    (path / ("features.tsv" if types else "genes.tsv")).write_text("\n".join(lines) + "\n")
    (path / "barcodes.tsv").write_text("\n".join(adata.obs_names) + "\n")
    if zipped:
        for file in list(path.iterdir()):
            file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()


SYMBOLS = ["NA", "A", "A", "A-1", *[f"S{i}" for i in range(4, N_GENES)]]
UNIQUE = ["NA", "A", "A-2", "A-1", *[f"S{i}" for i in range(4, N_GENES)]]
TYPES = ["Gene Expression"] * (N_GENES - 2) + ["Antibody Capture"] * 2


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")  # anndata says so of its own default
@pytest.mark.parametrize("storage", ["csr", "csc", "dense"])
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_anndata_files_come_back(adata, tmp_path, suffix, storage):
    expected = adata.X.toarray()
    adata.X = {"csr": adata.X, "csc": adata.X.tocsc(), "dense": expected}[storage]
    path = tmp_path / f"cells{suffix}"
    (adata.write_h5ad if suffix == ".h5ad" else adata.write_zarr)(path)
    source = open_source(path)
    assert np.array_equal(dense(source), expected)
    assert sparse.issparse(source.read(np.arange(2))) == (storage != "dense")
    assert source.genes == tuple(adata.var_names)
    assert source.name == str(path)
    pd.testing.assert_frame_equal(source.obs, adata.obs)
    assert np.array_equal(dense(open_source(str(path), layer="counts")), 2 * expected)
    again = read(path, layer="counts")
    assert np.array_equal(again.X.toarray(), 2 * expected)


@pytest.mark.parametrize("version", [2, 3])
def test_tenx_h5_comes_back(adata, tmp_path, version):
    write_tenx_h5(tmp_path / "m.h5", adata, SYMBOLS, TYPES, version)
    n_kept = N_GENES - 2 if version == 3 else N_GENES
    found = read(tmp_path / "m.h5")
    assert list(found.var_names) == UNIQUE[:n_kept]
    assert list(found.var["gene_ids"]) == list(adata.var_names[:n_kept])
    assert list(found.obs_names) == list(adata.obs_names)
    assert np.array_equal(found.X.toarray(), adata.X.toarray()[:, :n_kept])
    assert np.array_equal(dense(open_source(tmp_path / "m.h5")), found.X.toarray())


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("types", [None, TYPES])
def test_tenx_folder_comes_back(adata, tmp_path, types, zipped):
    write_tenx_folder(tmp_path / "run", adata, SYMBOLS, types, zipped)
    n_kept = N_GENES - 2 if types else N_GENES
    found = read(tmp_path / "run")
    assert list(found.var_names) == UNIQUE[:n_kept]
    assert list(found.var["gene_ids"]) == list(adata.var_names[:n_kept])
    assert np.array_equal(found.X.toarray(), adata.X.toarray()[:, :n_kept])


def test_tenx_agrees_with_scanpy(adata, tmp_path):
    scanpy = pytest.importorskip("scanpy")
    symbols = [f"S{i}" for i in range(N_GENES)]
    write_tenx_h5(tmp_path / "m.h5", adata, symbols, TYPES)
    ours, theirs = read(tmp_path / "m.h5"), scanpy.read_10x_h5(tmp_path / "m.h5")
    assert list(ours.var_names) == list(theirs.var_names)
    assert np.array_equal(ours.X.toarray(), theirs.X.toarray())
    for column in ("gene_ids", "feature_types", "genome"):
        assert list(ours.var[column]) == list(theirs.var[column])


def test_real_data_open(shared_data):
    source = open_source(shared_data("kang_merged.h5ad"))
    assert (len(source), len(source.genes)) == (4856, 4805)
    assert fingerprint(source) == fingerprint(open_source(read(shared_data("kang_merged.h5ad"))))


def test_a_new_format_is_one_line(adata, tmp_path, monkeypatch):
    (tmp_path / "cells.mine").write_text("x")
    streamed = open_source(adata)
    mine = sources.Format("mine", lambda path: path.suffix == ".mine", lambda _, __: streamed, lambda _: adata)
    monkeypatch.setitem(sources.FORMATS, "mine", mine)
    assert open_source(tmp_path / "cells.mine") is streamed
    assert read(tmp_path / "cells.mine") is adata


# --- AnnData objects --------------------------------------------------------------------------------------------------


def test_raw_is_a_layer(adata):
    adata.raw = adata.copy()
    kept = adata[:, :5].copy()
    assert open_source(kept).genes == tuple(adata.var_names[:5])
    assert open_source(kept, layer="raw").genes == tuple(adata.var_names)
    assert np.array_equal(dense(open_source(kept, layer="raw")), adata.X.toarray())


def test_views_and_backed_objects_are_read(adata, tmp_path):
    view = adata[5:15, ::2]
    source = open_source(view)
    assert view.is_view
    assert type(source.obs) is pd.DataFrame
    assert np.array_equal(dense(source), adata.X.toarray()[5:15, ::2])
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert np.array_equal(dense(open_source(backed)), adata.X.toarray())
    assert np.array_equal(dense(open_source(backed, layer="counts")), adata.layers["counts"].toarray())
    assert backed.isbacked
    backed.file.close()


def test_a_source_is_itself(adata):
    source = open_source(adata)
    assert open_source(source) is source
    with pytest.raises(DataError, match="layer='counts' when opening it"):
        open_source(source, layer="counts")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), as_array=st.booleans(), dtype=st.sampled_from([np.uint8, np.int64, np.float64]))
def test_rows_are_canonical_and_the_users_matrix_is_untouched(seed, as_array, dtype):
    rng = np.random.default_rng(seed)
    n_entries = int(rng.integers(0, 40))
    row = np.sort(rng.integers(0, 6, n_entries))
    indptr = np.searchsorted(row, np.arange(7))
    # columns unsorted, and coming twice
    parts = (rng.integers(1, 200, n_entries).astype(dtype), rng.integers(0, 5, n_entries), indptr)
    x = (sparse.csr_array if as_array else sparse.csr_matrix)(tuple(part.copy() for part in parts), shape=(6, 5))
    adata = AnnData(x, obs=pd.DataFrame(index=list("abcdef")), var=pd.DataFrame(index=list("abcde")))
    found = open_source(adata).read(np.array([3, 0, 3]))
    expected = np.zeros((6, 5))
    np.add.at(expected, (row, parts[1]), parts[0].astype(np.float64))
    assert found.dtype == np.float32
    assert found.has_canonical_format
    assert np.array_equal(found.toarray(), expected[[3, 0, 3]])
    for before, after in zip(parts, (adata.X.data, adata.X.indices, adata.X.indptr), strict=True):
        assert np.array_equal(before, after)
        assert adata.X.dtype == dtype


def test_duplicate_names_are_left_to_the_inspection(adata, tmp_path):
    with sources.ignore_warnings():
        adata.obs_names = ["c"] * N_CELLS
        adata.var_names = ["G"] * N_GENES
        adata.write_h5ad(tmp_path / "cells.h5ad")
    source = open_source(tmp_path / "cells.h5ad")
    assert set(source.genes) == {"G"}
    assert set(source.obs.index) == {"c"}


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.float64])
@pytest.mark.parametrize("as_sparse", [False, True])
def test_counts_that_float32_cannot_hold_are_refused(dtype, as_sparse):
    def source(value: int) -> MemorySource:
        x = np.array([[0, value], [1, 2]], dtype=dtype)
        return open_source(AnnData(sparse.csr_matrix(x) if as_sparse else x))

    assert dense(source(2**24))[0, 1] == 2**24
    assert dense(source(2**24 + 2))[0, 1] == 2**24 + 2
    with pytest.raises(DataError, match="16777217"):
        source(2**24 + 1)


def test_fractions_may_be_rounded():
    assert dense(open_source(AnnData(np.array([[1e8 / 3, np.nan], [0.1, 1e9]]))))[1, 0] == np.float32(0.1)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_missing_paths_name_their_neighbours(tmp_path):
    (tmp_path / "cells.h5ad").write_text("")
    with pytest.raises(DataError, match=r"There is no .*cels\.h5ad.*Did you mean 'cells\.h5ad'"):
        open_source(tmp_path / "cels.h5ad")
    with pytest.raises(DataError, match="does not exist either"):
        open_source(tmp_path / "nowhere" / "cells.h5ad")


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.csv", "folder/cells.h5ad"])
def test_a_link_without_its_target_is_named(tmp_path, name):
    (tmp_path / name.split("/")[0]).symlink_to(tmp_path / "annex" / "xyz")
    with pytest.raises(DataError, match=r"is a link to .*annex/xyz, which is missing"):
        open_source(tmp_path / name)
    with pytest.raises(DataError, match="is a link to"):
        read_table(tmp_path / name)


def test_brackets_in_a_path_are_no_pattern(tmp_path, adata):
    folder = tmp_path / "run [v2]"
    folder.mkdir()
    for name in ("a.h5ad", "b[1].h5ad"):
        adata.write_h5ad(folder / name)
    assert len(open_source(folder / "b[1].h5ad")) == len(adata)
    assert len(open_source(folder / "*.h5ad")) == len(open_source(folder)) == 2 * len(adata)
    with pytest.raises(DataError, match=r"Did you mean 'b\[1\]\.h5ad'"):
        open_source(folder / "b[2].h5ad")


def test_a_file_that_is_open_for_writing_is_no_damage(tmp_path, adata):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    writer = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(tmp_path / "cells.h5ad")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        with pytest.raises(DataError, match=r"is open for writing in another program.*HDF5_USE_FILE_LOCKING=FALSE"):
            open_source(tmp_path / "cells.h5ad")
        process.stdin.close()


@pytest.mark.parametrize("key", ["X/data", "obs/batch/codes", "var/_index"])
def test_a_missing_filter_is_no_damage(tmp_path, adata, key):
    adata.obs["batch"] = pd.Categorical(["x", "y"] * (len(adata) // 2) + ["x"] * (len(adata) % 2))
    path = tmp_path / "cells.h5ad"
    adata.X = sparse.csr_matrix(adata.X)
    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        attributes, values = dict(file[key].attrs), file[key][:]
        del file[key]
        file.create_dataset(key, data=values, compression="gzip", dtype=None).attrs.update(attributes)
    deflate = b"\x01\x00\x08\x00\x01\x00\x01\x00deflate\x00"  # the number and name of HDF5's own filter
    content = path.read_bytes()
    assert content.count(deflate) == 1
    path.write_bytes(content.replace(deflate, b"\x3f\x7f" + deflate[2:]))
    with pytest.raises(DataError, match=r"compressed with a filter that HDF5 does not have.*pip install hdf5plugin"):
        open_source(path).read(np.arange(3))


def test_files_of_old_anndata_are_opened_as_they_are_read(tmp_path, adata):
    x, path = sparse.csr_matrix(adata.X), tmp_path / "old.h5ad"
    obs = np.array([(name.encode(), 7) for name in adata.obs_names], [("index", "S20"), ("size", "i4")])
    var = np.array([(name.encode(),) for name in adata.var_names], [("index", "S20")])
    with h5py.File(path, "w") as file:
        for part in ("data", "indices", "indptr"):
            file[f"X/{part}"] = getattr(x, part)
        file["X"].attrs.update(h5sparse_format="csr", h5sparse_shape=x.shape)
        file["obs"], file["var"] = obs, var
    source = open_source(path)
    assert source.genes == tuple(adata.var_names)
    assert source.obs["size"].tolist() == [7] * len(adata)
    np.testing.assert_array_equal(source.read(np.arange(len(adata))).toarray(), x.toarray())


def test_data_without_x_name_the_layer_to_give(tmp_path, adata):
    bare = AnnData(obs=adata.obs, var=adata.var)
    with pytest.raises(DataError, match="no X and no layers"):
        open_source(bare)
    bare.raw = adata
    bare.write_h5ad(tmp_path / "raw.h5ad")
    for data in (bare, tmp_path / "raw.h5ad"):
        with pytest.raises(DataError, match=r"has no X.*--layer raw \(in Python: layer='raw'\)"):
            open_source(data)
        assert len(open_source(data, "raw")) == len(adata)


@pytest.mark.parametrize("name", ["cells.xyz", "cells", "folder"])
def test_unknown_formats_list_the_known(tmp_path, name):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    else:
        path.write_text("x")
    with pytest.raises(DataError, match=r"unknown format.*\.h5ad.*\.zarr"):
        open_source(path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("my cells.h5ad.gz", "gunzip -k '.*/my cells.h5ad.gz'$"),
        ("cells.h5ad.zip", "unzip .*/cells.h5ad.zip$"),
        ("cells.loom", r"read_loom\('.*/cells.loom'\).write_h5ad\('cells.h5ad'\)"),
        ("a.mtx", "a_barcodes.tsv and a_features.tsv"),
    ],
)
def test_other_formats_are_answered_with_a_conversion(tmp_path, name, advice):
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=advice):
        open_source(tmp_path / name)


@pytest.mark.parametrize("suffix", [".h5ad", ".h5"])
def test_what_is_not_hdf5_is_refused(tmp_path, suffix):
    path = tmp_path / f"cells{suffix}"
    path.write_text("<html>not found</html>")
    with pytest.raises(DataError, match=f"not an HDF5 file, although its name ends in {suffix}"):
        open_source(path)
    path.write_text("")
    with pytest.raises(DataError, match="is empty"):
        open_source(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="is a folder"):
        open_source(path)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_truncated_files_are_refused(adata, tmp_path, share):
    path = tmp_path / "cells.h5ad"
    adata.write_h5ad(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"cells\.h5ad is not whole"):
        open_source(path)


def test_stores_without_tables_are_refused(tmp_path):
    with h5py.File(tmp_path / "cells.h5ad", "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(DataError, match=r"is not AnnData.*weights"):
        open_source(tmp_path / "cells.h5ad")
    (tmp_path / "cells.zarr").mkdir()
    with pytest.raises(DataError, match="No group found"):
        open_source(tmp_path / "cells.zarr")


def test_damage_inside_is_refused(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "a") as file:
        del file["X/indptr"]
    with pytest.raises(DataError, match=r"cells\.h5ad \(/X\).*lacks 'indptr'"):
        open_source(tmp_path / "cells.h5ad")


def test_unknown_layers_name_the_nearest(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for attempt in (open_source, read):
        with pytest.raises(DataError, match=r"no layer 'count'. Did you mean 'counts'"):
            attempt(tmp_path / "cells.h5ad", layer="count")
    with pytest.raises(DataError, match="no layer 'raw'"):
        open_source(adata, layer="raw")


def test_no_x_names_the_layers(adata):
    del adata.X
    with pytest.raises(DataError, match=r"has no X.*counts"):
        open_source(adata)
    assert len(open_source(adata, layer="counts")) == N_CELLS


def test_other_hdf5_files_are_not_tenx(tmp_path, adata):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_group("weights")
    with pytest.raises(DataError, match=r"not a 10x file.*weights"):
        open_source(tmp_path / "m.h5")
    write_tenx_h5(tmp_path / "two.h5", adata, SYMBOLS, TYPES, version=2)
    with h5py.File(tmp_path / "two.h5", "a") as file:
        file.copy("hg19", "mm10")
    with pytest.raises(DataError, match="several genomes: hg19, mm10"):
        open_source(tmp_path / "two.h5")


def test_tenx_without_expression_is_refused(tmp_path, adata):
    write_tenx_h5(tmp_path / "m.h5", adata, SYMBOLS, ["Antibody Capture"] * N_GENES)
    with pytest.raises(DataError, match="only Antibody Capture"):
        open_source(tmp_path / "m.h5")


PROGRAMS = {
    "10x": ("matrix.mtx", "barcodes.tsv", "genes.tsv", False),
    "kb": ("cells_x_genes.mtx", "cells_x_genes.barcodes.txt", "cells_x_genes.genes.txt", True),
    "alevin": ("quants_mat.mtx", "quants_mat_rows.txt", "quants_mat_cols.txt", True),
}


def write_program(folder: Path, program: str, prefix: str = "", turned: bool = False, seed: int = 0) -> np.ndarray:
    """Write the three files of a program, with one column of gene names."""
    x = np.random.default_rng(seed).poisson(1, (5, 4))
    matrix, barcodes, features, cells_in_rows = PROGRAMS[program]
    folder.mkdir(parents=True, exist_ok=True)
    mmwrite(folder / (prefix + matrix), sparse.coo_matrix(x if cells_in_rows != turned else x.T))
    (folder / (prefix + barcodes)).write_text("".join(f"{prefix}c{at}\n" for at in range(5)))
    (folder / (prefix + features)).write_text("".join(f"ENSG{at}\n" for at in range(4)))
    return x


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("prefix", ["", "GSM1_S1_"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_matrices_of_programs_are_read(tmp_path, program, prefix, turned):
    x = write_program(tmp_path / "run", program, prefix, turned)
    (tmp_path / "run" / "notes.txt").write_text("no data")
    for path in (tmp_path / "run", tmp_path / "run" / (prefix + PROGRAMS[program][0])):
        adata = read(path)
        np.testing.assert_array_equal(adata.X.toarray(), x)
        assert adata.obs_names.tolist() == [f"{prefix}c{at}" for at in range(5)]
        assert adata.var_names.tolist() == [f"ENSG{at}" for at in range(4)]
    if program != "kb":
        return
    (tmp_path / "run" / f"{prefix}cells_x_genes.genes.names.txt").write_text("A\nB\nC\nD\n")
    assert read(tmp_path / "run").var_names.tolist() == ["A", "B", "C", "D"]


def test_several_matrices_in_a_folder_are_one_source(tmp_path):
    x = [write_program(tmp_path, "10x", f"GSM{seed}_", seed=seed) for seed in (1, 2)]
    (tmp_path / "GSM2_genes.tsv").unlink()  # the same for all samples
    adata = read(tmp_path)
    np.testing.assert_array_equal(sparse.csr_matrix(adata.X).toarray(), np.concatenate(x))
    assert adata.obs_names[5] == "GSM2_c0"


def test_a_folder_above_the_data_names_them(tmp_path):
    write_program(tmp_path / "outs" / "filtered_feature_bc_matrix", "10x")
    write_program(tmp_path / "outs" / "alevin", "alevin")
    with pytest.raises(DataError, match=r"Give one of them: .*outs/alevin, .*outs/filtered_feature_bc_matrix"):
        read(tmp_path)
    (tmp_path / "outs" / "alevin" / "quants_mat.gz").write_bytes(b"")
    (tmp_path / "outs" / "alevin" / "quants_mat.mtx").unlink()
    with pytest.raises(DataError, match="--dumpMtx"):
        read(tmp_path / "outs" / "alevin")


def test_raw_and_filtered_cells_are_not_joined(tmp_path, adata):
    for name in ("raw_feature_bc_matrix.h5", "filtered_feature_bc_matrix.h5"):
        write_tenx_h5(tmp_path / name, adata, SYMBOLS, TYPES)
    with pytest.raises(DataError, match=r"twice.*such as .*/filtered_feature_bc_matrix\.h5"):
        read(tmp_path)


def test_counts_of_spliced_and_unspliced_reads_are_not_genes(tmp_path):
    write_program(tmp_path, "alevin")
    mmwrite(tmp_path / "quants_mat.mtx", sparse.coo_matrix(np.ones((5, 6), int)))
    (tmp_path / "quants_mat_cols.txt").write_text("A\nB\nA-U\nB-U\nA-A\nB-A\n")
    with pytest.raises(DataError, match=r"ambiguous counts of each gene .A, A-U, A-A.*pyroe"):
        read(tmp_path)


def test_quotes_and_headers_of_names(tmp_path):
    x = write_program(tmp_path, "10x")
    (tmp_path / "barcodes.tsv").write_text("".join(f'"c{at}"\n' for at in range(5)))
    np.testing.assert_array_equal(read(tmp_path)[["c0", "c1"]].X.toarray(), x[:2])
    (tmp_path / "barcodes.tsv").write_text("x\n" + "".join(f'"c{at}"\n' for at in range(5)))
    with pytest.raises(DataError, match="header"):
        read(tmp_path)


def test_damaged_tenx_folders_are_refused(tmp_path, adata):
    whole = tmp_path / "whole"
    write_tenx_folder(whole, adata, SYMBOLS, TYPES, zipped=True)
    shutil.copytree(whole, tmp_path / "missing")
    (tmp_path / "missing" / "barcodes.tsv.gz").unlink()
    with pytest.raises(DataError, match=r"none of barcodes\.tsv,.*is beside it.*ln -s NAME"):
        open_source(tmp_path / "missing")
    shutil.copytree(whole, tmp_path / "short")
    (tmp_path / "short" / "barcodes.tsv.gz").write_bytes(gzip.compress(b"a\nb\n"))
    with pytest.raises(DataError, match="is inconsistent"):
        open_source(tmp_path / "short")
    for name in ("matrix.mtx.gz", "features.tsv.gz"):
        cut = tmp_path / f"cut_{name}"
        shutil.copytree(whole, cut)
        (cut / name).write_bytes((cut / name).read_bytes()[:40])
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            open_source(cut)


# --- at most so many cells of each batch file -------------------------------------------------------------------------


def test_at_most_so_many_cells_of_each_batch_file_are_a_sample_that_stays_the_same(tmp_path):
    sizes = (30, 4, 25)
    for number, n in enumerate(sizes):
        with h5py.File(tmp_path / f"batch_{number:04d}.h5", "w") as file:
            file["X"] = np.arange(3 * n, dtype=np.float32).reshape(n, 3) + 1000 * number
            file["genes"] = np.array(["A", "B", "C"], "S")
            file["cells"] = np.array([f"c{number}-{i}" for i in range(n)], "S")
            file["obs/number"] = np.arange(n)
    (tmp_path / "config.json").write_text(f'{{"n_cells": {sum(sizes)}, "n_genes": 3}}')
    source = open_source(ReadOptions(tmp_path, max_cells_per_batch=10))
    names = list(source.obs.index)
    assert [sum(name.startswith(f"c{number}-") for name in names) for number in range(3)] == [10, 4, 10]
    numbers = source.obs["number"].to_numpy()
    assert names == [f"c{number}-{i}" for number, i in zip([0] * 10 + [1] * 4 + [2] * 10, numbers, strict=True)]
    rows = np.array([3, 23, 0, 12])
    first_gene = 3 * numbers + 1000 * np.repeat([0, 1, 2], [10, 4, 10])
    assert np.array_equal(np.asarray(source.read(rows))[:, 0], first_gene[rows])
    assert set(numbers[:10]) != set(range(10))
    assert set(numbers[:10]) != set(numbers[14:])
    again = open_source(ReadOptions(tmp_path, max_cells_per_batch=10))
    pd.testing.assert_frame_equal(again.obs, source.obs)
    one = open_source(ReadOptions(tmp_path / "batch_0002.h5", max_cells_per_batch=10))
    assert list(one.obs.index) == names[14:]
    with pytest.raises(DataError, match="1 or more, not 0"):
        ReadOptions(tmp_path, max_cells_per_batch=0)


def test_such_a_limit_is_an_error_for_other_files(tmp_path, adata):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(DataError, match=r"cells\.h5ad is no batch file.*genevae data convert"):
        open_source(ReadOptions(tmp_path / "cells.h5ad", max_cells_per_batch=10))


@pytest.mark.parametrize("n", [0, 1, 2**16, 2**16 + 1])
def test_lines_hashed_in_blocks_have_the_hash_of_the_whole_text(n: int) -> None:
    values = pd.Series(np.arange(n) / 8, index=[f"c{i}" for i in range(n)], dtype=np.float32)
    for each in (values, values.index):
        digest = hashlib.sha256(b"before")
        update_lines(digest, each)
        assert digest.hexdigest() == hashlib.sha256(b"before" + "\n".join(map(str, each)).encode()).hexdigest()
