"""The files for cell-eval: what it checks of a pair of files, and predictions that are those of counterfactual."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import genevae as gv
from genevae.cli import main
from genevae.errors import CategoryError


def test_both_files_fit_each_other(tiny_model: Any, make_adata: Any, tmp_path: Path, capsys: Any) -> None:
    cells = make_adata(60, seed=5)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    gv.save(tiny_model, tmp_path / "run")
    given = [str(tmp_path / name) for name in ("run", "cells.h5ad")]
    out = tmp_path / "scored"
    main(["counterfactual", *given, "--set", "drug", "--for", "cell-eval", "--out", str(out)])
    assert "--pert-col drug --control-pert ctrl" in capsys.readouterr().out
    predicted, real = gv.read(out / "predicted.h5ad"), gv.read(out / "real.h5ad")
    assert list(predicted.var_names) == list(real.var_names) == list(cells.var_names)
    assert set(predicted.obs["drug"]) == set(real.obs["drug"]) == {"ctrl", "stim"}
    assert predicted.obs_names.is_unique
    for each in (predicted, real):  # each cell has 10,000 counts before the logarithm
        np.testing.assert_allclose(np.expm1(each.X.toarray().astype(np.float64)).sum(1), 1e4, rtol=1e-4)

    controls = cells[cells.obs["drug"] == "ctrl"]
    alone = gv.counterfactual(tiny_model, controls, {"drug": "stim"}, n_draws=1)
    x = np.asarray(alone.X.toarray() if hasattr(alone.X, "toarray") else alone.X)
    found = predicted[predicted.obs["drug"] == "stim"].X.toarray()
    np.testing.assert_allclose(found, np.log1p(1e4 * x / x.sum(1, keepdims=True)), rtol=1e-4, atol=1e-5)
    measured = real[real.obs["drug"] == "ctrl"].X.toarray()
    np.testing.assert_array_equal(predicted[predicted.obs["drug"] == "ctrl"].X.toarray(), measured)


def test_mistakes_are_answered(tiny_model: Any, make_adata: Any, tmp_path: Path) -> None:
    cells, out = make_adata(60, seed=5), tmp_path / "out"
    with pytest.raises(CategoryError, match="'type' has no control"):
        gv.for_cell_eval(tiny_model, cells, "type", out=out)
    with pytest.raises(CategoryError, match=r"No cell has 'drug' = 'stin' .* Did you mean 'stim'"):
        gv.for_cell_eval(tiny_model, cells, "drug", targets="stin", out=out)
    assert list(tmp_path.iterdir()) == []
