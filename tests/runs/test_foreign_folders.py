"""Run folders that were changed on purpose, with new hashes: one message, and no work before it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import genevae as gv
from genevae.errors import RecipeError, RunError
from genevae.io.atomic import locked
from genevae.runs.manifest import MANIFEST, SEAL
from genevae.runs.pretrained import recipe_like


@pytest.fixture
def run(tiny_model, tmp_path: Path) -> Path:
    gv.save(tiny_model, tmp_path / "run")
    return tmp_path / "run"


def seal(run: Path) -> None:
    """Make the hashes anew, as anybody can."""
    manifest = json.loads((run / MANIFEST).read_text())
    del manifest[SEAL]
    manifest["sha256"] = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in manifest["sha256"]}
    manifest[SEAL] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (run / MANIFEST).write_text(json.dumps(manifest))


def edited(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        (run / name).write_text(json.dumps(change(json.loads((run / name).read_text()))))

    return edit


def with_setting(**settings: Any) -> Callable[[Any], Any]:
    return lambda recipe: {**recipe, "settings": {**recipe["settings"], **settings}}


def sparse(name: str, size: int) -> Callable[[Path], None]:
    def grow(run: Path) -> None:
        with (run / name).open("wb") as file:
            file.truncate(size)

    return grow


SEALED = {
    "wide": (edited("recipe.json", with_setting(hidden=[10**6, 10**6])), "does not fit recipe.json"),
    "deep": (edited("recipe.json", with_setting(hidden=[1] * 2000)), "hidden layers"),
    "endless": (edited("recipe.json", with_setting(epochs=float("inf"))), "recipe.json is damaged"),
    "no settings": (edited("recipe.json", lambda _: []), "recipe.json is damaged"),
    "no genes": (edited("schema.json", lambda schema: {**schema, "genes": []}), "cannot be opened"),
    "list": (edited("calibration.json", lambda _: []), "cannot be opened"),
    "codes": (
        edited(
            "calibration.json",
            lambda fields: {name: {**each, "codes": [10**9] * len(each["codes"])} for name, each in fields.items()},
        ),
        "has codes of",
    ),
    "temperature": (
        edited("calibration.json", lambda fields: {name: {**each, "temperature": 0} for name, each in fields.items()}),
        "temperature 0",
    ),
    "correction": (
        lambda run: shutil.copy(run / "reference.safetensors", run / "correction.safetensors"), "correction of the",
    ),
    "columns": (
        lambda run: (run / "history.csv").write_text("," * 200_000 + "\n"), "more than 1000 columns",
    ),
}  # fmt: skip
BROKEN = {
    "brackets": (lambda run: (run / MANIFEST).write_text("[" * 10_000), "nested too deeply"),
    "giant manifest": (sparse(MANIFEST, 2**40), "at most"),
    "giant weights": (sparse("model.safetensors", 2**40), "head"),
    "giant table": (sparse("split.csv", 2**40), "not a table"),
    "giant recipe": (sparse("recipe.json", 2**40), "at most"),
    "device": (lambda run: replace(run / "model.safetensors", lambda file: file.symlink_to("/dev/zero")), "is missing"),
    "pipe": (lambda run: replace(run / "schema.json", os.mkfifo), "is missing"),
}


def replace(file: Path, make: Callable[[Path], Any]) -> None:
    file.unlink()
    make(file)


@pytest.mark.parametrize("name", SEALED)
def test_a_folder_that_was_sealed_again_is_refused(name, run):
    change, said = SEALED[name]
    change(run)
    seal(run)
    with pytest.raises(RunError, match=said):
        gv.load(run)


@pytest.mark.parametrize("name", BROKEN)
def test_files_are_looked_at_before_they_are_read(name, run):
    change, said = BROKEN[name]
    change(run)
    with pytest.raises(RunError, match=said):
        gv.load(run)


@pytest.mark.parametrize("change", ["outside", "unlisted"])
def test_a_manifest_lists_the_files_of_its_folder(run, change):
    manifest = json.loads((run / MANIFEST).read_text())
    manifest["sha256"] = {**manifest["sha256"], "../secret": "0"} if change == "outside" else {"model.safetensors": "0"}
    del manifest[SEAL]
    manifest[SEAL] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (run / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="lists other files than genevae writes"):
        gv.load(run)


def test_a_recipe_to_start_from_is_read_with_the_same_care(run):
    edited("recipe.json", lambda _: {"name": []})(run)
    with pytest.raises(RunError, match=r"recipe\.json is damaged"):
        recipe_like(None, run)


def test_a_folder_has_one_lock_whatever_it_is_called(run, monkeypatch):
    link = run.with_name("link")
    link.symlink_to(run)
    monkeypatch.chdir(run)
    for other in (link, Path(), Path("../run")):
        with locked(run), pytest.raises(RunError, match="in use"), locked(other):
            pass


@pytest.mark.parametrize("out", [".", "", "/", ".."])
def test_the_working_folder_and_the_root_are_not_replaced(adata, tmp_path, monkeypatch, out):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for overwrite in (False, True):
        with pytest.raises(RunError, match=r"a folder that is in use"):
            gv.fit(adata, epochs=1, out=out, overwrite=overwrite, progress=False)
    assert not list(tmp_path.glob("**/.*"))


def test_a_working_folder_that_was_removed_is_named(adata, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    shutil.rmtree(tmp_path / "here")
    with pytest.raises(RunError, match="working folder is gone"):
        gv.fit(adata, epochs=1, out="run", progress=False)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_is_none_is_named(adata, seed):
    with pytest.raises(RecipeError, match=f"seed must be .*{seed}"):
        gv.fit(adata, epochs=1, seed=seed, progress=False)
