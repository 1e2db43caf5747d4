"""System A from a folder of batch files to labels, effects, pictures and new cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from genevae.cli import main

KEY = ["--key", "barcode"]


@pytest.fixture(scope="module")
def study(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 cells as batch files whose labels are in a table beside them, and the same cells without any label."""
    folder = tmp_path_factory.mktemp("study")
    kang = ad.read_h5ad(shared_data("kang_merged.h5ad"))
    common = kang[kang.obs["cell_type"].isin(["CD4 T", "CD14+ Mono", "B", "FCGR3A+ Mono"]).to_numpy()]
    cells = common[np.random.default_rng(0).choice(common.n_obs, 600, replace=False)].copy()
    labels = cells.obs[["cell_type", "condition", "donor"]].assign(accession=cells.obs["subset"].astype(str))
    labels.to_csv(folder / "labels.csv", index_label="barcode")
    cells.obs = cells.obs[[]].assign(barcode=cells.obs_names)
    cells.write_h5ad(folder / "bare.h5ad")
    main(["data", "hvg", str(folder / "bare.h5ad"), "--n-genes", "200", "--out", str(folder / "genes.txt")])
    main(["data", "convert", str(folder / "bare.h5ad"), "--cells-per-file", "150", "--out", str(folder / "batches")])
    return folder


@pytest.fixture(scope="module")
def run(study: Path) -> Path:
    main([
        "fit", *joined(study), "--recipe", "conditional", "--condition", "cell_type", "--condition", "condition",
        "--control", "condition=ctrl", "--genes", str(study / "genes.txt"), "--validation", "0.15", "--epochs", "25",
        "--n-latent", "16", "--hidden", "64,32", "--learning-rate", "0.003", "--setting", "reconstruction_weight=1",
        "--setting", "beta=1", "--precision", "bf16", "--checkpoint-every", "10e", "--log", "tensorboard",
        "--out", str(study / "run"),
    ])  # fmt: skip
    return study / "run"


def joined(study: Path) -> list[str]:
    return [str(study / "batches"), "--metadata", str(study / "labels.csv"), *KEY]


def true_labels(study: Path) -> pd.DataFrame:
    return pd.read_csv(study / "labels.csv", index_col="barcode", dtype=str)


def test_the_run_holds_model_vocabularies_and_fields(run: Path, study: Path) -> None:
    vocabularies = json.loads((run / "vocabularies.json").read_text())
    assert list(vocabularies["condition"]) == ["ctrl", "stim", "unknown"]
    assert list(vocabularies["cell_type"]) == [*sorted(true_labels(study)["cell_type"].unique()), "unknown"]
    fields = pd.read_csv(run / "fields.csv").set_index("field")
    assert fields.loc["accession", "cardinality"] == 3
    assert fields.loc["cell_type", "using"]
    assert len(json.loads((run / "schema.json").read_text())["genes"]) == 200


def test_checkpoints_and_curves_lie_with_the_model(run: Path, study: Path) -> None:
    epochs = pd.read_csv(run / "history.csv")
    kept = [json.loads((path / "state.json").read_text())["step"] for path in sorted((run / "checkpoints").iterdir())]
    assert kept == list(epochs.loc[epochs["epoch"].isin([20, 25]), "step"]), "the last two: of ten epochs, and the end"
    curves = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = curves.EventAccumulator(str(study / "run-tensorboard")).Reload()
    assert np.allclose([point.value for point in read.Scalars("validation_loss")], epochs["validation_loss"])


@pytest.mark.parametrize("method", ["posterior", "reconstruction"])
def test_types_are_told_of_cells_without_labels(method: str, run: Path, study: Path) -> None:
    out = study / f"{method}.csv"
    main(
        ["classify", str(run), str(study / "bare.h5ad"), "--field", "cell_type", "--method", method, "--out", str(out)]
    )
    told = pd.read_csv(out, index_col="cell")
    true = true_labels(study)["cell_type"].loc[told.index]
    assert (told["label"] == true).mean() > true.value_counts(normalize=True).iloc[0] + 0.2
    assert not [name for name in told if "unknown" in name]


def test_effects_of_interferon(run: Path, study: Path) -> None:
    out, picture = study / "effects.json", study / "effects.png"
    main([
        "effect", str(run), *joined(study), "--field", "condition", "--out", str(out), "--picture",
        str(picture),
    ])  # fmt: skip
    table = pd.DataFrame(json.loads(out.read_text()))
    assert set(table["cell_type"]) == set(true_labels(study)["cell_type"])
    assert "ISG15" in set(table.loc[table["rank"] <= 5, "gene"])
    assert (table.loc[table["gene"] == "ISG15", "lower"] > 1).all()
    assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("labels", "maps"), [("known", ["pca", "tsne"]), ("unknown", ["pca"])])
def test_the_latent_as_pictures_and_numbers(labels: str, maps: list[str], run: Path, study: Path, capsys) -> None:
    out = study / f"latent_{labels}"
    main([
        "latent", str(run), *joined(study), "--cells", "300", *(word for name in maps for word in ("--maps", name)),
        "--out", str(out), *(["--unlabelled"] if labels == "unknown" else []),
    ])  # fmt: skip
    assert "300 of 600 cells, sampled with seed 0" in " ".join(capsys.readouterr().out.split())
    tables = {"latent.h5ad", "latent.csv", "maps.csv", "numbers.csv"}
    assert {file.name for file in out.iterdir()} == {*tables, *(f"{name}.png" for name in maps)}
    latent = ad.read_h5ad(out / "latent.h5ad")
    assert latent.obsm["X_genevae"].shape == (300, 16)
    assert all(latent.obsm[f"X_{name}"].shape == (300, 2) for name in maps)
    numbers = pd.read_csv(out / "numbers.csv").set_index(["field", "score"])
    accuracy = numbers.loc[("cell_type", "accuracy of 15 neighbours")]
    if labels == "unknown":
        assert accuracy["latent"] > accuracy["baseline"] + 0.1, "the latent holds the type that was not given"


@pytest.mark.slow
def test_umap_is_drawn_too(run: Path, study: Path) -> None:
    main(["latent", str(run), *joined(study), "--maps", "umap", "--out", str(study / "umap")])
    assert ad.read_h5ad(study / "umap" / "latent.h5ad").obsm["X_umap"].shape == (600, 2)


def test_new_cells_and_arrays(run: Path, study: Path) -> None:
    made, z = study / "new.h5ad", study / "z.npy"
    main(["generate", str(run), "--n", "15", "--set", "cell_type=B", "--set", "condition=stim", "--out", str(made)])
    assert ad.read_h5ad(made).shape == (15, 200)
    main(["embed", str(run), str(study / "bare.h5ad"), "--out", str(z)])
    assert np.load(z).shape == (600, 16)
    assert pd.read_csv(study / "z.obs.csv")["cell"].tolist() == ad.read_h5ad(study / "bare.h5ad").obs_names.tolist()
    main(["generate", str(run), "--n", "15", "--out", str(study / "x.npy")])
    assert np.load(study / "x.npy").shape == (15, 200)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["latent", "--maps", "tsn"], "Did you mean 'tsne'"),
        (["latent", "--cells", "2"], "cells must be 3 or more"),
        (["effect", "--field", "condition", "--picture", "e.gif"], ".png, .pdf, .svg"),
        (["effect", "--field", "cell_type"], "--control"),
    ],
    ids=str,
)
def test_mistakes_are_one_paragraph(words: list[str], said: str, run: Path, study: Path, capsys) -> None:
    out = study / ("mistake" if words[0] == "latent" else "mistake.csv")
    with pytest.raises(SystemExit):
        main([words[0], str(run), *joined(study), *words[1:], "--out", str(out)])
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_cells_that_lack_genes_are_drawn_too(make_adata, tmp_path: Path) -> None:
    both = make_adata(60)
    for number, genes in enumerate((range(20), range(10, 30))):
        both[number * 30 : number * 30 + 30, list(genes)].copy().write_h5ad(tmp_path / f"{number}.h5ad")
    data = [str(tmp_path / "*.h5ad"), "--join", "outer"]
    main(["fit", *data, "--epochs", "1", "--hidden", "8", "--n-latent", "3", "--out", str(tmp_path / "run")])
    main(["latent", str(tmp_path / "run"), *data, "--cells", "40", "--maps", "pca", "--out", str(tmp_path / "latent")])
    assert ad.read_h5ad(tmp_path / "latent" / "latent.h5ad").obsm["X_genevae"].shape == (40, 3)
    with pytest.raises(SystemExit):  # a folder of something else is not replaced
        main(["latent", str(tmp_path / "run"), *data, "--maps", "pca", "--out", str(tmp_path / "run"), "--force"])
