"""What a run keeps to predict labels."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from tests.runs.test_foreign_folders import edited, seal

import genevae as gv
from genevae.errors import RunError
from genevae.runs.labels import LABEL_NAMES, LABELS


def test_an_opened_run_predicts_the_same_labels_to_the_bit(tiny_model, saved, adata):
    one, other = (gv.classify(model, adata, field="type") for model in (tiny_model, gv.load(saved)))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_run_of_an_earlier_version_has_no_label_models(run, tiny_model, adata):
    for name in (LABELS, LABEL_NAMES):
        (run / name).unlink()
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["sha256"] = {name: each for name, each in manifest["sha256"].items() if name not in {LABELS, LABEL_NAMES}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    seal(run)
    opened = gv.load(run)
    assert opened.labels is None
    posterior = gv.classify(tiny_model, adata, field="type", method="posterior")
    pd.testing.assert_frame_equal(gv.classify(opened, adata, field="type"), posterior)


@pytest.mark.parametrize("change", [lambda _: [], lambda _: {"type": ["A", "B"]}, lambda _: {"other": ["A", "B", "C"]}])
def test_labels_that_do_not_fit_the_model_are_an_error(run, change):
    edited(LABEL_NAMES, change)(run)
    seal(run)
    with pytest.raises(RunError, match=r"cannot be opened.*train again"):
        gv.load(run)


def test_damaged_numbers_are_an_error_that_names_the_file(run):
    arrays = load_file(run / LABELS)
    arrays["field0/weight_m"] = -arrays["field0/weight_m"]
    save_file(arrays, run / LABELS)
    seal(run)
    with pytest.raises(RunError, match=f"{LABELS} is not valid"):
        gv.load(run)


def test_neither_few_cells_nor_one_label_have_a_label_model(make_adata):
    words = {"condition": ["type"], "epochs": 1, "hidden": (4,), "n_latent": 2, "progress": False, "device": "cpu"}
    assert gv.fit(make_adata(15), **words).labels is None
    cells = make_adata(60)
    assert gv.fit(cells[(cells.obs["type"] == "A").to_numpy()].copy(), **words).labels is None
