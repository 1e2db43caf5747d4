"""What commands say at their end is what their result holds, in at most ten lines."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import genevae as gv
from genevae.cli import endings, main

GENES = [f"G{i}" for i in range(30)]


def test_clusters_are_said_with_their_sizes_and_stability() -> None:
    table = pd.DataFrame({"cluster": [0] * 6 + [1] * 3, "stability": [0.9] * 6 + [0.4] * 3, "agreement": 0.8})
    first, *rest = endings.cluster_lines(table)
    assert first.startswith("2 clusters of 9 cells")
    assert rest == ["  0: 6 cells, stability 0.90", "  1: 3 cells, stability 0.40 (not stable)"]


def test_the_largest_effects_are_named_and_the_rest_counted() -> None:
    rng = np.random.default_rng(0)
    rows = [
        pd.DataFrame({"type": kind, "drug": "stim", "gene": GENES, "lfc": rng.normal(0, 1, 30)}).assign(
            probability=0.5, support=0.7
        )
        for kind in "abcdefghijkl"
    ]
    rows[4].loc[3, ["lfc", "probability"]] = [9.0, 1.0]
    rows[4].loc[5, "lfc"] = -8.0
    lines = list(endings.effect_lines(pd.concat(rows), 0.25))
    assert len(lines) < 10
    assert lines[0].startswith("12 effects of type · drug")
    assert lines[1].startswith("  e · stim: up G3 +9.00")
    assert "down G5 −8.00" in lines[1]
    assert "1 gene surely beyond" in lines[1]
    assert lines[-1] == "  … and 5 more in the file"


def test_contributions_and_influence_name_what_adds_most() -> None:
    index = pd.Index(["base", "drug", "drug", "drug"], name="field")
    influence = pd.DataFrame({"category": ["all", "all", "a", "b"], "influence": [0.9, 0.3, 0.1, 0.4]}, index=index)
    assert list(endings.influence_lines(influence))[1:] == ["  base 0.90", "  drug 0.30: most b 0.40, a 0.10"]
    shares = pd.DataFrame({"category": ["a", "a", "b"], "gene": ["G1", "G2", "G3"]}, index=["drug"] * 3)
    assert list(endings.contribution_lines(shares)) == ["  drug a: G1, G2", "  drug b: G3"]


@pytest.fixture(scope="module")
def folder(make_adata, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endings")
    make_adata(120).write_h5ad(folder / "my cells.h5ad")
    main(["fit", str(folder / "my cells.h5ad"), "--condition", "drug", "--control", "drug=ctrl", "--context", "type",
          "--epochs", "3", "--folds", "0", "--out", str(folder / "run")])  # fmt: skip
    return folder


def test_training_that_ended_before_the_epochs_of_its_recipe_has_nothing_to_say(folder) -> None:
    model = gv.load(folder / "run")
    by_default = replace(model, recipe=replace(model.recipe, training=replace(model.recipe.training, epochs=None)))
    assert model.recipe.training.epochs == 3
    assert endings.progress_of(by_default) == ""


def test_a_fit_says_what_to_type_next_and_that_works(folder, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    words = ["fit", "my cells.h5ad", "--condition", "drug", "--control", "drug=ctrl", "--continuous", "dose"]
    main(
        [
            *words,
            "--context",
            "type",
            "--genes",
            "20",
            "--epochs",
            "3",
            "--folds",
            "0",
            "--out",
            "my run",
            "--learning-rate",
            "1e-3",
        ]
    )
    said = capsys.readouterr().out
    assert "the 20 most variable genes" in said
    assert "the loss was still falling, so train longer" in said
    commands = [line.removeprefix("Next").strip() for line in said.splitlines() if "genevae " in line]
    named = {shlex.split(each)[1]: shlex.split(each)[1:] for each in commands}
    assert set(named) == {"latent", "dose-response", "evaluate"}
    main([*named["dose-response"], "--doses", "1,2", "--picture", "curves.png"])
    said = capsys.readouterr().out
    table = pd.read_csv(folder / "my run-doses.csv")
    largest = table.loc[table["max_effect"].abs().idxmax(), "gene"]
    assert said.splitlines()[0].startswith("20 genes from dose 0 to 2")
    assert said.splitlines()[1].startswith(f"  {largest} ")
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("where", ["--out", "--into"])
def test_a_counterfactual_says_its_support_and_the_genes_of_each_group(folder, where, tmp_path, capsys) -> None:
    cells, target = folder / "my cells.h5ad", tmp_path / "result.h5ad"
    if where == "--into":
        target.write_bytes(cells.read_bytes())
    run = folder / "run"
    capsys.readouterr()
    main(["counterfactual", str(run), str(cells), "--set", "drug=stim", where, str(target)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 10
    result = gv.counterfactual(gv.load(run), cells, {"drug": "stim"})
    assert f"median {result.obs['support'].median():.2f}" in lines[0]
    shift = result.varm["shift"]
    largest = shift.abs().max().idxmax()
    assert lines[2].startswith(f"  {largest}: ")
    assert f"up {shift[largest].idxmax()} {shift[largest].max():+.2f}" in lines[2]
    column = "support" if where == "--out" else "counterfactual_support"
    written = ad.read_h5ad(target).obs[column]
    np.testing.assert_allclose(written, result.obs["support"], rtol=1e-5)


def test_labels_are_said_with_how_sure_and_how_right_they_are(folder, tmp_path, capsys) -> None:
    cells, run, out = folder / "my cells.h5ad", tmp_path / "run", tmp_path / "labels.csv"
    main(["fit", str(cells), "--condition", "type", "--epochs", "3", "--out", str(run)])
    capsys.readouterr()
    main(["classify", str(run), str(cells), "--out", str(out)])
    said, table = capsys.readouterr().out, pd.read_csv(out)
    assert f"median {table['probability'].median():.2f}" in said
    assert f"Right in {(table['label'] == table['true']).mean():.1%} of the 120 cells" in said
