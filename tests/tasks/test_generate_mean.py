"""Generation without the noise of expression."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import genevae as gv
from genevae.cli import main


@pytest.mark.parametrize(("recipe", "epochs"), [("nb", 5), ("gaussian", 150)])
def test_means_have_the_same_mean_and_less_variance_than_samples(make_adata, recipe, epochs):
    options = {"condition": ["type"], "epochs": epochs, "progress": False, "device": "cpu", "validation": 0}
    model = gv.fit(make_adata(120), recipe, **options)
    sampled, mean = (gv.generate(model, n=3000, condition={"type": "A"}, mean=m) for m in (False, True))
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
