"""System E as its users meet it: chunks of counts and pickled metadata, to influence and counterfactuals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from genevae.cli import main

FIELDS = ("condition", "cell_type", "donor")


@pytest.fixture(scope="module")
def chunks(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 900 cells and 400 genes of Kang et al. as two chunks; a tenth of the donors are not known."""
    folder = tmp_path_factory.mktemp("chunks")
    cells = ad.read_h5ad(shared_data("kang_merged.h5ad"))
    rng = np.random.default_rng(0)
    stim, ctrl = (np.asarray(cells[cells.obs["condition"] == name].X.mean(0)).ravel() for name in ("stim", "ctrl"))
    genes = np.sort(np.argsort(-np.maximum(stim, ctrl))[:400])
    cells = cells[np.sort(rng.choice(cells.n_obs, 900, replace=False)), genes].copy()
    obs = cells.obs[list(FIELDS)].astype(object)
    obs.loc[rng.random(900) < 0.1, "donor"] = None
    for number, part in enumerate((slice(0, 500), slice(500, 900))):
        sparse.save_npz(folder / f"human_counts_{number}.npz", sparse.csr_matrix(cells.X[part]))
        obs.iloc[part].to_pickle(folder / f"human_metadata_{number}.pkl")
    (folder / "genes.txt").write_text("\n".join(cells.var_names) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(chunks: Path) -> Path:
    path = chunks.parent / "cycle_run"
    conditions = [word for field in FIELDS for word in ("--condition", field)]
    settings = ["--epochs", "30", "--n-latent", "24", "--hidden", "8", "--batch-size", "64"]
    main(["fit", str(chunks), "--recipe", "cycle", *conditions, *settings, "--out", str(path)])
    return path


def test_the_history_follows_the_terms_and_the_influence_of_every_field_and_category(run: Path) -> None:
    history = pd.read_csv(run / "history.csv")
    assert history["cycle"].iloc[-1] < history["cycle"].iloc[0]
    assert history["classifier"].iloc[-1] < history["classifier"].iloc[0]
    for name in ("influence condition", "influence condition=stim", "influence cell_type=B", "influence donor"):
        assert history[name].between(0, 1).all(), name


def test_counterfactual_takes_the_interferon_response_away(run: Path, chunks: Path, tmp_path: Path) -> None:
    shown = {}
    for condition in ("ctrl", "stim"):
        out = tmp_path / f"{condition}.h5ad"
        main(["counterfactual", str(run), str(chunks), "--set", f"condition={condition}", "--n-draws", "1",
              "--out", str(out)])  # fmt: skip
        shown[condition] = ad.read_h5ad(out)
    responders = [gene for gene in ("ISG15", "IFI6", "ISG20", "IFIT3", "LY6E") if gene in shown["ctrl"].var_names]
    assert len(responders) > 2
    mean = {name: np.asarray(answer[:, responders].X.mean(0)).ravel() for name, answer in shown.items()}
    assert (mean["stim"] > mean["ctrl"] + 0.5).all()
    assert shown["ctrl"].uns["genevae"]["values"] == "log-normalised"


def test_embed_puts_the_hidden_states_of_all_heads_side_by_side(run: Path, chunks: Path, tmp_path: Path) -> None:
    main(["embed", str(run), str(chunks), "--out", str(tmp_path / "z.h5ad")])
    latent = ad.read_h5ad(tmp_path / "z.h5ad")
    assert latent.obsm["X_genevae"].shape == (900, 24 + 3 * 8)
    assert (latent.obsm["X_genevae"] >= 0).all()
    assert (latent.obsm["X_genevae_scale"] == 0).all()
    donor = latent.obsm["X_genevae"][:, -8:].sum(1)
    missing = latent.obs["donor"].isna() | (latent.obs["donor"] == "unknown")
    assert missing.sum() > 200
    assert np.array_equal(donor == 0, missing.to_numpy()), "a donor that is not known adds nothing"


def test_influence_is_a_table_of_fields_and_categories(run: Path, chunks: Path, tmp_path: Path) -> None:
    main(["influence", str(run), str(chunks), "--out", str(tmp_path / "influence.csv")])
    table = pd.read_csv(tmp_path / "influence.csv").set_index(["field", "category"])
    assert table.loc[("base", "all"), "cells"] == 900
    assert table["influence"].dropna().between(0, 1.001).all()
    for field in FIELDS:
        rows = table.loc[field]
        each = rows.drop(index="all")
        assert each["cells"].sum() == rows.loc["all", "cells"]
        energy = (each["cells"] * each["added"] ** 2).sum() / rows.loc["all", "cells"]
        assert energy == pytest.approx(rows.loc["all", "added"] ** 2)


def test_contributions_name_the_genes_of_interferon(run: Path, chunks: Path, tmp_path: Path) -> None:
    main(["contributions", str(run), str(chunks), "--top", "10", "--out", str(tmp_path / "genes.csv")])
    table = pd.read_csv(tmp_path / "genes.csv")
    stim = table[(table["field"] == "condition") & (table["category"] == "stim")]
    assert list(stim["rank"]) == list(range(1, 11))
    assert {"ISG15", "ISG20"} <= set(stim["gene"])
    assert (table["contribution"] >= 0).all()


def test_a_model_that_is_no_sum_of_heads_says_so(
    chunks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fit", str(chunks), "--epochs", "1", "--out", str(tmp_path / "nb")])
    with pytest.raises(SystemExit):
        main(["influence", str(tmp_path / "nb"), str(chunks), "--out", str(tmp_path / "i.csv")])
    assert "--recipe cycle" in capsys.readouterr().err
