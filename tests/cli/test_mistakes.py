"""Each mistake a user can make ends in exit code 2 and one paragraph that names the mistake and the mend."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import genevae as gv
from genevae.cli import main
from genevae.preprocessing.example import example


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out a folder with counts, log-normalised data, other genes, an unseen category, and a trained model."""
    folder = tmp_path_factory.mktemp("mistakes")
    counts = example("pbmc")[:200, :60].copy()
    counts.write_h5ad(folder / "counts.h5ad")
    logged = counts.copy()
    logged.X = np.log1p(1e4 * counts.X.toarray() / counts.X.toarray().sum(1, keepdims=True)).astype(np.float32)
    logged.write_h5ad(folder / "log.h5ad")
    unseen = counts[:5].copy()
    unseen.obs["cell_type"] = "Martian"
    unseen.write_h5ad(folder / "unseen.h5ad")
    counts[:, 50:].copy().write_h5ad(folder / "fewer.h5ad")
    renamed = counts.copy()
    renamed.var_names = [f"ENSG{number:011d}" for number in range(counts.n_vars)]
    renamed.write_h5ad(folder / "renamed.h5ad")
    bare = ad.AnnData(counts.X)
    bare.var_names = counts.var_names
    bare.write_h5ad(folder / "bare.h5ad")
    gv.save(gv.fit(counts, condition=["cell_type"], epochs=1, progress=False), folder / "run")
    broken = folder / "broken"
    gv.save(gv.load(folder / "run"), broken)
    (broken / "schema.json").write_text("{}")
    (folder / "mine").mkdir()
    (folder / "mine.zarr").mkdir()
    (folder / "mine.zarr" / "thesis.txt").write_text("three years of work")
    (folder / "mine" / "thesis.txt").write_text("three years of work")
    (folder / "text.h5ad").write_text("cells, genes\n")
    (folder / "other.csv").write_text("cell,age\nnobody,3\n")
    (folder / "bad.toml").write_text("epochs = = 3")
    (folder / "odd.toml").write_text("epoch = 3")
    return folder


MISTAKES = {
    "missing file": ("fit nothing.h5ad --out new", "nothing.h5ad"),
    "not HDF5": ("fit text.h5ad --out new", "not an HDF5 file"),
    "unknown format": ("inspect bad.toml", "bad.toml"),
    "unknown command": ("fitt counts.h5ad", 'Did you mean "fit"'),
    "unknown option": ("fit counts.h5ad --out new --epoch 3", "--epochs"),
    "not whole": ("fit counts.h5ad --out new --epochs 5.5", "--epochs must be a whole number, not 5.5"),
    "not whole, later": ("generate run 2.5 --out new.h5ad", "--n must be a whole number, not 2.5"),
    "not a number": ("fit counts.h5ad --out new --epochs many", "many"),
    "no output": ("fit counts.h5ad", "--out"),
    "unknown column": ("fit counts.h5ad --condition celltype --out new", "Did you mean 'cell_type'?"),
    "unknown recipe": ("fit counts.h5ad --recipe zimb --out new", "Did you mean 'zinb'?"),
    "unknown setting": ("fit counts.h5ad --setting droput=0.2 --out new", "Did you mean 'dropout'?"),
    "setting of another type": ("fit counts.h5ad --setting dropout=lots --out new", "dropout"),
    "impossible setting": ("fit counts.h5ad --setting dropout=1.5 --out new", "1.5"),
    "unknown layer": ("fit counts.h5ad --layer spliced --out new", "spliced"),
    "unknown device": ("fit counts.h5ad --device tpu --out new", "tpu"),
    "counts asked of log data": ("fit log.h5ad --recipe nb --out new", "--recipe conditional"),
    "log data for a model of counts": ("embed run log.h5ad --out new.h5ad", "log-normalised"),
    "unseen category": ("embed run unseen.h5ad --out new.h5ad", "Martian"),
    "missing column": ("fit bare.h5ad --condition cell_type --out new", "no obs column 'cell_type'"),
    "wrong genes": ("embed run renamed.h5ad --out new.h5ad", "Ensembl"),
    "genes that the data lack": ("embed run fewer.h5ad --out new.h5ad", "--join outer"),
    "gene list is missing": ("fit counts.h5ad --genes nothing.txt --out new", "nothing.txt"),
    "control is no level": (
        "fit counts.h5ad --condition cell_type --control cell_type=dendritic --out new",
        "Did you mean 'Dendritic'?",
    ),
    "control of no condition": ("fit counts.h5ad --control drug=DMSO --out new", "drug"),
    "not a category": ("generate run --set Dendrites --out new.h5ad", "Did you mean 'Dendritic'?"),
    "unknown field": ("generate run --set celltype=B --out new.h5ad", "Did you mean 'cell_type'?"),
    "unknown category": ("counterfactual run counts.h5ad --set cell_type=Dendrites --out new.h5ad", "Did you mean"),
    "field of no model": ("classify run counts.h5ad --field donor --out new.csv", "donor"),
    "nothing asked": ("generate run --n 0 --out new.h5ad", "n=0"),
    "two ways to split": ("fit counts.h5ad --stratify cell_type --split-by cell_type --out new", "one way"),
    "a run that is not there": ("embed nowhere counts.h5ad --out new.h5ad", "nowhere"),
    "a run that is no run": ("embed . counts.h5ad --out new.h5ad", "manifest.json"),
    "a damaged run": ("embed broken counts.h5ad --out new.h5ad", "schema.json"),
    "run exists": ("fit counts.h5ad --out run", "--force"),
    "forced over a folder of the user's": ("fit counts.h5ad --out mine --force", "something else"),
    "result forced over a folder of the user's": ("embed run counts.h5ad --out mine.zarr --force", "something else"),
    "demo forced over a folder of the user's": ("demo --out mine --force", "something else"),
    "output exists": ("embed run counts.h5ad --out log.h5ad", "--force"),
    "unknown output": ("embed run counts.h5ad --out new.xlsx", ".h5ad"),
    "no permission": ("embed run counts.h5ad --out /proc/new.h5ad", "/proc"),
    "no permission for a run": ("fit counts.h5ad --out /proc/new", "/proc"),
    "config is missing": ("fit counts.h5ad --config none.toml --out new", "none.toml"),
    "config is not TOML": ("fit counts.h5ad --config bad.toml --out new", "bad.toml"),
    "config with unknown option": ("fit counts.h5ad --config odd.toml --out new", "Did you mean 'epochs'?"),
    "no data": ("fit --out new", "DATA"),
    "unknown format of data": ("fit counts.h5ad --format h5da --out new", "Did you mean 'h5ad'?"),
    "unknown join": ("fit counts.h5ad --join sideways --out new", '"inner", "outer"'),
    "unknown join for a task": ("embed run counts.h5ad --join sideways --out new.h5ad", '"inner", "outer"'),
    "unknown place to keep": ("fit counts.h5ad --keep nowhere --out new", '"auto", "memory", "disk"'),
    "key without metadata": ("fit counts.h5ad --key donor --out new", "Give the table too"),
    "metadata of other cells": ("fit counts.h5ad --metadata other.csv --out new", "No cell is in other.csv"),
    "metadata are missing": ("fit counts.h5ad --metadata nothing.csv --out new", "There is no nothing.csv"),
    "key that is no column": (
        "fit counts.h5ad --metadata other.csv --key celltype --out new",
        "Did you mean 'cell_type'?",
    ),
    "pattern that matches nothing": ("fit nothing*.h5ad --out new", "No file matches nothing*.h5ad"),
    "balance of no column": ("fit counts.h5ad --balance celltype --out new", "Did you mean 'cell_type'?"),
    "unknown command for data": ("data convrt counts.h5ad --out new", "convert"),
    "inspect what is not there": ("data inspect nothing.h5ad", "nothing.h5ad"),
    "fields to an unknown kind of table": ("data fields counts.h5ad --out new.xlsx", ".csv, .tsv"),
    "convert to an unknown format": ("data convert counts.h5ad --to loom --out new", '"h5ad", "zarr", "batch"'),
    "convert to an unknown ending": ("data convert counts.h5ad --out x.xyz", ".h5ad and .zarr"),
    "cell-eval without a folder": ("counterfactual run counts.h5ad --set cell_type=B --for cell-eval", "--out FOLDER"),
    "convert to one file and many": ("data convert counts.h5ad --cells-per-file 9 --out new.h5ad", "one .h5ad store"),
    "convert to no cells a file": ("data convert counts.h5ad --cells-per-file 0 --out new", "1 or more"),
    "convert over what is there": ("data convert counts.h5ad --out run", "--force"),
    "convert over a folder of the user's": ("data convert counts.h5ad --out mine --force", "something else"),
    "transpose what is no text": ("data transpose counts.h5ad --out new.csv", "not a text table"),
    "no variable genes": ("data hvg counts.h5ad --n-genes 0 --out new.txt", "must be a positive number"),
    "unknown flavor": ("data hvg counts.h5ad --flavor cell_ranger --out new.txt", '"seurat_v3"'),
    "variable genes within no column": (
        "data hvg counts.h5ad --batch celltype --out new.txt",
        "Did you mean 'cell_type'?",
    ),
    "gene list over what is there": ("data hvg counts.h5ad --out odd.toml", "--force"),
    "pseudobulk by no column": (
        "data pseudobulk counts.h5ad --by celltype --out new.h5ad",
        "Did you mean 'cell_type'?",
    ),
    "pseudobulk by nothing": ("data pseudobulk counts.h5ad --out new.h5ad", "--by"),
    "pseudobulk to a table": ("data pseudobulk counts.h5ad --by cell_type --out new.csv", ".h5ad, .zarr"),
    "no mixtures": ("data mixtures counts.h5ad --by cell_type --n 0 --out new.h5ad", "n=0"),
    "download from nowhere": ("data download new --root nowhere", "Check the root"),
}


@pytest.mark.parametrize(("command", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named(
    command: str, said: str, room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(room)
    before = sorted(path for path in room.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    out, err = capsys.readouterr()
    words = " ".join((out + err).split())
    assert ended.value.code == 2
    assert said in words
    assert "Traceback" not in words
    assert sorted(path for path in room.rglob("*")) == before, "something was left behind"


def test_genes_that_the_data_lack_can_be_missing(room: Path, tmp_path: Path) -> None:
    for name in ("counts", "fewer"):
        data, out = room / f"{name}.h5ad", tmp_path / f"{name}.h5ad"
        main(["embed", str(room / "run"), str(data), "--join", "outer", "--out", str(out)])
    all_genes, fewer = (ad.read_h5ad(tmp_path / f"{name}.h5ad").obsm["X_genevae"] for name in ("counts", "fewer"))
    assert np.isfinite(fewer).all()
    assert 0 < np.abs(all_genes - fewer).max() < 10


@pytest.mark.parametrize("name", ["run[/x]", "run[a]", "run:x:", "run [bold]"])
def test_paths_are_printed_as_they_are(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["embed", str(room / "run"), str(room / "counts.h5ad"), "--out", f"{name}.h5ad"])
    assert f"Wrote {name}.h5ad" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fit", str(room / "counts.h5ad"), "--epochs", name, "--out", "new"])
    assert name in "".join(line.strip("│ ") for line in capsys.readouterr().err.splitlines())


def test_a_mistake_is_one_paragraph(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", str(room / "log.h5ad"), "--recipe", "nb", "--out", str(room / "new")])
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_that_is_trained_already_says_so(room: Path, caplog: pytest.LogCaptureFixture) -> None:
    main(["fit", "--resume", str(room / "run")])
    assert f"{room / 'run'} is trained already: nothing is left to resume" in caplog.text
