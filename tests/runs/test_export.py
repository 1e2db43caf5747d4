"""Exported networks: the same numbers as embed and decode, from programs that do not know this package."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.explorer.test_decoder import MODELS, untrained

import genevae as gv
from genevae.cli import main
from genevae.errors import RunError
from genevae.recipes.registry import RECIPES
from genevae.runs import export as exporting

ONNX = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is not installed: pip install 'genevae[export]'",
)
FORMATS = ["torch", pytest.param("onnx", marks=ONNX)]
ELSEWHERE = """
import sys, numpy as np, torch
sys.modules["genevae"] = None  # importing it, or unpickling of it, fails
given = np.load(sys.argv[2])
found = torch.export.load(sys.argv[1]).module()(*(torch.from_numpy(given[name]) for name in given.files))
np.save(sys.argv[3], found[0].numpy())
"""


def inputs_of(model: Any, adata: Any) -> dict[str, np.ndarray]:
    obs = {f"obs/{c.name}": c.encode(adata.obs[c.name]).numpy() for c in model.schema.categorical}
    return {"expression": adata.X.toarray(), **obs}


@pytest.mark.parametrize("form", FORMATS)
def test_the_files_are_embed_and_decode(form: str, tiny_model: Any, adata: Any, tmp_path: Path, capsys: Any) -> None:
    gv.save(tiny_model, tmp_path / "run")
    main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--format", form])
    assert "largest relative difference" in capsys.readouterr().out
    tables = json.loads((tmp_path / "out" / "model.json").read_text())
    assert tables["genes"] == list(adata.var_names)
    given, run = inputs_of(tiny_model, adata), exporting.FORMATS[form].run
    assert [each["name"] for each in tables["encoder"]["inputs"]] == list(given)
    embedded = gv.embed(tiny_model, adata)
    tensors = {name: torch.from_numpy(each) for name, each in given.items()}
    mean, scale, size = run(tmp_path / "out" / tables["encoder"]["file"], tensors)
    np.testing.assert_allclose(mean, embedded.obsm["X_genevae"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scale, embedded.obsm["X_genevae_scale"], rtol=1e-4)
    np.testing.assert_array_equal(size[:, 0], given["expression"].sum(1))

    codes = {name: torch.full((len(mean),), code) for name, code in
             (("obs/type", tables["categories"]["type"]["B"]), ("obs/drug", tables["categories"]["drug"]["stim"]),
              ("obs/lane", tables["categories"]["lane"]["l2"]))}  # fmt: skip
    latent = {"latent": torch.from_numpy(mean), "size": torch.full((len(mean), 1), 500.0), **codes}
    assert [each["name"] for each in tables["decoder"]["inputs"]] == list(latent)
    (found,) = run(tmp_path / "out" / tables["decoder"]["file"], latent)
    expected = gv.decode(tiny_model, mean, {"type": "B", "drug": "stim", "lane": "l2"}, size=500)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow  # a new process loads torch, and the files are those of the test above
def test_torch_alone_opens_a_program(tiny_model: Any, adata: Any, tmp_path: Path) -> None:
    gv.export(tiny_model, out=tmp_path / "out", format="torch")
    np.savez(tmp_path / "given.npz", **{n.replace("/", "-"): x for n, x in inputs_of(tiny_model, adata).items()})
    files = [tmp_path / "out" / "encoder.pt2", tmp_path / "given.npz", tmp_path / "found.npy"]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *map(str, files)], check=True, capture_output=True)
    ours = gv.embed(tiny_model, adata).obsm["X_genevae"]
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), ours, rtol=1e-4, atol=1e-5)


def convolutional(recipe: str) -> Any:
    """Make a convolutional model of random weights, with its genes in random order."""
    model, chosen = untrained("gaussian", {}), RECIPES[recipe]
    transform = chosen.model.transform(model.schema.kind)
    highest = {"highest_g": 0.1 + torch.rand(60)} if hasattr(transform.inner, "highest_g") else {}
    schema = model.schema.with_transform(
        replace(transform, order_g=torch.randperm(60), inner=replace(transform.inner, **highest))
    )
    mean_nk = torch.zeros(1, chosen.settings()["n_latent"])
    reference = SimpleNamespace(mean_nk=mean_nk)
    return SimpleNamespace(module=chosen.build(schema).eval(), schema=schema, reference=reference)


EVERY = {
    **MODELS,
    "contrastive": ("contrastive", {}),
    "bulk-large": ("bulk-large", {}),
    "convolutional": ("convolutional", {}),
    "convolutional-nb": ("convolutional-nb", {}),
}


def test_every_recipe_is_tried() -> None:
    assert {recipe for recipe, _ in EVERY.values()} == set(RECIPES)


@pytest.mark.slow  # the formats are tried above; this tries the other networks
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", EVERY)
def test_every_recipe_can_be_exported(name: str, form: str, tmp_path: Path) -> None:
    recipe, settings = EVERY[name]
    model = convolutional(recipe) if recipe.startswith("convolutional") else untrained(recipe, settings)
    gv.export(model, out=tmp_path / "out", format=form)  # which compares them
    assert (tmp_path / "out" / "model.json").is_file()


def test_a_file_that_differs_is_not_written(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = exporting.FORMATS["torch"]
    wrong = replace(made, run=lambda path, inputs: tuple(1.001 * each for each in made.run(path, inputs)))
    monkeypatch.setitem(exporting.FORMATS, "torch", wrong)
    with pytest.raises(RunError, match=r"encoder\.pt2 would not be the model: its mean differs by 0\.001"):
        gv.export(tiny_model, out=tmp_path / "out", format="torch")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_answered(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"Unknown format 'onx'. Did you mean 'onnx'"):
        gv.export(tiny_model, out=tmp_path / "out", format="onx")
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"needs onnx, onnxscript, onnxruntime: pip install 'genevae\[export\]'"):
        gv.export(tiny_model, out=tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="already exists"):
        gv.export(tiny_model, out=tmp_path / "out", format="torch")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
