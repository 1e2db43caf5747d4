"""Conversion: what comes out is what went in, in any format, also after a kill."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from genevae.errors import DataError, RunError
from genevae.io.formats import ReadOptions, open_source
from genevae.io.source import Source
from genevae.preprocessing.convert import convert

N, G = 257, 40


def cells(n: int = N, seed: int = 0) -> AnnData:
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "type": pd.Categorical(rng.choice(["T cell", "B cell"], n)),
            "age": rng.normal(size=n),
            "note": np.where(rng.random(n) < 0.2, None, "seen"),
        },
        index=[f"cell{i}" for i in range(n)],
    )
    x = sparse.csr_matrix(rng.poisson(0.3, (n, G)).astype(np.float32))
    return AnnData(
        x, obs=obs, var=pd.DataFrame({"symbol": [f"S{i}" for i in range(G)]}, index=[f"G{i}" for i in range(G)])
    )


def all_of(source: Source) -> np.ndarray:
    x = source.read(np.arange(len(source)))
    return x.toarray() if sparse.issparse(x) else x


def bytes_of(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


WAYS = {
    "one h5ad": ("out.h5ad", {}),
    "one h5ad, read fast": ("out.h5ad", {"compression": "lzf"}),
    "one zarr": ("out.zarr", {}),
    "batch files": ("out", {"cells_per_file": 100}),
    "h5ad files": ("out", {"to": "h5ad", "cells_per_file": 60, "compression": "none"}),
    "zarr stores": ("out", {"to": "zarr", "cells_per_file": 200}),
    "dense batch files": ("out", {"cells_per_file": 100, "dense": True}),
    "one dense h5ad": ("out.h5ad", {"dense": True}),
}


@pytest.mark.parametrize(("name", "words"), WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("as_sparse", [True, False])
def test_what_comes_out_is_what_went_in(tmp_path, name, words, as_sparse):
    adata = cells()
    expected = adata.X.toarray()
    if not as_sparse:
        adata.X = expected + 1
    convert(adata, tmp_path / name, **words)
    found = open_source(tmp_path / name)
    assert np.array_equal(all_of(found), expected if as_sparse else expected + 1)
    assert found.genes == tuple(adata.var_names)
    assert list(found.obs.index) == list(adata.obs_names)
    assert found.obs["type"].astype(str).tolist() == adata.obs["type"].astype(str).tolist()
    np.testing.assert_array_equal(found.obs["age"], adata.obs["age"])
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_batch_files_hold_what_system_a_asks_for(tmp_path):
    import h5py

    adata = cells()
    adata.obs["SRX_accession"] = "SRX1"
    convert(adata, tmp_path / "out", cells_per_file=100)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "batch_0000.h5", "batch_0001.h5", "batch_0002.h5", "config.json",
    ]  # fmt: skip
    with h5py.File(tmp_path / "out" / "batch_0001.h5") as file:
        assert file["obs/umi_count"][:].tolist() == adata.X[100:200].sum(1).A1.tolist()
        assert file["obs/gene_count"][:].tolist() == np.diff(adata.X[100:200].indptr).tolist()
        assert file["obs/SRX_accession"].asstr()[0] == "SRX1"
        assert file["genes"].asstr()[:].tolist() == list(adata.var_names)
        assert file["cells"].asstr()[:].tolist() == list(adata.obs_names[100:200])


def test_dense_batch_files_hold_the_matrix_itself(tmp_path):
    import h5py

    from genevae.cli import main

    adata = cells()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    given = [str(tmp_path / "cells.h5ad"), "--cells-per-file", "150", "--out", str(tmp_path / "out"), "--dense"]
    main(["data", "convert", *given])
    for number, part in enumerate((adata.X[:150], adata.X[150:])):
        with h5py.File(tmp_path / "out" / f"batch_{number:04d}.h5") as file:
            assert np.array_equal(file["X"][:], part.toarray())
            assert file["obs/umi_count"][:].tolist() == part.sum(1).A1.tolist()
            assert file["obs/gene_count"][:].tolist() == np.diff(part.indptr).tolist()


def test_shuffled_cells_are_all_there_with_their_labels(tmp_path):
    adata = cells()
    convert(adata, tmp_path / "out.h5ad", shuffle=True, seed=3)
    found = open_source(tmp_path / "out.h5ad")
    assert list(found.obs.index) != list(adata.obs_names)
    back = adata[found.obs.index]
    assert np.array_equal(all_of(found), back.X.toarray())
    np.testing.assert_array_equal(found.obs["age"], back.obs["age"])


def test_columns_become_rows_also_on_disk(tmp_path):
    adata = cells()
    expected = adata.X.toarray()
    adata.X = sparse.csc_matrix(adata.X)
    adata.write_h5ad(tmp_path / "columns.h5ad")
    convert(ReadOptions(path=tmp_path / "columns.h5ad"), tmp_path / "rows.zarr")
    assert np.array_equal(all_of(open_source(tmp_path / "rows.zarr")), expected)


def test_a_large_matrix_by_columns_is_refused_with_the_command_that_converts_it(tmp_path, monkeypatch):
    adata = cells()
    adata.X = sparse.csc_matrix(adata.X)
    adata.write_h5ad(tmp_path / "columns.h5ad")
    monkeypatch.setattr("genevae.io.h5ad.available_bytes", lambda: 1000)
    with pytest.raises(
        DataError, match=r"by columns.*genevae data convert \S+columns.h5ad --out \S+columns_by_rows.zarr"
    ):
        open_source(tmp_path / "columns.h5ad")


def test_missing_genes_are_not_written_as_zeros(tmp_path):
    adata = cells()
    adata[:, :30].copy().write_h5ad(tmp_path / "a.h5ad")
    adata[:, 10:].copy().write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(DataError, match="--join inner"):
        convert(ReadOptions(path=tmp_path / "*.h5ad", join="outer"), tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("out.h5ad", {"cells_per_file": 10}, "one .h5ad store"),
        ("out.h5ad", {"to": "zarr"}, "one .h5ad store"),
        ("out", {"to": "loom"}, "loom"),
        ("out", {"compression": "zip"}, "Did you mean 'gzip'"),
        ("out", {"cells_per_file": 0}, "1 or more"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, name, words, said):
    with pytest.raises(DataError, match=said):
        convert(cells(20), tmp_path / name, **words)
    assert not any(tmp_path.iterdir())


def test_nothing_is_replaced_unasked_and_nothing_of_the_users_ever(tmp_path):
    convert(cells(20), tmp_path / "out")
    with pytest.raises(RunError, match="already exists"):
        convert(cells(20), tmp_path / "out")
    convert(cells(10), tmp_path / "out", overwrite=True)
    assert len(open_source(tmp_path / "out")) == 10
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="something else"):
        convert(cells(20), tmp_path / "mine", overwrite=True)


@pytest.mark.parametrize("name", ["out.h5ad", "out.zarr", "out"])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, name):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("genevae.preprocessing.convert.replace_with", full)
    monkeypatch.setattr("genevae.io.write.anndata.replace_with", full)
    with pytest.raises(RunError, match="No space left on device"):
        convert(cells(20), tmp_path / name)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["order", "labels"])
def test_what_another_conversion_has_left_is_not_taken_up(tmp_path, monkeypatch, change):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    first, second = cells(40), cells(40)
    if change == "labels":
        second.obs["age"] = 0.0
    monkeypatch.setattr("genevae.preprocessing.convert.replace_with", killed)
    with pytest.raises(KeyboardInterrupt):
        convert(first, tmp_path / "out", cells_per_file=10)
    monkeypatch.undo()
    words = {"cells_per_file": 10, "shuffle": change == "order"}
    convert(second, tmp_path / "out", **words)
    convert(second, tmp_path / "undisturbed", **words)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "undisturbed")


KILLED = """
import sys
from genevae.preprocessing.convert import convert
convert(sys.argv[1], sys.argv[2], cells_per_file=300, compression="gzip", shuffle=True)
"""


def _killed_and_run_again(folder: Path, name: str, seconds: list[float]) -> None:
    """Kill a conversion after some seconds, run it again, and compare its bytes with those of an undisturbed one."""
    cells(6000).write_h5ad(folder / "in.h5ad")
    words = {"cells_per_file": 300} if name == "out" else {}
    convert(folder / "in.h5ad", folder / f"whole_{name}", shuffle=True, **words)
    expected = bytes_of(folder / f"whole_{name}")
    command = KILLED if name == "out" else KILLED.replace("cells_per_file=300, ", "")
    interrupted = 0
    for wait in seconds:
        arguments = [sys.executable, "-c", command, str(folder / "in.h5ad"), str(folder / name)]
        started = subprocess.Popen(arguments, start_new_session=True)
        time.sleep(wait)
        os.killpg(started.pid, signal.SIGKILL) if started.poll() is None else None
        interrupted += started.wait() != 0
        if not (folder / name).exists():
            convert(folder / "in.h5ad", folder / name, shuffle=True, **words)
        assert bytes_of(folder / name) == expected
        assert {entry.name for entry in folder.iterdir()} == {"in.h5ad", name, f"whole_{name}"}
        import shutil

        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    assert interrupted or len(seconds) < 3


def test_a_killed_conversion_goes_on_to_the_same_bytes(tmp_path):
    _killed_and_run_again(tmp_path, "out", [2.2])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out", "out.h5ad", "out.zarr"])
def test_a_conversion_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path, name):
    draw = random.Random(0)  # noqa: S311 - moments, not secrets
    _killed_and_run_again(tmp_path, name, [draw.uniform(0.5, 4) for _ in range(34)])
