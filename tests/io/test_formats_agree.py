"""The same cells in every format are the same minibatches, and train the same model, down to the last bit."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from scipy.io import mmwrite

import genevae as gv
from genevae.cells import Cells
from genevae.cli import main
from genevae.data.loader import Loader
from genevae.data.sampler import InOrder, Sampler, Shuffled
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.io.formats import ReadOptions, in_memory_if_fits, open_source
from genevae.preprocessing.convert import convert

N, G = 200, 40
COLUMNS = ("type", "dose")


@pytest.fixture(scope="module")
def adata() -> AnnData:
    rng = np.random.default_rng(0)
    kind = rng.choice(["B cell", "T cell", "NK"], N)
    rate = np.where((kind == "NK")[:, None], 0.6, 0.25) * rng.gamma(2, 0.5, G)
    obs = pd.DataFrame(
        {"type": pd.Categorical(kind), "dose": np.round(rng.gamma(2, 1, N), 3)}, index=[f"cell{i}" for i in range(N)]
    )
    made = AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)), obs=obs)
    made.var_names = [f"Gene{i}" for i in range(G)]
    return made


# --- writers ----------------------------------------------------------------------------------------------------------


def _plain_h5ad(adata: AnnData, folder: Path) -> Path:
    adata.write_h5ad(folder / "cells.h5ad")
    return folder / "cells.h5ad"


def _gzip_h5ad(adata: AnnData, folder: Path) -> Path:
    adata.write_h5ad(folder / "cells.h5ad", compression="gzip")
    return folder / "cells.h5ad"


def _dense_h5ad(adata: AnnData, folder: Path) -> Path:
    dense = adata.copy()
    dense.X = adata.X.toarray()
    return _plain_h5ad(dense, folder)


def _csc_h5ad(adata: AnnData, folder: Path) -> Path:
    columns = adata.copy()
    columns.X = sparse.csc_matrix(adata.X)
    return _plain_h5ad(columns, folder)


def _whole_numbers_h5ad(adata: AnnData, folder: Path) -> Path:
    counted = adata.copy()
    counted.X = adata.X.astype(np.int64)
    return _plain_h5ad(counted, folder)


def _converted(name: str, **words: Any) -> Callable[[AnnData, Path], Path]:
    def write(adata: AnnData, folder: Path) -> Path:
        convert(adata, folder / name, **words)
        return folder / name

    return write


def _chunks(adata: AnnData, folder: Path) -> Path:
    path = folder / "chunks"
    path.mkdir()
    for number, start in enumerate(range(0, N, 80), 1):
        part = adata[start : start + 80]
        sparse.save_npz(path / f"human_counts_{number}.npz", sparse.csr_matrix(part.X))
        pd.DataFrame(part.obs).to_pickle(path / f"human_metadata_{number}.pkl")
    (path / "genes.txt").write_text("\n".join(adata.var_names) + "\n")
    return path


def _csv(genes_down: bool) -> Callable[[AnnData, Path], Path]:
    def write(adata: AnnData, folder: Path) -> Path:
        table = adata.to_df().astype(int)
        (table.T if genes_down else table).to_csv(folder / "counts.csv")
        return folder / "counts.csv"

    return write


def _tenx_h5(adata: AnnData, folder: Path) -> Path:
    with h5py.File(folder / "matrix.h5", "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(adata.X, name).astype(np.int32)
        group["shape"] = np.array(adata.shape[::-1])
        group["barcodes"] = np.array(adata.obs_names, dtype="S")
        for name in ("id", "name"):
            group[f"features/{name}"] = np.array(adata.var_names, dtype="S")
        group["features/feature_type"] = np.array(["Gene Expression"] * G, dtype="S")
    return folder / "matrix.h5"


def _tenx_folder(adata: AnnData, folder: Path) -> Path:
    path = folder / "filtered"
    path.mkdir()
    mmwrite(path / "matrix.mtx", sparse.coo_matrix(adata.X.T.astype(np.int64)))
    (path / "matrix.mtx.gz").write_bytes(gzip.compress((path / "matrix.mtx").read_bytes()))
    (path / "matrix.mtx").unlink()
    (path / "features.tsv").write_text("".join(f"{gene}\t{gene}\tGene Expression\n" for gene in adata.var_names))
    (path / "barcodes.tsv").write_text("".join(f"{cell}\n" for cell in adata.obs_names))
    return path


def _three_files(adata: AnnData, folder: Path) -> Path:
    path = folder / "parts"
    path.mkdir()
    for number, (start, stop) in enumerate([(0, 70), (70, 71), (71, N)]):
        adata[start:stop].write_h5ad(path / f"part{number}.h5ad")
    return path


@dataclass(frozen=True)
class Way:
    """How a format is written, whether it needs a table of metadata, and how it is to be read."""

    write: Callable[[AnnData, Path], Path]
    needs_metadata: bool = False
    how: dict[str, Any] = field(default_factory=dict)


WAYS = {
    "h5ad": Way(_plain_h5ad),
    "h5ad gzip": Way(_gzip_h5ad),
    "h5ad dense": Way(_dense_h5ad),
    "h5ad by columns": Way(_csc_h5ad),
    "h5ad of int64": Way(_whole_numbers_h5ad),
    "h5ad lzf": Way(_converted("out.h5ad", compression="lzf")),
    "zarr": Way(_converted("out.zarr")),
    "batch files": Way(_converted("out", cells_per_file=64)),
    "h5ad files": Way(_converted("out", to="h5ad", cells_per_file=90)),
    "chunks": Way(_chunks),
    "csv": Way(_csv(genes_down=False), needs_metadata=True),
    "csv, genes down": Way(_csv(genes_down=True), needs_metadata=True),
    "10x h5": Way(_tenx_h5, needs_metadata=True),
    "10x folder": Way(_tenx_folder, needs_metadata=True),
    "three files": Way(_three_files),
    "a pattern": Way(lambda adata, folder: _three_files(adata, folder) / "part*.h5ad"),
}


@pytest.fixture(scope="module")
def written(adata: AnnData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ReadOptions]:
    """The same cells, in every format."""
    found = {}
    for name, way in WAYS.items():
        folder = tmp_path_factory.mktemp(name.replace(" ", "-").replace(",", ""))
        adata.obs.to_csv(folder / "metadata.csv", index_label="cell")
        more = {"metadata": folder / "metadata.csv"} if way.needs_metadata else {}
        found[name] = ReadOptions(path=way.write(adata, folder), **more, **way.how)
    return found


def kept(files: ReadOptions, keep: str) -> ReadOptions:
    return ReadOptions(path=files.path, metadata=files.metadata, keep=keep)  # type: ignore[arg-type]


# --- minibatches ------------------------------------------------------------------------------------------------------

SAMPLERS: dict[str, Sampler] = {
    "in order": InOrder(np.arange(N), 48, buffer=96),
    "shuffled": Shuffled(np.arange(N), 32, seed=3, block=8, buffer=64),
    "shuffled, of some": Shuffled(np.arange(0, N, 3), 16, seed=1),
}


def minibatches(data: Any, sampler: Sampler, keep: str = "auto") -> list[Cells]:
    source = in_memory_if_fits(open_source(data), keep)  # type: ignore[arg-type]
    schema = Schema.fit(source.genes, source.obs, Kind.COUNTS, condition=["type"], continuous=["dose"])
    return list(Loader(source, schema, sampler).epoch(1))


def require_same(ours: list[Cells], theirs: list[Cells]) -> None:
    assert len(ours) == len(theirs) > 1
    for a, b in zip(ours, theirs, strict=True):
        assert a.x.is_sparse
        assert b.x.is_sparse
        for mine, other in (
            (a.x.values, b.x.values), (a.x.csr()[0], b.x.csr()[0]), (a.x.csr()[1], b.x.csr()[1]),
            (a.condition.codes["type"], b.condition.codes["type"]), (a.row_n, b.row_n),
            (a.condition.values["dose"], b.condition.values["dose"]), (a.condition.size_n1, b.condition.size_n1),
        ):  # fmt: skip
            assert mine.dtype == other.dtype
            assert torch.equal(mine, other)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("keep", ["memory", "disk"])
@pytest.mark.parametrize("name", WAYS)
def test_minibatches_are_the_same_bit_for_bit(name, keep, sampler, adata, written) -> None:
    require_same(minibatches(kept(written[name], keep), sampler, keep), minibatches(adata, sampler))


@pytest.mark.parametrize("name", WAYS)
def test_names_and_tables_are_the_same(name, adata, written) -> None:
    source = open_source(written[name])
    assert source.genes == tuple(adata.var_names)
    assert list(source.obs.index) == list(adata.obs_names)
    assert source.obs["type"].astype(str).tolist() == adata.obs["type"].astype(str).tolist()
    np.testing.assert_array_equal(source.obs["dose"], adata.obs["dose"])
    assert source.panels is None


# --- models -----------------------------------------------------------------------------------------------------------


def weights(data: Any) -> dict[str, torch.Tensor]:
    model = gv.fit(
        data, condition=["type"], continuous=["dose"], epochs=2, n_latent=2, hidden=[8], batch_size=32,
        progress=False, device="cpu",
    )  # fmt: skip
    return dict(model.module.state_dict())


@pytest.fixture(scope="module")
def expected_weights(adata: AnnData) -> dict[str, torch.Tensor]:
    return weights(adata)


@pytest.mark.parametrize("keep", ["memory", "disk"])
@pytest.mark.parametrize("name", WAYS)
def test_trained_weights_are_the_same_bit_for_bit(name, keep, written, expected_weights) -> None:
    found = weights(kept(written[name], keep))
    assert found.keys() == expected_weights.keys()
    for title, values in found.items():
        assert torch.equal(values, expected_weights[title]), title


def test_other_cells_train_other_weights(adata, expected_weights) -> None:
    """The comparison above can fail: one count more, and the weights are others."""
    other = adata.copy()
    other.X = adata.X.copy()
    other.X.data[0] += 1
    found = weights(other)
    assert any(not torch.equal(values, expected_weights[title]) for title, values in found.items())


# --- the command line, on real cells ----------------------------------------------------------------------------------


def test_real_cells_converted_by_the_command_line_train_the_same_model(shared_data, tmp_path) -> None:
    cells = anndata.read_h5ad(shared_data("kang_merged.h5ad"))[:400].copy()
    condition = next(
        name
        for name in cells.obs.columns
        if cells.obs[name].nunique() in range(2, 20) and cells.obs[name].notna().all()
    )
    cells.obs = cells.obs[[condition]]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    targets = {
        "a.h5ad": [], "b.zarr": [], "c": ["--cells-per-file", "150"], "d": ["--to", "zarr", "--cells-per-file", "150"],
        "e": ["--to", "h5ad", "--compression", "none"],
    }  # fmt: skip
    expected = open_source(tmp_path / "cells.h5ad").read(np.arange(400))
    for name, words in targets.items():
        main(["data", "convert", str(tmp_path / "cells.h5ad"), "--out", str(tmp_path / name), *words])
        found = open_source(tmp_path / name)
        assert (found.read(np.arange(400)) != expected).nnz == 0
        assert found.genes == open_source(tmp_path / "cells.h5ad").genes
        assert found.obs[condition].astype(str).tolist() == cells.obs[condition].astype(str).tolist()
    for name, keep in (("c", "disk"), ("b.zarr", "memory")):
        words = ["--condition", condition, "--epochs", "1", "--hidden", "8", "--keep", keep, "--seed", "5"]
        main(["fit", str(tmp_path / name), *words, "--out", str(tmp_path / f"run_{name}")])
    models = [(tmp_path / f"run_{name}" / "model.safetensors").read_bytes() for name in ("c", "b.zarr")]
    assert models[0] == models[1]
