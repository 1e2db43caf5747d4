"""Conditions that are nested in others: found, named, and pooled."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from genevae.cli import main
from genevae.data.nesting import Nesting, one_way
from genevae.data.schema import Schema, fit_covariates
from genevae.data.value_kind import Kind
from genevae.errors import GenevaeWarning
from genevae.nn.conditioning import Deviations
from genevae.runs.fit import fit
from genevae.tasks.condition import TargetCondition, parse_condition


def nested(obs: dict[str, list[str]], **options) -> list[tuple[str, str]]:
    covariates = fit_covariates(pd.DataFrame(obs), condition=list(obs), **options)
    return [(each.inner, each.outer) for each in covariates["nested"]]


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        (["1", "2", "3", "3"], [("experiment", "drug")]),
        (["1", "1", "3", "3"], [("drug", "experiment"), ("experiment", "drug")]),
        (["1", "2", "1", "2"], []),
        (["1", "1", "1", "1"], []),
        (["1", "2", "3", "1"], []),
    ],
    ids=["nested", "one to one", "crossed", "one category", "one category in both"],
)
def test_a_field_is_nested_where_each_of_its_categories_has_one_of_another(experiment, expected):
    assert nested({"drug": ["a", "a", "b", "b"], "experiment": experiment}) == expected


def test_a_few_cells_with_a_wrong_label_change_nothing():
    obs = {"drug": ["a", "b"] * 200, "experiment": [f"{drug}{i % 3}" for i, drug in enumerate(["a", "b"] * 200)]}
    assert nested(obs) == [("experiment", "drug")]
    obs["experiment"][0] = "b1"
    assert nested(obs) == [("experiment", "drug")]
    obs["experiment"][:40] = ["b1"] * 40
    assert nested(obs) == []


@pytest.mark.parametrize(("wrong", "expected"), [(0.005, [("experiment", "drug")]), (0.05, [])])
def test_a_field_is_nested_where_nearly_all_cells_are(wrong, expected):
    drugs = ["a", "b"] * 500
    experiments = [f"{drug}{i % 3}" for i, drug in enumerate(drugs)]
    for i in range(0, 1000, round(1 / wrong)):  # at most a tenth of any experiment
        experiments[i] = f"b{i % 3}"
    assert nested({"drug": drugs, "experiment": experiments}) == expected


def test_fields_of_many_categories_need_no_table_of_all_pairs():
    guides = [f"guide {i}" for i in range(40_000)]
    obs = {"gene": [f"gene {i // 2}" for i in range(40_000)], "guide": guides}  # a table of pairs has 6.4 GB
    assert nested(obs) == [("guide", "gene")]


def test_of_two_fields_that_are_nested_in_each_other_one_is_named():
    fields = [Nesting("x", "y", (0, 1)), Nesting("y", "x", (0, 1)), Nesting("z", "y", (0, 1, 1))]
    assert one_way(fields) == (fields[0], fields[2])


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


def test_fit_and_effect_name_what_is_nested(make_adata, tmp_path, capsys):
    adata = make_adata(60)
    lane = np.where(np.arange(60) % 2, "l1", "l2")
    adata.obs["experiment"] = adata.obs["drug"].astype(str) + lane
    adata.write_h5ad(tmp_path / "cells.h5ad")
    fields = ["--condition", "drug", "--condition", "experiment", "--control", "drug=ctrl"]
    for name, extra in (("free", []), ("pooled", ["--setting", "pool_nested=true"])):
        run = str(tmp_path / name)
        main(["fit", str(tmp_path / "cells.h5ad"), *fields, "--epochs", "2", *extra, "--out", run])
        assert "'experiment' is nested in 'drug'" in capsys.readouterr().out
        table = tmp_path / f"{name}.csv"
        main(["effect", run, str(tmp_path / "cells.h5ad"), "--field", "drug", "--out", str(table)])
        assert "'experiment' is nested in 'drug'" in capsys.readouterr().out
        assert "experiment" not in pd.read_csv(table), "it does not define groups"


def test_a_pooled_fit_is_that_of_other_conditions_where_nothing_is_nested(adata):
    options = {"condition": ["type", "lane"], "epochs": 1, "progress": False, "device": "cpu"}
    one, other = (fit(adata, **options, setting={"pool_nested": pool}) for pool in (False, True))
    assert one.history["train_loss"].equals(other.history["train_loss"])


def a_target(obs: dict[str, list[str]], to: dict[str, str]) -> tuple[Schema, dict[str, list[str]]]:
    """Return the schema of a table, and the categories of its rows in a target."""
    table = pd.DataFrame(obs)
    schema = Schema.fit(["G"], table, Kind.COUNTS, condition=list(obs))
    codes = parse_condition(schema, to).apply(schema.encode(table)).codes
    return schema, {name: [schema[name].categories[code] for code in codes[name].tolist()] for name in obs}


def test_nested_categories_are_those_that_occur_with_the_target():
    obs = {"drug": list("aabb") * 10, "experiment": ["1", "2", "3", "4"] * 10}
    _, target = a_target(obs, {"drug": "b"})
    assert set(target["drug"]) == {"b"}
    assert target["experiment"][2:4] == ["3", "4"], "cells of the target keep theirs"
    moved = [each for i, each in enumerate(target["experiment"]) if obs["drug"][i] == "a"]
    assert set(moved) == {"3", "4"}
    assert 6 <= moved.count("3") <= 14
    assert a_target(obs, {"drug": "b", "experiment": "3"})[1]["experiment"] == ["3"] * 40, "unless they are set"


def test_nested_categories_fit_the_other_covariates_where_they_can():
    obs = {"drug": list("ab") * 6, "donor": ["x", "x", "y", "y", "z", "z"] * 2}
    obs["experiment"] = [drug + donor for drug, donor in zip(obs["drug"], obs["donor"], strict=True)]
    schema, target = a_target(obs, {"drug": "b"})
    assert {(each.inner, each.outer) for each in schema.nested} == {("experiment", "drug"), ("experiment", "donor")}
    assert target["experiment"] == ["b" + donor for donor in obs["donor"]]


def test_a_target_without_nested_categories_keeps_what_cells_have():
    obs = {"drug": list("aab"), "experiment": ["1", "2", "3"]}
    table = pd.DataFrame(obs)
    nesting = Nesting("experiment", "drug", (0, 0, -1))
    schema = Schema.fit(["G"], table, Kind.COUNTS, condition=list(obs))
    codes = TargetCondition({"drug": 1}, {}, (nesting,)).apply(schema.encode(table)).codes
    assert codes["experiment"].tolist() == [0, 1, 2]


def test_a_pair_that_no_cell_can_have_is_a_warning():
    obs = pd.DataFrame({"drug": list("aabb"), "experiment": list("1234")})
    schema = Schema.fit(["G"], obs, Kind.COUNTS, condition=list(obs))
    parse_condition(schema, {"drug": "a", "experiment": "2"})
    with pytest.warns(GenevaeWarning, match="No training cell has 'drug' = 'b' and 'experiment' = '2'"):
        parse_condition(schema, {"drug": "b", "experiment": "2"})
