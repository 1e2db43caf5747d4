"""The schema: covariates to codes and back, and errors that name what is wrong."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from genevae.data.schema import Categorical, Continuous, Schema
from genevae.data.transforms.transform import LogNormalise
from genevae.data.value_kind import Kind
from genevae.errors import CategoryError, DataError

LABELS = st.lists(st.text(min_size=1, max_size=5).filter(str.strip), min_size=1, max_size=20)


@pytest.fixture
def obs() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "type": pd.Categorical(["T", "B", "T", "NK"]),
            "drug": ["ctrl", "stim", "ctrl", "stim"],
            "lane": [1, 2, 1, 2],
            "dose": [0.0, 1.0, 2.0, 5.0],
        },
        index=list("wxyz"),
    )


@pytest.fixture
def schema(obs) -> Schema:
    return Schema.fit(["G1", "G2"], obs, Kind.COUNTS, condition=["type", "drug"], continuous=["dose"], batch="lane",
                      control={"drug": "ctrl"})  # fmt: skip


def test_a_schema_knows_its_fields(schema):
    assert schema.fields == ("type", "drug", "lane", "dose")
    assert schema.n_categories == {"type": 3, "drug": 2, "lane": 2}
    assert schema.batch == "lane"
    assert schema["drug"].control == "ctrl"
    assert schema["lane"].technical
    assert not schema["type"].technical


def test_codes_are_places_in_the_sorted_categories(schema, obs):
    condition = schema.encode(obs)
    assert schema["type"].categories == ("B", "NK", "T")
    assert condition.codes["type"].tolist() == [2, 0, 2, 1]
    assert condition.codes["lane"].tolist() == [0, 1, 0, 1]
    assert condition.codes["type"].dtype == torch.int64
    assert condition.size_n1.shape == (4, 1)


@given(LABELS)
def test_decoding_a_code_gives_the_category(labels):
    column = pd.Series(labels, name="f", dtype=object)
    field = Categorical.fit(column)
    codes = field.encode(column)
    assert [field.categories[code] for code in codes.tolist()] == labels
    assert [field.code(label) for label in labels] == codes.tolist()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_a_continuous_field_is_standardised(numbers):
    column = pd.Series(numbers, name="dose")
    field = Continuous.fit(column)
    value_n = field.encode(column).double().numpy()
    np.testing.assert_allclose(value_n * field.scale + field.mean, numbers, rtol=1e-4, atol=1e-4 * field.scale + 1e-9)
    assert (field.minimum, field.maximum) == (min(numbers), max(numbers))
    assert abs(value_n.mean()) < 1e-3
    assert field.value(numbers[0]) == pytest.approx(value_n[0], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("level", [0.0, 3.0, 699050.8122895092], ids=str)
def test_a_constant_field_is_zero_and_keeps_its_unit(level):
    field = Continuous.fit(pd.Series([level] * 3, name="dose"))
    assert field.encode(pd.Series([level, level + 1])).tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


def test_a_schema_survives_json(schema):
    schema = schema.with_transform(LogNormalise(1e5))
    again = Schema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again == schema


def test_unseen_categories_are_named_with_the_number_of_cells(schema, obs):
    other = obs.assign(type=["T", "mono", "mono", "pDC"])
    with pytest.raises(
        CategoryError, match=r"'type' has 2 categories .* are not in this model: mono, pDC \(in 3 cells\).*B, NK, T"
    ):
        schema.encode(other)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, "", "  "])
def test_missing_values_are_an_error_that_counts_them(schema, obs, missing):
    other = obs.assign(drug=pd.Series(["ctrl", missing, missing, "stim"], index=obs.index, dtype=object))
    with pytest.raises(CategoryError, match="'drug' is empty in 2 of 4 cells"):
        schema.encode(other)
    with pytest.raises(CategoryError, match="'drug' is empty in 2 of 4 cells"):
        Schema.fit([], other, Kind.COUNTS, condition=["drug"])


def test_messages_name_code_that_keeps_the_other_cells(schema, obs):
    adata = AnnData(obs=obs)
    for changed in (["ctrl", None, "", "stim"], ["ctrl", None, None, "stim"], ["ctrl", "new", "other", "stim"]):
        for kind in (object, "category"):
            adata.obs["drug"] = pd.Series(changed, index=obs.index, dtype=object).astype(kind)
            with pytest.raises(CategoryError) as raised:
                schema.encode(adata.obs)
            code = re.search(r"adata\[.*?\](?=[.] )", str(raised.value))[0]
            schema.encode(eval(code, {"adata": adata}).obs)  # noqa: S307 - the code is ours


@pytest.mark.parametrize("wrong", [np.nan, np.inf, "much"])
def test_a_continuous_value_that_is_no_number_is_an_error_that_names_it(schema, obs, wrong):
    other = obs.assign(dose=pd.Series([0.0, wrong, 1.0, 2.0], index=obs.index, dtype=object))
    with pytest.raises(DataError, match=rf"'dose' should contain numbers, but 1 of 4 values are not: {wrong}"):
        schema.encode(other)


@pytest.mark.parametrize("given_value", ["much", "nan", np.inf, None])
def test_a_single_value_that_is_no_number_is_an_error(schema, given_value):
    with pytest.raises(DataError, match=f"'dose' must be a number, not '{given_value}'"):
        schema["dose"].value(given_value)


def test_a_control_must_be_a_level_of_a_condition(obs):
    with pytest.raises(CategoryError, match=r"'ctr' is not a category of 'drug'.*Did you mean 'ctrl'"):
        Schema.fit([], obs, Kind.COUNTS, condition=["drug"], control={"drug": "ctr"})
    with pytest.raises(CategoryError, match="not a condition"):
        Schema.fit([], obs, Kind.COUNTS, condition=["type"], control={"drug": "ctrl"})


def test_an_unknown_column_or_field_is_answered_with_the_nearest(schema, obs):
    with pytest.raises(CategoryError, match="Did you mean 'type'"):
        Schema.fit([], obs, Kind.COUNTS, condition=["tpye"])
    with pytest.raises(CategoryError, match="no obs column 'drug'"):
        schema.encode(obs.drop(columns="drug"))
    with pytest.raises(CategoryError, match="Did you mean 'drug'"):
        schema["durg"]
    with pytest.raises(CategoryError, match="continuous"):
        schema.categorical_field("dose")


def test_a_filled_field_may_be_missing_or_unseen(schema, obs):
    for other in (obs.drop(columns="type"), obs.assign(type="mono")):
        condition = schema.encode(other, fill=["type"])
        assert condition.codes["type"].tolist() == [0, 0, 0, 0]
        assert condition.codes["drug"].tolist() == [0, 1, 0, 1]


def test_the_batch_may_also_be_a_condition(obs):
    schema = Schema.fit([], obs, Kind.COUNTS, condition=["lane", "type"], batch="lane")
    assert schema.fields == ("lane", "type")
    assert schema.batch == "lane"


def test_encoding_does_not_change_the_table(schema, obs):
    before = obs.copy()
    schema.encode(obs)
    pd.testing.assert_frame_equal(obs, before)


def test_other_genes_leave_the_rest(schema):
    other = schema.with_genes(["G9"])
    assert other.genes == ("G9",)
    assert other.fields == schema.fields


# --- what may be unknown, and combinations ----------------------------------------------------------------------------


def test_an_unknown_category_has_a_code_of_its_own_where_it_is_allowed():
    column = pd.Series(["b", None, "a", "c"], name="type")
    field = Categorical.fit(column.iloc[[0, 2]], unknown=True)
    assert field.encode(column).tolist() == [1, 2, 0, 2]
    assert (field.n_codes, field.labels) == (3, ("a", "b", "unknown"))
    strict = Categorical.fit(column.iloc[[0, 2]])
    with pytest.raises(CategoryError):
        strict.encode(column)


def test_a_table_may_lack_a_column_that_may_be_unknown():
    obs = pd.DataFrame({"type": ["a", "b"], "drug": ["x", "y"]})
    schema = Schema.fit(("g",), obs, Kind.COUNTS, condition=["type", "drug"], unknown=True)
    assert schema.encode(obs[["drug"]]).codes["type"].tolist() == [2, 2]
    assert schema.unknown == {"type": 2, "drug": 2}
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


def test_combinations_are_sums_of_their_parts_also_those_that_no_cell_has():
    field = Categorical.fit(pd.Series(["ctrl", "A", "B", "C+A"], name="drug"), control="ctrl", combined=True)
    assert field.categories == ("A", "A+B", "B", "B+C", "C", "C+A", "ctrl")
    words = {
        label: {field.labels[code] for code in codes} for label, codes in zip(field.labels, field.parts, strict=True)
    }
    assert words["A+B"] == {"A", "B"}
    assert words["C+A"] == {"C", "A"}
    assert words["ctrl"] == {"ctrl"}


def test_a_group_is_encoded_and_is_no_condition():
    obs = pd.DataFrame({"type": ["a", "b"], "donor": ["d1", "d2"]})
    schema = Schema.fit(("g",), obs, Kind.COUNTS, condition=["type"], group="donor")
    assert schema.fields == ("type",)
    assert schema.encode(obs).codes["donor"].tolist() == [0, 1]
    assert schema.encode(obs[["type"]]).codes["donor"].tolist() == [2, 2]
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
