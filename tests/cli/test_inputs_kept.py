"""No command writes over, around or into what it reads, however the path is spelled, and --force is no exception."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import genevae as gv
from genevae.cli import COMMANDS, app, main
from genevae.cli.data import app as data_app
from genevae.errors import RunError
from genevae.io.formats import ReadOptions, open_source
from genevae.io.overwrite import require_free
from genevae.preprocessing.convert import convert

READS = {
    "fit": "fit {0} --metadata {1} --genes {2} --epochs 1 --out OUT",
    "fit with a filter": "fit {0} --gene-filter {2} --from {3} --out OUT",
    "fit with a config": "fit --config {4} --out OUT",
    "fit with an embedding": "fit {0} --condition t --embedding t={1} --out OUT",
    "embed": "embed {3} {0} --metadata {1} --out OUT",
    "denoise": "denoise {3} {0} --gene-names {5} --out OUT",
    "counterfactual": "counterfactual {3} {0} --set t=A --out OUT",
    "generate": "generate {3} --out OUT",
    "classify": "classify {3} {0} --field t --metadata {1} --out OUT",
    "cluster": "cluster {3} {0} --out OUT",
    "dose-response": "dose-response {3} {0} --out OUT",
    "effect": "effect {3} {0} --field t --out OUT",
    "effect's picture": "effect {3} {0} --field t --out new.csv --picture OUT",
    "evaluate": "evaluate {3} {0} --gene-sets {2} --out OUT",
    "sweep": "sweep {0} --each n_latent=2,3 --genes {2} --out OUT",
    "export": "export {3} --out OUT --format torch",
    "share": "share {3} --out OUT",
    "tune": "tune {0} --genes {2} --space {4} --out OUT",
    "counterfactual with a table": "counterfactual {3} {0} --conditions {1} --out OUT",
    "counterfactual with cell-eval": "counterfactual {3} {0} --set t --for cell-eval --out OUT",
    "latent": "latent {3} {0} --out OUT",
    "influence": "influence {3} {0} --out OUT",
    "contributions": "contributions {3} {0} --out OUT",
    "gene-embeddings": "gene-embeddings {3} --out OUT",
    "map": "map {3} {0} --out OUT",
    "de": "de {3} {0} --group-by t --out OUT",
    "de's picture": "de {3} {0} --group-by t --out new.csv --picture OUT",
    "loadings": "loadings {3} --out OUT",
    "program-scores": "program-scores {3} {0} --out OUT",
    "explore": "explore {3} {0} --gene-sets {2} --out OUT",
    "plot": "plot {3} latent {0} --out OUT",
    "slurm": "slurm embed {3} {0} --out new.h5ad --script OUT --replace",
    "data fields": "data fields {0} --metadata {1} --out OUT",
    "data convert": "data convert {0} --metadata {1} --out OUT",
    "data transpose": "data transpose {1} --out OUT",
    "data hvg": "data hvg {0} --out OUT",
    "data filter": "data filter {0} --out OUT",
    "data pseudobulk": "data pseudobulk {0} --by t --out OUT",
    "data mixtures": "data mixtures {0} --by t --n 3 --out OUT",
    "data download": "data download OUT --root {3}",
}
"""Every command that writes, with what it reads: 0 counts, 1 metadata, 2 genes, 3 a run, 4 a config, 5 gene names."""
NAMES = ("cells.h5ad", "labels.csv", "genes.txt", "run", "fit.toml", "names.tsv", "batches")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"t": ["A", "B"] * 20}, index=[f"c{i}" for i in range(40)])
    var = pd.DataFrame(index=[f"g{i}" for i in range(12)])
    cells = AnnData(rng.poisson(2, (40, 12)).astype(np.float32), obs, var)
    cells.write_h5ad(folder / "cells.h5ad")
    gv.fit(cells, condition=["t"], epochs=1, n_latent=2, hidden=[4], progress=False, out=folder / "run")
    convert(cells, folder / "batches")
    cells.obs.to_csv(folder / "labels.csv", index_label="cell")
    (folder / "genes.txt").write_text("\n".join(cells.var_names))
    (folder / "fit.toml").write_text('data = "cells.h5ad"\nepochs = 1\n')
    (folder / "names.tsv").write_text("g0\th0\n")
    (folder / "sub").mkdir()
    for name in NAMES:
        (folder / f"link-{name}").symlink_to(name)
        if (folder / name).is_file():
            os.link(folder / name, folder / f"hard-{name}")
    return folder


def content(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock")
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_every_command_with_an_output_is_here() -> None:
    def writes(command: str) -> bool:
        options = app[command].assemble_argument_collection() if " " not in command else None
        found = options or data_app[command.split()[1]].assemble_argument_collection()
        return any("--out" in argument.names or "OUT" in argument.names for argument in found)

    listed = {name.split(" with ")[0].removesuffix("'s picture") for name in READS}
    commands = {name for name in COMMANDS if name not in ("data", "demo")}  # the demo reads no file
    commands |= {f"data {name}" for name in data_app if not name.startswith("-") and name != "example"}  # nor does this
    assert {name for name in commands if writes(name)} <= listed


@pytest.mark.parametrize("name", READS)
def test_an_output_is_never_an_input(name, room, monkeypatch, capsys) -> None:
    if name == "tune":
        pytest.importorskip("optuna", reason="optuna is not installed: pip install 'genevae[tune]'")
    monkeypatch.chdir(room)
    before = content(room)
    words = READS[name].format(*NAMES).split()
    inputs = [each for at, each in enumerate(NAMES) if f"{{{at}}}" in READS[name]]
    for each in inputs:
        command = [f"link-{each}" if word == "OUT" else word for word in words]
        command += [] if name in ("slurm", "data download") else ["--force"]
        said = refused(command, capsys)
        assert "which is read" in said or "cannot be" in said or "not a name for" in said or "ends in .html" in said, (
            said
        )
    assert content(room) == before


@pytest.mark.parametrize("name", [name for name in READS if name != "data download"])
def test_an_output_neither_contains_nor_lies_in_an_input(name, room, monkeypatch, capsys) -> None:
    monkeypatch.chdir(room / "sub")
    before = content(room)
    names = [f"../{each}" for each in NAMES]
    words = READS[name].format(names[6], *names[1:]).split()
    force = [] if name == "slurm" else ["--force"]
    suffix = {"effect's picture": ".png", "de's picture": ".png", "plot": ".png", "explore": ".html"}.get(
        name, ".csv" if "--out new" not in READS[name] else ".sh"
    )
    for out in ("..", str(room), "", "/", ".", f"../batches/new{suffix}", f"../run/new{suffix}"):
        if ("batches" in out and "{0}" not in READS[name]) or ("run" in out and "{3}" not in READS[name]):
            continue
        said = refused([out if word == "OUT" else word for word in words] + force, capsys)
        assert "Traceback" not in said
    assert content(room) == before


def test_the_functions_refuse_what_the_commands_refuse(room, monkeypatch) -> None:
    monkeypatch.chdir(room)
    before, model = content(room), gv.load("run")
    calls: list[Callable[..., object]] = [
        lambda out: gv.fit("cells.h5ad", out=out, overwrite=True, epochs=1, progress=False),
        lambda out: gv.embed(model, "cells.h5ad", out=out, overwrite=True),
        lambda out: gv.denoise(model, open_source("cells.h5ad"), out=out, overwrite=True),
        lambda out: gv.counterfactual(model, ReadOptions("cells.h5ad"), condition={"t": "A"}, out=out, overwrite=True),
        lambda out: convert("cell*.h5ad", out, overwrite=True),
    ]
    for call in calls:
        for out in ("cells.h5ad", "sub/../cells.h5ad", "link-cells.h5ad", "hard-cells.h5ad"):
            with pytest.raises(RunError, match="which is read"):
                call(out)
    with pytest.raises(RunError, match="which is read"):
        gv.generate(model, n=3, out="run/new.h5ad")
    assert content(room) == before


def test_only_what_genevae_wrote_is_replaced(room, tmp_path, capsys) -> None:
    for name in ("cells.h5ad", "labels.csv"):
        shutil.copy(room / name, tmp_path / f"mine-{name}")
    mine = content(tmp_path)
    verbs = {"mine-cells.h5ad": ["embed"], "mine-labels.csv": ["cluster"]}
    for name, verb in verbs.items():
        words = [*verb, str(room / "run"), str(room / "cells.h5ad"), "--out", str(tmp_path / name)]
        assert "--force" in refused(words, capsys)
        assert "did not write it" in refused([*words, "--force"], capsys)
    assert content(tmp_path) == mine
    ours = ["embed", str(room / "run"), str(room / "cells.h5ad"), "--force", "--out", str(tmp_path / "ours.h5ad")]
    main(ours)
    written = (tmp_path / "ours.h5ad").read_bytes()
    main(ours)
    assert (tmp_path / "ours.h5ad").read_bytes() == written
    with (tmp_path / "ours.h5ad").open("ab") as file:
        file.write(b"a note of mine")
    assert "changed since" in refused(ours, capsys)


def test_without_extended_attributes_the_signature_is_beside(room, tmp_path, monkeypatch) -> None:
    monkeypatch.delattr(os, "setxattr", raising=False)
    monkeypatch.delattr(os, "getxattr", raising=False)
    for _ in range(2):
        convert(room / "cells.h5ad", tmp_path / "ours", overwrite=True)
    shutil.copytree(tmp_path / "ours", tmp_path / "mine")
    with pytest.raises(RunError, match="did not write it"):
        require_free(tmp_path / "mine", True, ())
