"""System B from the command line: bulk samples, hidden genes, vectors of genes, and pairs of one donor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from genevae.cli import main

SMALL = ["--genes", "300", "--hidden", "32,16", "--n-latent", "8", "--device", "cpu"]
MASKS = ["validation_reconstruction", "validation_reconstruction_fixed_mask", "validation_reconstruction_dynamic_mask"]


@pytest.fixture(scope="module")
def bulk(shared_data: Callable[[str], Path]) -> Path:
    return shared_data("bulk_gtex_tcga_rnaseqdb.h5ad")


@pytest.fixture(scope="module")
def samples(bulk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every third sample and every tenth gene, so that the story is short."""
    path = tmp_path_factory.mktemp("bulk") / "samples.h5ad"
    ad.read_h5ad(bulk)[::3, ::10].copy().write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def run(samples: Path) -> Path:
    path = samples.parent / "run"
    main(["fit", str(samples), "--recipe", "bulk", "--epochs", "25", *SMALL, "--out", str(path)])
    return path


def test_history_holds_the_losses_of_whole_and_masked_samples(run: Path) -> None:
    history = pd.read_csv(run / "history.csv")
    assert np.isfinite(history[MASKS]).all().all()
    best = history.loc[history["validation_loss"].idxmin(), MASKS]
    assert (best < history[MASKS].iloc[0]).all()


def test_tissues_lie_together(run: Path, samples: Path, tmp_path: Path) -> None:
    main(["embed", str(run), str(samples), "--out", str(tmp_path / "latent.h5ad")])
    latent = ad.read_h5ad(tmp_path / "latent.h5ad")
    z, tissue = latent.obsm["X_genevae"], latent.obs["tissue"].to_numpy()
    distance = np.linalg.norm(z[:, None] - z, axis=-1) + np.diag([np.inf] * len(z))
    commonest = latent.obs["tissue"].value_counts(normalize=True).iloc[0]
    assert (tissue[distance.argmin(1)] == tissue).mean() > commonest + 0.3


@pytest.mark.parametrize("schedule", ["linear", "cosine", "exponential", "cyclic"])
def test_every_schedule_of_beta_trains(samples: Path, tmp_path: Path, schedule: str) -> None:
    out = tmp_path / "run"
    setting = ["--setting", f"beta_schedule={schedule}", "--setting", "beta_cycle=2", "--setting", "beta_decay=0.5"]
    main(["fit", str(samples), "--recipe", "bulk", "--epochs", "4", *setting, *SMALL, "--out", str(out)])
    assert np.isfinite(pd.read_csv(out / "history.csv")[["train_loss", *MASKS]]).all().all()


def test_training_stops_at_a_target_loss(run: Path, samples: Path, tmp_path: Path) -> None:
    losses = pd.read_csv(run / "history.csv")["validation_loss"]
    target = ["--setting", f"target_loss={losses.iloc[:5].min() + 1}"]
    out = tmp_path / "run"
    main(["fit", str(samples), "--recipe", "bulk", "--epochs", "60", *target, *SMALL, "--out", str(out)])
    assert len(pd.read_csv(out / "history.csv")) <= 5


def test_genes_have_vectors_and_neighbours(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "genes.h5ad"
    main(["gene-embeddings", str(run), "--neighbours", "10", "--out", str(out)])
    genes = ad.read_h5ad(out)
    assert genes.shape == (300, 0)
    assert genes.obsm["X_genevae"].shape == (300, 32)
    assert (np.diff(genes.obsp["similarity"].indptr) == 10).all()


def test_a_model_of_genes_by_samples(samples: Path, tmp_path: Path) -> None:
    adata = ad.read_h5ad(samples)[::4, ::5]
    logged = np.log1p(1e6 * adata.X / adata.X.sum(1, keepdims=True))
    table, run, out = tmp_path / "genes.tsv", tmp_path / "run", tmp_path / "latent.h5ad"
    pd.DataFrame(logged.T, index=adata.var_names, columns=adata.obs_names).to_csv(table, sep="\t")
    as_it_stands = ["--transpose=false"]
    small = ["--hidden", "16", "--n-latent", "4", "--epochs", "3", "--device", "cpu"]
    main(["fit", str(table), *as_it_stands, "--recipe", "bulk", *small, "--out", str(run)])
    main(["embed", str(run), str(table), *as_it_stands, "--out", str(out)])
    genes = ad.read_h5ad(out)
    assert list(genes.obs_names) == list(adata.var_names)
    assert genes.obsm["X_genevae"].shape == (adata.n_vars, 4)


def test_profiles_of_a_donor_find_each_other(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    cells, profiles = tmp_path / "cells.h5ad", tmp_path / "profiles"
    profiles.mkdir()
    kang = ad.read_h5ad(shared_data("kang_merged.h5ad"))
    kang[:, ::4].copy()[(kang.obs["donor"] != "unknown").to_numpy()].copy().write_h5ad(cells)
    by = ["--by", "donor", "--by", "condition", "--min-cells", "10"]
    main(["data", "pseudobulk", str(cells), *by, "--out", str(profiles / "all.h5ad")])
    main(["data", "pseudobulk", str(cells), *by, "--by", "cell_type", "--out", str(profiles / "types.h5ad")])
    run, out, data = tmp_path / "run", tmp_path / "latent.h5ad", str(profiles / "*.h5ad")
    quick = ["--epochs", "40", "--batch-size", "24", "--hidden", "64", "--n-latent", "16", "--device", "cpu"]
    main(["fit", data, "--recipe", "contrastive", "--group", "donor", *quick, "--out", str(run)])
    history = pd.read_csv(run / "history.csv")
    assert history["contrastive"].iloc[-1] < history["contrastive"].iloc[0] / 2
    main(["embed", str(run), data, "--out", str(out)])
    latent = ad.read_h5ad(out)
    donor, p = latent.obs["donor"].astype(str).to_numpy(), latent.obsm["X_genevae_projected"]
    cosine = p @ p.T - 9 * np.eye(len(p))
    chance = ((donor[:, None] == donor).sum(1) - 1).mean() / (len(p) - 1)
    assert (donor[cosine.argmax(1)] == donor).mean() > chance + 0.4


def test_contrastive_without_a_group_says_what_is_missing(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fit", str(samples), "--recipe", "contrastive", *SMALL, "--out", str(tmp_path / "run")])
    assert "--group donor" in capsys.readouterr().err
