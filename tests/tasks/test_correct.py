"""Embeddings that are corrected for the technical batch: where by default, by option, and where not."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

import genevae as gv
from genevae.cli import main
from genevae.errors import GenevaeWarning, RunError


@pytest.fixture(scope="module")
def model(make_adata):
    """An adversarial model that may meet cells of an unknown batch."""
    return gv.fit(make_adata(120), recipe="adversarial", batch="lane", epochs=2, batch_size=32, n_latent=3, hidden=[8],
                  setting={"category_dropout": 0.1}, progress=False, device="cpu")  # fmt: skip


def z_of(model, adata, **options):
    return gv.embed(model, adata, **options).obsm["X_genevae"]


def test_a_recipe_that_integrates_corrects_unless_told_otherwise_and_others_if_they_are(model, tiny_model, adata):
    for each, by_default in ((model, True), (tiny_model, False)):
        corrected, plain = z_of(each, adata, correct=True), z_of(each, adata, correct=False)
        assert not np.array_equal(corrected, plain)
        np.testing.assert_array_equal(z_of(each, adata), corrected if by_default else plain)


def test_a_cell_is_corrected_by_itself_whether_it_was_trained_on_or_not(model, make_adata):
    new = make_adata(60)[30:]
    together = z_of(model, new)
    one_by_one = np.concatenate([z_of(model, new[row : row + 1].copy()) for row in range(3)])
    np.testing.assert_allclose(together[:3], one_by_one, rtol=1e-5, atol=1e-5)


def test_cells_of_an_unknown_batch_are_left_as_they_are_with_a_note(model, adata):
    some = adata.copy()
    lane = some.obs["lane"].astype(object)
    lane[:7] = None
    some.obs["lane"] = lane
    learned = "of an unknown one, which the model has learned"
    no_cell = "7 cells are of a lane that no training cell has"
    with pytest.warns(GenevaeWarning, match=no_cell), pytest.warns(GenevaeWarning, match=learned):
        found = z_of(model, some)
    with pytest.warns(GenevaeWarning, match=learned):
        np.testing.assert_array_equal(found[:7], z_of(model, some, correct=False)[:7])
    np.testing.assert_array_equal(found[7:], z_of(model, adata)[7:])


def test_the_folder_keeps_the_correction_and_the_command_applies_it(tiny_model, adata, tmp_path):
    gv.save(tiny_model, tmp_path / "run")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for option, correct in (("--correct", True), ("--no-correct", False)):
        out = tmp_path / f"{correct}.h5ad"
        main(["embed", str(tmp_path / "run"), str(tmp_path / "cells.h5ad"), "--out", str(out), option])
        expected = z_of(tiny_model, adata, correct=correct)
        np.testing.assert_allclose(ad.read_h5ad(out).obsm["X_genevae"], expected, rtol=1e-5, atol=1e-6)


def test_a_model_without_a_correction_says_so_and_runs_without(model, adata, tmp_path):
    earlier = replace(model, correction=None)
    with pytest.raises(RunError, match=r"cannot correct its latent for lane.*--correct"):
        gv.embed(earlier, adata, correct=True, out=tmp_path / "z.h5ad")
    assert not list(tmp_path.iterdir())
    np.testing.assert_array_equal(z_of(earlier, adata), z_of(model, adata, correct=False))


def test_one_batch_has_no_correction(make_adata):
    adata = make_adata(60)
    adata.obs["lane"] = "x"
    model = gv.fit(adata, batch="lane", epochs=1, n_latent=2, hidden=[4], progress=False, device="cpu")
    assert model.correction is None
