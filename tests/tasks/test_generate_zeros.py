"""Gaussian recipes generate log-normalised cells without negative values, with the zeros of the training cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

import genevae as gv
from genevae.models.reference import Hurdle

SMALL = {"batch_size": 32, "n_latent": 3, "hidden": (16,), "epochs": 8, "progress": False, "device": "cpu"}


@settings(max_examples=30)
@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 99))
def test_a_hurdle_has_the_share_of_zeros_and_the_mean_of_the_others(n_zero, n_positive, seed):
    rng = np.random.default_rng(seed)
    n = n_zero + n_positive
    x = torch.from_numpy(rng.normal(0, 1, (n, 1))).float()
    hurdle = Hurdle.fit(x, torch.tensor([n_zero / n]), torch.tensor([10.0]))
    found = hurdle.apply(x)
    assert int((found == 0).sum()) == n_zero
    assert float(found[found > 0].mean()) == pytest.approx(10, rel=1e-4)
    order = x.flatten().argsort()
    assert (found.flatten()[order].diff() >= 0).all(), "larger samples stay larger"


def dense(x):
    return x.toarray() if hasattr(x, "toarray") else np.asarray(x)


@pytest.mark.parametrize("recipe", ["gaussian", "conditional", "bulk"])
def test_generated_cells_have_the_zeros_of_the_training_cells(recipe, make_adata, tmp_path):
    adata = make_adata(300)
    counts = dense(adata.X)
    adata.X = np.log1p(counts * (100 / np.maximum(counts.sum(1, keepdims=True), 1))).astype(np.float32)
    adata = AnnData(np.hstack([adata.X, np.zeros((300, 1), np.float32)]), adata.obs)
    settings = {"setting": {"patience": 0}} if recipe == "bulk" else {}
    model = gv.fit(adata, recipe, condition=["type"], out=tmp_path / "run", **settings, **SMALL)
    own = {"latent": "aggregate"}  # the model's own values
    new = gv.generate(model, n=200, **own)
    x, data = dense(new.X), adata.X
    assert (x >= 0).all()
    assert (x[:, -1] == 0).all(), "a gene without expression has none"
    assert np.abs((x == 0).mean(0) - (data == 0).mean(0)).max() < 0.12, "600 cells differ by chance"
    assert np.abs(x.mean(0) - data.mean(0)).max() < 0.25 * data.std(0).max()
    assert np.array_equal(dense(gv.generate(gv.load(tmp_path / "run"), n=200, **own).X), x)
    assert (dense(gv.generate(model, n=50, mean=True).X) >= 0).all()
    former = replace(model, reference=replace(model.reference, hurdle=None))  # a run of an earlier version
    uncut = dense(gv.generate(former, n=200, **own).X)
    assert (uncut >= 0).all()
    assert (
        np.abs((x == 0).mean(0) - (data == 0).mean(0)).sum() < np.abs((uncut == 0).mean(0) - (data == 0).mean(0)).sum()
    )


def test_standardised_data_and_counts_keep_their_values(make_adata):
    adata = make_adata(120)
    assert gv.fit(adata, "nb", **SMALL).reference.hurdle is None
    x = dense(adata.X)
    scaled = AnnData(((x - x.mean(0)) / x.std(0)).astype(np.float32), adata.obs)
    model = gv.fit(scaled, "gaussian", **SMALL)
    assert model.reference.hurdle is None
    assert (dense(gv.generate(model, n=50).X) < 0).any()
