"""A 10x folder in an archive is read as the folder is, and nothing else of the archive is extracted."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import numpy as np
import pytest

import genevae as gv
from genevae.errors import DataError

MATRIX = "%%MatrixMarket matrix coordinate integer general\n%\n3 2 3\n1 1 5\n3 1 1\n2 2 7\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    out = tmp_path / "filtered_feature_bc_matrix"
    out.mkdir()
    (out / "matrix.mtx.gz").write_bytes(gzip.compress(MATRIX.encode()))
    (out / "barcodes.tsv.gz").write_bytes(gzip.compress(b"AAA-1\nCCC-1\n"))
    rows = "".join(f"ENSG{i}\tG{i}\tGene Expression\n" for i in range(3))
    (out / "features.tsv.gz").write_bytes(gzip.compress(rows.encode()))
    return out


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz")])
def test_an_archive_is_read_as_its_folder(folder, tmp_path, suffix, mode):
    path = tmp_path / f"sample{suffix}"
    with tarfile.open(path, mode) as archive:
        archive.add(folder, arcname="outs/filtered_feature_bc_matrix")
        archive.add(folder / "barcodes.tsv.gz", arcname="outs/other/barcodes.tsv.gz")
    one, other = gv.read(path), gv.read(folder)
    np.testing.assert_array_equal(one.X.toarray(), other.X.toarray())
    assert one.obs_names.tolist() == other.obs_names.tolist() == ["AAA-1", "CCC-1"]
    assert one.var_names.tolist() == ["G0", "G1", "G2"]


def test_a_path_that_leaves_the_folder_is_not_written(folder, tmp_path):
    path = tmp_path / "deep" / "evil.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for file in folder.iterdir():
            archive.add(file, arcname=f"../../{file.name}")
    assert gv.read(path).n_obs == 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["deep", folder.name]


def test_what_cannot_be_read_is_named(folder, tmp_path):
    (tmp_path / "broken.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"broken\.tar\.gz cannot be read as a \.tar archive"):
        gv.read(tmp_path / "broken.tar.gz")
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(DataError, match=r"empty\.tar has no matrix\.mtx"):
        gv.read(tmp_path / "empty.tar")
    with tarfile.open(tmp_path / "two.tar", "w") as archive:
        archive.add(folder, arcname="a")
        archive.add(folder, arcname="b")
    with pytest.raises(DataError, match=r"several matrices \(a/matrix\.mtx\.gz, b/matrix\.mtx\.gz\)"):
        gv.read(tmp_path / "two.tar")
