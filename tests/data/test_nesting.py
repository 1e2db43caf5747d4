"""Conditions that are nested in others: found, named, and pooled."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from genevae.cli import main
from genevae.data.schema import Schema, fit_covariates
from genevae.data.value_kind import Kind
from genevae.nn.conditioning import Deviations
from genevae.runs.fit import fit


def nested(obs: dict[str, list[str]], **options) -> list[tuple[str, str]]:
    covariates = fit_covariates(pd.DataFrame(obs), condition=list(obs), **options)
    return [(each.inner, each.outer) for each in covariates["nested"]]


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        (["1", "2", "3", "3"], [("experiment", "drug")]),
        (["1", "1", "3", "3"], []),
        (["1", "2", "1", "2"], []),
        (["1", "1", "1", "1"], []),
        (["1", "2", "3", "1"], []),
    ],
    ids=["nested", "the same field twice", "crossed", "one category", "one category in both"],
)
def test_a_field_is_nested_where_each_of_its_categories_has_one_of_another(experiment, expected):
    assert nested({"drug": ["a", "a", "b", "b"], "experiment": experiment}) == expected


def test_cells_whose_category_is_unknown_do_not_count():
    obs = {"drug": ["a", "a", "b", None], "experiment": ["1", "2", "3", "1"]}
    assert nested(obs, unknown=True) == [("experiment", "drug")]


def test_a_schema_keeps_what_is_nested():
    obs = pd.DataFrame({"drug": list("aabb"), "experiment": list("1233")})
    schema = Schema.fit(["G"], obs, Kind.COUNTS, condition=["drug", "experiment"])
    assert schema.nested[0].outer_c == (0, 0, 1)
    assert Schema.from_json(schema.to_json()) == schema
    assert Schema.from_json({k: v for k, v in schema.to_json().items() if k != "nested"}).nested == ()


def test_deviations_have_mean_zero_within_every_outer_category_of_every_field():
    torch.manual_seed(0)
    outer = [(0, 0, 1, 1, 1, 2), (0, 1, 0, 1, 1, 2)]
    table = Deviations(outer, 7, 4)
    e_cw = table(torch.arange(7))
    for outer_c in outer:
        for code in set(outer_c):
            mean_w = e_cw[:6][torch.tensor(outer_c) == code].mean(0)
            torch.testing.assert_close(mean_w, torch.zeros(4), atol=1e-5, rtol=0)
    assert (e_cw[5:].abs() < 1e-5).all(), "alone in its outer category, and unknown"
    assert (e_cw[:5].norm(dim=-1) > 0.01).any()


def test_fit_and_effect_name_what_is_nested_until_it_is_pooled(make_adata, tmp_path, capsys):
    adata = make_adata(60)
    lane = np.where(np.arange(60) % 2, "l1", "l2")
    adata.obs["experiment"] = adata.obs["drug"].astype(str) + lane
    adata.write_h5ad(tmp_path / "cells.h5ad")
    fields = ["--condition", "drug", "--condition", "experiment", "--control", "drug=ctrl"]
    for name, extra in (("free", []), ("pooled", ["--setting", "pool_nested=true"])):
        run = str(tmp_path / name)
        main(["fit", str(tmp_path / "cells.h5ad"), *fields, "--epochs", "2", *extra, "--out", run])
        assert ("'experiment' is nested in 'drug'" in capsys.readouterr().out) == (name == "free")
        table = str(tmp_path / f"{name}.csv")
        main(["effect", run, str(tmp_path / "cells.h5ad"), "--field", "drug", "--n-draws", "2", "--out", table])
        assert ("'experiment' is nested in 'drug'" in capsys.readouterr().out) == (name == "free")


def test_a_pooled_fit_is_that_of_other_conditions_where_nothing_is_nested(adata):
    options = {"condition": ["type", "lane"], "epochs": 1, "progress": False, "device": "cpu"}
    one, other = (fit(adata, **options, setting={"pool_nested": pool}) for pool in (False, True))
    assert one.history["train_loss"].equals(other.history["train_loss"])
