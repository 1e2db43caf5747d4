"""What a user does, from the first command to the last, on real data."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from genevae.cli import main
from genevae.preprocessing.example import example


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("story") / "cells.h5ad"
    example("pbmc").write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def run(cells: Path) -> Path:
    path = cells.parent / "run"
    main(["fit", str(cells), "--condition", "cell_type", "--epochs", "30", "--genes", "300", "--out", str(path)])
    return path


def test_fit_leaves_a_whole_folder(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "model.safetensors", "reference.safetensors", "recipe.json", "schema.json", "calibration.json",
        "history.csv", "split.csv", "config.toml", "manifest.json", "fields.csv", "vocabularies.json",
        "log.jsonl", "training.png", "responses.safetensors", "states.json",
        "labels.safetensors", "labels.json",
    }  # fmt: skip
    history = pd.read_csv(run / "history.csv")
    assert history["validation_loss"].iloc[-1] < history["validation_loss"].iloc[0]


def test_fit_says_what_it_did(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", str(cells), "--recipe", "gaussian", "--epochs", "2", "--hidden", "16,8", "--out", str(tmp_path / "g")])
    said = capsys.readouterr().out
    assert "Values   log-normalised" in said
    assert "2 epochs" in said


def test_a_config_repeats_a_run_bit_for_bit(run: Path, tmp_path: Path) -> None:
    main(["fit", "--config", str(run / "config.toml"), "--out", str(tmp_path / "again")])
    for name in ("model.safetensors", "reference.safetensors", "split.csv", "config.toml"):
        assert (run / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_options_win_over_the_config(run: Path, tmp_path: Path) -> None:
    main(["fit", "--config", str(run / "config.toml"), "--epochs", "2", "--out", str(tmp_path / "short")])
    assert len(pd.read_csv(tmp_path / "short" / "history.csv")) == 2


def test_embed(run: Path, cells: Path, tmp_path: Path) -> None:
    main(["embed", str(run), str(cells), "--out", str(tmp_path / "latent.h5ad")])
    latent = ad.read_h5ad(tmp_path / "latent.h5ad")
    assert latent.obsm["X_genevae"].shape == (700, 10)
    assert list(latent.obs_names) == list(ad.read_h5ad(cells).obs_names)


def test_generate(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.h5ad"
    types = ["--set", "cell_type=Dendritic", "--set", "cell_type=CD19+ B"]
    main(["generate", str(run), "--n", "20", *types, "--out", str(out)])
    made = ad.read_h5ad(out)
    assert made.obs["cell_type"].astype(str).value_counts().to_dict() == {"Dendritic": 20, "CD19+ B": 20}
    assert sparse.issparse(made.X)
    assert np.array_equal(made.X.data, np.rint(made.X.data))


def test_counterfactual(run: Path, cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "cf.zarr"
    main(["counterfactual", str(run), str(cells), "--set", "cell_type=CD19+ B", "--n-draws", "5", "--out", str(out)])
    answer = ad.read_zarr(out)
    assert set(answer.obs["cell_type"]) == {"CD19+ B"}
    assert set(answer.layers) == {"mean", "lower", "upper", "draw"}
    assert answer.obs["support"].between(0, 1).all()


def test_denoise_replaces_only_when_forced(run: Path, cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "denoised.h5ad"
    command = ["denoise", str(run), str(cells), "--size", "1000", "--n-draws", "2", "--out", str(out)]
    main(command)
    first = ad.read_h5ad(out)
    np.testing.assert_allclose(first.X.sum(1), 1000, rtol=1e-4)
    with pytest.raises(SystemExit):
        main(command)
    main([*command, "--force"])
    np.testing.assert_array_equal(ad.read_h5ad(out).X, first.X)


def test_classify(run: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("posterior", "reconstruction", "stack"):
        out = tmp_path / f"{method}.csv"
        main(["classify", str(run), str(cells), "--field", "cell_type", "--method", method, "--out", str(out)])
        table = pd.read_csv(out, index_col="cell")
        true = ad.read_h5ad(cells).obs["cell_type"].astype(str)
        commonest = true.value_counts(normalize=True).iloc[0]
        assert (table["label"] == true).mean() > commonest + 0.1
    sets = table["set"].fillna("").str.split(" | ", regex=False)
    assert np.mean([label in some for label, some in zip(true, sets, strict=True)]) > 0.85
    said = capsys.readouterr().out
    assert "cell_type of 700 cells: Dendritic" in said
    assert said.count("Plausible labels: ") == 1


def test_inspect(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", str(cells)])
    said = capsys.readouterr().out
    assert "700 cells × 765 genes" in said
    assert "--recipe nb" in said


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes"])
    said = capsys.readouterr().out
    assert all(name in said for name in ("nb", "zinb", "poisson", "gaussian", "conditional"))


@pytest.mark.parametrize(
    "command",
    [
        "fit",
        "embed",
        "generate",
        "counterfactual",
        "denoise",
        "classify",
        "effect",
        "evaluate",
        "latent",
        "inspect",
        "demo",
    ],
)
def test_help_describes_every_option(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main([command, "--help"])
    starts = [line for line in capsys.readouterr().out.splitlines() if re.match(r"│ (\* |  )? ?\S", line)]
    lines = [line.strip("│* ") for line in starts if "--" in line]
    options = [line.split("  ", 1) for line in lines]
    assert options
    for row in options:
        assert len(row) == 2, f"{command} {row[0]} is not described"
        assert row[1].strip().split("[default")[0].strip(), f"{command} {row[0]} is not described"


def test_python_m_genevae_is_the_same_program() -> None:
    said = subprocess.run([sys.executable, "-m", "genevae", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.strip()[0].isdigit()


@pytest.mark.slow  # the command line of each step is tested by itself
def test_a_perturbation_from_end_to_end(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    kang = shared_data("kang_merged.h5ad")
    run, out = tmp_path / "run", tmp_path / "cf.h5ad"
    main([
        "fit", str(kang), "--recipe", "nb", "--condition", "cell_type", "--condition", "condition",
        "--control", "condition=ctrl", "--genes", "1500", "--epochs", "15", "--folds", "1", "--out", str(run),
    ])  # fmt: skip
    main(["counterfactual", str(run), str(kang), "--set", "condition=ctrl", "--n-draws", "3", "--out", str(out)])
    answer, real = ad.read_h5ad(out), ad.read_h5ad(kang)
    stimulated = (real.obs["condition"] == "stim").to_numpy()
    responders = [
        gene
        for gene in ("ISG15", "IFI6", "ISG20", "IFIT1", "IFIT3", "LY6E", "CXCL10", "MX1")
        if gene in answer.var_names
    ]
    assert len(responders) > 2
    before = np.asarray(real[stimulated, responders].X.mean(0)).ravel()
    after = np.asarray(answer[stimulated, responders].X.mean(0)).ravel()
    assert (after < before / 2).all(), "interferon's own genes fall when interferon is taken away"
