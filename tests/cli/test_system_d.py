"""System D as its users run it: train on real counts, write simulated cells of every type, read them elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import mmread

from genevae.cli import main


@pytest.fixture(scope="module")
def run(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("d") / "run"
    data = shared_data("pbmc68k_reduced_counts.h5ad")
    words = ["--recipe", "convolutional", "--condition", "cell_type", "--genes", "200", "--setting", "image_size=16"]
    main(["fit", str(data), *words, "--epochs", "3", "--out", str(path)])
    return path


def test_cells_of_every_type_in_three_formats(run: Path, tmp_path: Path) -> None:
    for name in ("made.h5ad", "made.h5", "made"):
        main(["generate", str(run), "--per-category", "cell_type=12", "--out", str(tmp_path / name)])
    made = ad.read_h5ad(tmp_path / "made.h5ad")
    counts = made.X.toarray() if hasattr(made.X, "toarray") else made.X
    assert made.obs["cell_type"].value_counts().to_dict() == dict.fromkeys(made.obs["cell_type"].cat.categories, 12)
    assert np.array_equal(counts, counts.round())
    np.testing.assert_array_equal(counts.sum(1), made.obs["size"])
    matrix = mmread(tmp_path / "made" / "matrix.mtx.gz")
    np.testing.assert_array_equal(matrix.T.toarray(), counts)
    labels = pd.read_csv(tmp_path / "made" / "obs.csv", index_col="cell")
    assert labels["cell_type"].tolist() == made.obs["cell_type"].astype(str).tolist()
    with h5py.File(tmp_path / "made.h5") as file:
        assert {"cell_type", "gene_count", "umi_count"} <= set(file["obs"])
        np.testing.assert_array_equal(file["obs/umi_count"][:], counts.sum(1))


def test_what_it_makes_can_be_trained_on(run: Path, tmp_path: Path) -> None:
    main(["generate", str(run), "--n", "60", "--set", "cell_type=Dendritic", "--out", str(tmp_path / "made.mtx")])
    words = ["--recipe", "convolutional-nb", "--epochs", "1"]
    main(["fit", str(tmp_path / "made.mtx"), *words, "--out", str(tmp_path / "again")])
    assert (tmp_path / "again" / "model.safetensors").is_file()


def test_an_image_that_is_too_small_ends_in_one_paragraph(
    shared_data: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(shared_data("pbmc68k_reduced_counts.h5ad"))
    with pytest.raises(SystemExit):
        main(["fit", data, "--recipe", "convolutional", "--setting", "image_size=20", "--out", str(tmp_path / "run")])
    assert "image_size of 28 or more" in capsys.readouterr().err
