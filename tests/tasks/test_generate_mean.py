"""Generation without the noise of expression, and within the counts of training."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse

import genevae as gv
from genevae.cli import main


@pytest.mark.parametrize(("recipe", "epochs"), [("poisson", 5), ("gaussian", 150)])
def test_means_have_the_same_mean_and_less_variance_than_samples(make_adata, recipe, epochs):
    options = {"condition": ["type"], "epochs": epochs, "progress": False, "device": "cpu", "validation": 0}
    model = gv.fit(make_adata(120), recipe, **options)
    sampled, mean = (gv.generate(model, n=3000, condition={"type": "A"}, mean=m, copula=False) for m in (False, True))
    x_ng, mean_ng = sampled.to_df().to_numpy(), mean.to_df().to_numpy()
    off_g = np.abs(x_ng.mean(0) - mean_ng.mean(0))
    if recipe == "nb":
        assert (off_g < 6 * x_ng.std(0) / np.sqrt(3000)).all()
    else:  # the zeros of Gaussian samples are those of all types
        assert off_g.mean() < 0.1 * x_ng.mean()
    assert (mean_ng.var(0) < x_ng.var(0)).all()
    assert not np.array_equal(mean_ng[0], mean_ng[1]), "cells still differ by their latent"
    assert mean.obs.equals(sampled.obs)


def test_the_command_writes_means(make_adata, tmp_path):
    make_adata(60).write_h5ad(tmp_path / "cells.h5ad")
    run, out = str(tmp_path / "run"), tmp_path / "mean.h5ad"
    main(["fit", str(tmp_path / "cells.h5ad"), "--epochs", "1", "--out", run])
    main(["generate", run, "--n", "10", "--mean", "--out", str(out)])
    x_ng = ad.read_h5ad(out).to_df().to_numpy()
    assert (x_ng > 0).all()
    assert (x_ng % 1 != 0).any()


@pytest.fixture(scope="module")
def heavy(make_adata):
    """A model whose inverse dispersion is far too small."""
    model = gv.fit(make_adata(120), condition=["type"], epochs=1, progress=False, device="cpu")
    with torch.no_grad():
        for name, parameter in model.module.named_parameters():
            if name.endswith("log_theta_tenth_g"):
                parameter.fill_(-0.5)
    return model


@pytest.mark.parametrize("latent", ["aggregate", "prior", "mixture"])
def test_counts_of_heavy_tails_are_bounded_by_those_of_training(heavy, tmp_path, latent):
    gv.save(heavy, tmp_path / "run")
    limits = heavy.reference.limits
    without = replace(heavy, reference=replace(heavy.reference, limits=None))
    highest_g = (2 * limits.highest_g).clamp(max=1.5 * limits.highest_g.max()).numpy()
    assert (dense(gv.generate(without, n=500, latent=latent, copula=False)) > highest_g).any()
    for model in (heavy, gv.load(tmp_path / "run")):
        made = gv.generate(model, n=500, latent=latent, copula=False)
        x_ng = dense(made)
        assert (x_ng <= highest_g).all()
        assert (x_ng == x_ng.round()).all()
        assert "twice the largest" in made.uns["genevae"]["note"]
    large = dense(gv.generate(heavy, n=500, size=20 * float(limits.size_range[1])))
    assert (large > highest_g).any()
    assert (large <= 20 * highest_g + 1).all()


def test_sizes_of_new_cells_are_those_of_training(heavy):
    reference = heavy.reference
    low, high = reference.limits.size_range.tolist()
    wild = replace(reference, condition=reference.condition.with_size(reference.condition.size_n1 * 1e4))
    made = gv.generate(replace(heavy, reference=wild), n=50)
    assert made.obs["size"].between(low, high).all()


def dense(adata):
    return adata.X.toarray() if sparse.issparse(adata.X) else adata.X
