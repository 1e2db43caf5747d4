"""Predicted and true labels, as tables and as arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import genevae as gv
from genevae.cli import main


def test_classify_writes_predicted_and_true_labels(make_adata, tmp_path):
    adata = make_adata(80)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    adata.obs["type"] = adata.obs["type"].astype(object)
    adata.obs.iloc[3, adata.obs.columns.get_loc("type")] = np.nan
    adata.write_h5ad(tmp_path / "new.h5ad")
    del adata.obs["type"]
    adata.write_h5ad(tmp_path / "unlabelled.h5ad")
    run = str(tmp_path / "run")
    main(["fit", str(tmp_path / "cells.h5ad"), "--condition", "type", "--epochs", "3", "--out", run])
    for name in ("new", "unlabelled"):
        for suffix in ("csv", "npy"):
            out = str(tmp_path / f"{name}.{suffix}")
            main(["classify", run, str(tmp_path / f"{name}.h5ad"), "--field", "type", "--out", out])
    table, labels = pd.read_csv(tmp_path / "new.csv"), np.load(tmp_path / "new.npy")
    assert labels.shape == (80, 2)
    assert (labels[:, 0] == table["label"]).all()
    assert labels[3, 1] == ""
    assert table["true"].isna().sum() == 1
    assert (labels[:, 1] == table["true"].fillna("")).all()
    assert "true" not in pd.read_csv(tmp_path / "unlabelled.csv")
    assert (np.load(tmp_path / "unlabelled.npy")[:, 1] == "").all()
    told = gv.classify(gv.load(run), tmp_path / "new.h5ad", field="type")
    assert list(told.columns) == list(table.columns[1:])
    assert told["true"].fillna("").tolist() == table["true"].fillna("").tolist()
    assert "true" not in gv.classify(gv.load(run), tmp_path / "unlabelled.h5ad", field="type", method="reconstruction")
    with pytest.raises(SystemExit):
        main(["classify", run, str(tmp_path / "new.h5ad"), "--field", "type", "--out", str(tmp_path / "new.npy")])
