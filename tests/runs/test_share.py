"""Shared models: nothing of a cell or a machine in any byte, and tasks that still work, also from an address."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import genevae as gv
from genevae.cli import main
from genevae.errors import GenevaeError, RunError
from genevae.runs.remote import address_of
from genevae.runs.share import LEAST_CELLS


@pytest.fixture(scope="module")
def run(make_adata: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a file, whose cells have names that occur nowhere else."""
    folder = tmp_path_factory.mktemp("secretplace")
    adata = make_adata()
    adata.obs_names = [f"BARCODE{i:04}x" for i in range(adata.n_obs)]
    adata.obs["diagnosis_of_patient"] = "SECRETDIAGNOSIS"
    adata.write_h5ad(folder / "cells.h5ad")
    options = "--condition type,drug --batch lane --control drug=ctrl --epochs 8 --device cpu --setting hidden=16"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "HOSTOFMINE")
        main(["fit", str(folder / "cells.h5ad"), "--out", str(folder / "run"), *options.split()])
    return folder / "run"


@pytest.fixture(scope="module")
def shared(run: Path) -> Path:
    main(["share", str(run), "--out", str(run.parent / "shared")])
    return run.parent / "shared"


def test_no_byte_tells_of_a_cell_or_a_machine(run: Path, shared: Path) -> None:
    model = gv.load(run)
    secrets = {name: name.encode() for name in ("BARCODE", "HOSTOFMINE", "diagnosis_of_patient", "secretplace")}
    secrets |= {"home": str(Path.home()).encode() + b"/", "value": b"SECRETDIAGNOSIS"}
    secrets |= {f"hash {i}": str(each).encode() for i, each in enumerate(model.contents[:50])}
    secrets |= {f"posterior of {i}": row.numpy().tobytes() for i, row in enumerate(model.reference.mean_nk)}
    in_run = b"".join(file.read_bytes() for file in run.iterdir())
    assert {"BARCODE", "HOSTOFMINE", "secretplace", "posterior of 0", "hash 0"} <= {
        n for n, each in secrets.items() if each in in_run
    }
    for file in shared.iterdir():
        content = file.read_bytes()
        assert [name for name, secret in secrets.items() if secret in content] == [], file.name


def test_its_groups_have_the_moments_of_the_cells(run: Path, shared: Path) -> None:
    ours, theirs = gv.load(run).reference, gv.load(shared).reference
    assert theirs.n_cells <= ours.n_cells / LEAST_CELLS
    for code in (0, 1):
        cells, groups = (each.condition.codes["drug"] == code for each in (ours, theirs))
        np.testing.assert_allclose(
            theirs.mean_nk[groups].mean(0), ours.mean_nk[cells].mean(0), atol=0.35 * float(ours.mean_nk.std())
        )


def test_tasks_work_with_it(run: Path, shared: Path, make_adata: Any) -> None:
    cells = make_adata(40, seed=3)
    ours, theirs = gv.load(run), gv.load(shared)
    np.testing.assert_array_equal(ours.embed(cells).obsm["X_genevae"], theirs.embed(cells).obsm["X_genevae"])
    assert theirs.parts == ours.parts
    assert "training" in repr(theirs)
    assert len(theirs.generate(n=20, condition={"drug": "stim", "type": "A"})) == 20
    assert theirs.classify(cells, field="type").shape[0] == 40
    stimulated = theirs.counterfactual(cells, {"drug": "stim"})
    assert np.isfinite(stimulated.layers["mean"]).all()
    card = (shared / "README.md").read_text()
    assert "## Intended use" in card
    assert f"{ours.parts['training']:,} training" in card


def test_an_address_is_a_model(shared: Path, make_adata: Any) -> None:
    files = fsspec.filesystem("memory")
    files.put(str(shared), "/hub/model", recursive=True)
    cells = make_adata(10, seed=3)
    model = gv.load("memory://hub/model/")
    np.testing.assert_array_equal(
        gv.embed(model, cells).obsm["X_genevae"], gv.embed(gv.load(shared), cells).obsm["X_genevae"]
    )
    files.pipe("/hub/model/history.csv", b"epoch\n1\n")
    with pytest.raises(RunError, match=r"memory://hub/model/history\.csv is not what was written: its sha256"):
        gv.load(Path("memory://hub/model"))  # a path has one slash fewer
    with pytest.raises(RunError, match=r"memory://hub is no model: it has no manifest\.json"):
        gv.load("memory://hub")
    files.pipe("/hub/other/manifest.json", b'{"sha256": {"../../escaped": "0"}}')
    with pytest.raises(RunError, match=r"lists other files than genevae writes: \.\./\.\./escaped"):
        gv.load("memory://hub/other")
    with pytest.raises(GenevaeError, match="not a valid address"):
        gv.load("nowhere://hub/model")


@pytest.mark.parametrize(("path", "address"), [
    ("https:/example.org/m", "https://example.org/m"), ("hf://a/b/", "hf://a/b"), ("file:/tmp/m", "file:///tmp/m"),
    ("runs/nb", None), ("C:/runs", None),
])  # fmt: skip
def test_addresses_are_told_from_paths(path: str, address: str | None) -> None:
    assert address_of(path) == address


def test_a_model_of_few_cells_is_not_shared(run: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    model = gv.load(run)
    few = replace(model, reference=model.reference.take(np.arange(LEAST_CELLS - 1)))
    with pytest.raises(RunError, match="no 10 of which have the same categories"):
        gv.share(few, tmp_path / "out")
    with pytest.raises(RunError, match="would destroy the input"):
        gv.share(run, run)
    assert list(tmp_path.iterdir()) == []
    assert gv.load(run).reference.n_cells == model.reference.n_cells
