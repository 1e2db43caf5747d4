"""A saved model is the model: the same bits, without its training data, and damage is named."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from genevae.errors import RunError
from genevae.models.classifier import bounds_nc
from genevae.runs import reference
from genevae.runs.fit import fit
from genevae.runs.load import load
from genevae.runs.manifest import MANIFEST, SEAL, _seal
from genevae.runs.trained import save
from genevae.tasks.embed import embed

FILES = ("model.safetensors", "reference.safetensors", "recipe.json", "schema.json", "calibration.json", "history.csv",
         "training.png",
         "split.csv", "fields.csv", "vocabularies.json", "config.toml", MANIFEST,
         "responses.safetensors", "states.json", "labels.safetensors", "labels.json",
         "correction.safetensors")  # fmt: skip


@pytest.fixture(scope="module")
def saved(tiny_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "run"
    save(tiny_model, path)
    return path


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_a_folder_holds_what_it_says(saved):
    assert {file.name for file in saved.iterdir()} == set(FILES)


def test_embeddings_of_the_opened_model_are_bit_identical(tiny_model, saved, adata):
    one, other = embed(tiny_model, adata), embed(load(saved), adata)
    np.testing.assert_array_equal(one.obsm["X_genevae"], other.obsm["X_genevae"])
    np.testing.assert_array_equal(one.obsm["X_genevae_scale"], other.obsm["X_genevae_scale"])


def test_everything_comes_back(tiny_model, saved):
    opened = load(saved)
    assert opened.recipe == tiny_model.recipe
    assert opened.schema == tiny_model.schema
    assert opened.calibration == tiny_model.calibration
    pd.testing.assert_frame_equal(opened.history, tiny_model.history, check_exact=True)
    pd.testing.assert_series_equal(opened.split, tiny_model.split, check_index_type=False, check_dtype=False,
                                   check_names=False)  # fmt: skip
    for name, tensor in tiny_model.reference.to_tensors().items():
        assert torch.equal(opened.reference.to_tensors()[name], tensor)
    for name in ("seed", "fingerprint", "best_epoch", "ended", "config", "data"):
        assert opened.facts[name] == tiny_model.facts[name]
    assert set(opened.facts["versions"]) >= {"genevae", "torch", "numpy"}
    assert not opened.module.training


def test_fields_and_vocabularies_say_what_the_conditions_were(tiny_model, saved):
    fields = load(saved).fields.set_index("field")
    assert fields["cardinality"].to_dict() == {"type": 3, "drug": 2, "lane": 2, "dose": 240}
    vocabularies = json.loads((saved / "vocabularies.json").read_text())
    assert vocabularies == {
        "type": {"A": 0, "B": 1, "C": 2},
        "drug": {"ctrl": 0, "stim": 1},
        "lane": {"l1": 0, "l2": 1, "unknown": 2},
    }
    for name, codes in vocabularies.items():
        assert {category: tiny_model.schema[name].code(category) for category in codes} == codes


def test_titles_of_fields_in_older_runs_are_read_as_todays(tiny_model, copy):
    older = tiny_model.fields.rename(columns={"using": "used", "non_null_fraction": "non_null"})
    older.to_csv(copy / "fields.csv", index=False)
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["sha256"]["fields.csv"] = hashlib.sha256((copy / "fields.csv").read_bytes()).hexdigest()
    del manifest[SEAL]
    (copy / MANIFEST).write_text(json.dumps({**manifest, SEAL: _seal(manifest)}))
    pd.testing.assert_frame_equal(load(copy).fields, tiny_model.fields)


def test_a_checkpoint_that_is_missing_is_an_error_with_those_that_exist(copy):
    (copy / "checkpoints" / "step_00000040").mkdir(parents=True)
    with pytest.raises(RunError, match="There are: step_00000040"):
        load(copy / "checkpoints" / "step_00000500")


def test_a_folder_from_before_there_were_fields_is_opened(tiny_model, copy):
    manifest = json.loads((copy / MANIFEST).read_text())
    for name in ("fields.csv", "vocabularies.json"):
        (copy / name).unlink()
        del manifest["sha256"][name]
    del manifest[SEAL]
    (copy / MANIFEST).write_text(json.dumps({**manifest, SEAL: _seal(manifest)}))
    assert load(copy).fields.empty
    save(load(copy), copy.parent / "again")
    assert load(copy.parent / "again").fields.empty


def test_an_opened_model_can_be_saved_again(saved, tmp_path):
    save(load(saved), tmp_path / "again")
    for name in set(FILES) - {MANIFEST}:
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes(), name
    load(tmp_path / "again")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_caught_and_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(RunError, match=name):
        load(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(RunError, match=name):
        load(copy)


def test_a_folder_that_is_there_is_not_overwritten_unless_told(tiny_model, copy):
    with pytest.raises(RunError, match="already exists"):
        save(tiny_model, copy)
    save(replace(tiny_model, facts={"seed": 99}), copy, overwrite=True)
    assert load(copy).facts["seed"] == 99


def test_a_recipe_from_another_version_is_a_run_error_that_names_both(tiny_model, tmp_path, monkeypatch):
    save(tiny_model, tmp_path / "run")
    monkeypatch.setattr("genevae.runs.trained.recipe_in", lambda path: {}[path])
    with pytest.raises(RunError, match=r"cannot be opened: .*written by genevae .*--config \S+config\.toml"):
        load(tmp_path / "run")


@pytest.mark.parametrize("names", [["NA", "nan", "1", "007"], ["a,b", 'quo"te', "ä", "x y"]])
def test_cell_names_survive(names, adata, tmp_path):
    few = adata[:4].copy()
    few.obs_names = names
    save(fit(few, epochs=1, n_latent=2, hidden=[4], validation=0.25, progress=False), tmp_path / "run")
    assert load(tmp_path / "run").split.index.tolist() == names


@pytest.mark.parametrize(("limit", "least", "expected"), [(10**6, 1, 20), (30, 1, 10), (30, 12, 12), (1, 1, 1)])
def test_the_work_of_calibration_is_bounded(make_adata, monkeypatch, limit, least, expected):
    scored = []

    def counted(model, cells, field, codes, generator):
        scored.append((cells.n_cells, len(codes)))
        return bounds_nc(model, cells, field, codes, generator)

    for name, value in (("bounds_nc", counted), ("MAX_EVALUATIONS", limit), ("LEAST_CELLS", least), ("MAX_CELLS", 6)):
        monkeypatch.setattr(reference, name, value)
    model = fit(make_adata(100), condition=["type"], validation=0.2, epochs=1, progress=False, device="cpu")
    assert sum(n for n, _ in scored) == expected
    assert {c for _, c in scored} == {3}
    assert model.calibration["type"].temperature > 0


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("nb", {"condition": ["drug", "experiment"], "setting": {"pool_nested": True}}),
        ("nb", {"condition": ["drug"], "combine": ["drug"], "continuous": ["dose"]}),
        ("dose", {"condition": ["drug"], "control": {"drug": "ctrl"}, "combine": ["drug"], "continuous": ["dose"]}),
        ("convolutional-nb", {"condition": ["drug"], "combine": ["drug"]}),
        ("cycle", {"condition": ["drug"], "setting": {"shared_networks": True}}),
        ("cycle", {"condition": ["drug"], "setting": {"head_scaling": "constant"}}),
        ("contrastive", {"group": "lane", "view": "drug"}),
        ("adversarial", {"batch": "lane", "setting": {"prior": "conditional", "size": "learned"}}),
    ],
    ids=str,
)
def test_every_part_is_restored(make_adata, tmp_path, recipe, options):
    adata = make_adata(60)
    adata.obs["experiment"] = adata.obs["drug"].astype(str) + np.where(np.arange(60) % 2, "1", "2")
    model = fit(adata, recipe=recipe, epochs=1, progress=False, device="cpu", **options)
    save(model, tmp_path / "run")
    expected, found = (embed(each, adata).obsm["X_genevae"] for each in (model, load(tmp_path / "run")))
    np.testing.assert_array_equal(expected, found)
