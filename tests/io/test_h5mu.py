"""MuData files: one modality is AnnData, with the obs columns of the whole file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from anndata.io import write_elem
from scipy import sparse

import genevae as gv
from genevae.cli import main
from genevae.errors import DataError


def write_h5mu(path: Path, modalities: dict[str, AnnData], obs: pd.DataFrame) -> Path:
    """Write a file as mudata does: each modality as AnnData below ``mod``, and the tables of all of them."""
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "MuData", "0.1.0"
        for name, adata in modalities.items():
            write_elem(file, f"mod/{name}", adata)
        write_elem(file, "obs", obs)
        write_elem(file, "var", pd.DataFrame(index=pd.concat([a.var for a in modalities.values()]).index))
    return path


@pytest.fixture(params=["csr", "csc", "dense"])
def rna(request: Any, adata: AnnData) -> AnnData:
    stored = {"csr": adata.X, "csc": sparse.csc_matrix(adata.X), "dense": adata.X.toarray()}
    return AnnData(stored[request.param], obs=adata.obs, var=adata.var)


@pytest.fixture
def protein(adata: AnnData) -> AnnData:
    x = np.arange(50 * 3, dtype=np.float32).reshape(50, 3)
    obs = pd.DataFrame({"clone": "x"}, index=[*adata.obs_names, *(f"more{i}" for i in range(10))])
    return AnnData(x, obs=obs, var=pd.DataFrame(index=["CD3", "CD4", "CD8"]))


def test_a_modality_is_anndata(rna: AnnData, protein: AnnData, tmp_path: Path) -> None:
    obs = pd.DataFrame({"rna:type": "A", "site": [f"s{i % 3}" for i in range(50)]}, index=protein.obs_names[::-1])
    path = write_h5mu(tmp_path / "cells.h5mu", {"prot": protein, "rna": rna}, obs)
    found = gv.read(path)
    np.testing.assert_array_equal(sparse.csr_matrix(found.X).toarray(), sparse.csr_matrix(rna.X).toarray())
    assert list(found.var_names) == list(rna.var_names)
    assert list(found.obs) == [*rna.obs, "site"]
    assert list(found.obs["site"]) == list(obs["site"].loc[rna.obs_names])


def test_a_command_names_the_modality(rna: AnnData, protein: AnnData, tmp_path: Path) -> None:
    path = write_h5mu(tmp_path / "cells.h5mu", {"prot": protein, "rna": rna}, protein.obs)
    for name, expected in (("rna", rna), ("prot", protein)):
        main(["data", "convert", str(path), "--modality", name, "--out", str(tmp_path / f"{name}.h5ad")])
        found = gv.read(tmp_path / f"{name}.h5ad")
        assert "clone" in found.obs
        np.testing.assert_array_equal(sparse.csr_matrix(found.X).toarray(), sparse.csr_matrix(expected.X).toarray())
        assert list(found.obs_names) == list(expected.obs_names)


def test_mistakes_are_answered(adata: AnnData, protein: AnnData, tmp_path: Path) -> None:
    path = write_h5mu(tmp_path / "cells.h5mu", {"prot": protein, "gex": adata}, protein.obs)
    with pytest.raises(DataError, match=r"no modality 'rna'.* There are: gex, prot\. .*--modality NAME"):
        gv.read(path)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(DataError, match=r"cells\.h5ad is no MuData file .* Leave out modality"):
        gv.inspect(gv.ReadOptions(tmp_path / "cells.h5ad", modality="rna"))
