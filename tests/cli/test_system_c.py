"""System C from the first command to the last, on real data: batch correction, doses, discovery."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from genevae.cli import main
from genevae.metrics.leakage import chance, local_mixing, readable


@pytest.fixture(scope="module")
def technologies(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hundred blood cells from three chemistries."""
    adata = ad.read_h5ad(shared_data("pbmc_3tech_symphony.h5ad"))
    path = tmp_path_factory.mktemp("system_c") / "cells.h5ad"
    adata[np.random.default_rng(0).permutation(adata.n_obs)[:400]].copy().write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def corrected(technologies: Path) -> Path:
    run = technologies.parent / "adversarial"
    main(["fit", str(technologies), "--recipe", "adversarial", "--batch", "batch", "--genes", "500", "--epochs", "20",
          "--batch-size", "64", "--hidden", "64", "--out", str(run)])  # fmt: skip
    return run


@pytest.fixture(scope="module")
def curves(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    data, folder = str(shared_data("dose_bpaf_mcf7_bulk.h5ad")), tmp_path_factory.mktemp("dose")
    main(["fit", data, "--recipe", "dose", "--condition", "compound", "--control", "compound=control", "--continuous",
          "dose", "--genes", "200", "--epochs", "60", "--hidden", "32", "--out", str(folder / "run")])  # fmt: skip
    main(["dose-response", str(folder / "run"), data, "--doses", "0.001,0.01,0.1,1,10",
          "--out", str(folder / "curves.csv")])  # fmt: skip
    return pd.read_csv(folder / "curves.csv", index_col="gene")


def test_the_adversary_logs_its_accuracy_and_leaves_less_of_the_batch_than_there_is(
    corrected: Path, technologies: Path, tmp_path: Path
) -> None:
    history = pd.read_csv(corrected / "history.csv")
    assert history["adversary_accuracy"].between(0, 1).all()
    assert history["validation_adversary"].between(0, 20).all()
    main(["embed", str(corrected), str(technologies), "--out", str(tmp_path / "z.h5ad")])
    latent = ad.read_h5ad(tmp_path / "z.h5ad")
    z, batch = latent.obsm["X_genevae"], latent.obs["batch"]
    components = PCA(10).fit_transform(np.log1p(ad.read_h5ad(technologies).X.toarray()))
    assert chance(batch) - 0.1 < readable(z, batch) < readable(components, batch) - 0.1
    assert 1 <= local_mixing(z, batch) <= 3


def test_discover(corrected: Path, technologies: Path, tmp_path: Path) -> None:
    out = tmp_path / "clusters.csv"
    main(["cluster", str(corrected), str(technologies), "--n-clusters", "4", "--n-repeats", "3", "--out", str(out)])
    table = pd.read_csv(out, index_col="cell")
    assert list(table.columns) == ["cluster", "stability", "margin", "agreement"]
    assert sorted(table["cluster"].unique()) == [0, 1, 2, 3]
    types = ad.read_h5ad(technologies).obs["cell_type_broad"].astype(str)
    pure = pd.crosstab(table["cluster"], types).max(axis=1).sum() / len(table)
    assert pure > types.value_counts(normalize=True).iloc[0] + 0.1


def test_a_batch_is_asked_for(technologies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", str(technologies), "--recipe", "adversarial", "--epochs", "1", "--out", str(tmp_path / "run")])
    assert "--batch" in capsys.readouterr().err


def test_dose_response_curves_start_at_the_untreated_and_name_an_ec50(curves: pd.DataFrame) -> None:
    assert len(curves) == 200 * 6
    assert (curves["lower"] <= curves["upper"]).all()
    responding = curves["ec50"].dropna()
    assert responding.between(0.001, 10).all()
    assert len(responding) > 0


def test_words_that_are_no_doses_are_refused(technologies: Path, corrected: Path, tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    with pytest.raises(SystemExit):
        main(["dose-response", str(corrected), str(technologies), "--doses", "a,b", "--out", str(tmp_path / "c.csv")])
    assert "0.5,1,10" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["cluster", "dose-response"])
def test_help_describes_every_option(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main([command, "--help"])
    lines = [line.strip("│* ") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    options = [line.split("  ", 1) for line in lines if line.startswith("--")]
    assert len(options) > 5
    for row in options:
        assert len(row) == 2, f"{command} {row[0]} is not described"
