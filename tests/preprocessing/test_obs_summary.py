"""Which fields are of use, and their values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.data.schema import Categorical
from genevae.preprocessing.obs_summary import field_specifications


@pytest.fixture
def obs() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "type": pd.Categorical(["T", "B", "T", "B", None, "T"], categories=["T", "B", "unseen"]),
            "barcode": [f"AAC{n}" for n in range(6)],
            "species": ["human"] * 6,
            "doublet": [True, False] * 3,
            "kept": pd.array([True, False, None, True, True, True], dtype="boolean"),
            "tissue": pd.array(["lung", "liver", None, "lung", "lung", "liver"], dtype="string"),
            "dose": [0.0, 1.0, np.nan, 2.0, 3.0, 4.0],
            "plate": [7] * 6,
            "day": pd.to_datetime(["2020-01-01", "2020-01-02"] * 3),
            "empty": [None] * 6,
        }
    )


def test_each_field_has_its_row(obs) -> None:
    table = field_specifications(obs).set_index("field")
    assert list(table.index) == list(obs.columns)
    assert table["cardinality"].to_dict() == {
        "type": 2, "barcode": 6, "species": 1, "doublet": 2, "kept": 2, "tissue": 2, "dose": 5, "plate": 1, "day": 2,
        "empty": 0,
    }  # fmt: skip
    assert table["kind"].to_dict() == {
        **dict.fromkeys(obs.columns, "categorical"),
        "dose": "numeric",
        "plate": "numeric",
        "day": str(obs["day"].dtype),
    }
    assert set(table.index[table["using"]]) == {"type", "doublet", "kept", "tissue", "dose"}
    assert table.loc["type", "non_null_fraction"] == pytest.approx(5 / 6)
    assert table.loc["empty", "non_null_fraction"] == 0


def test_a_table_without_cells_or_fields_has_none_of_use() -> None:
    assert field_specifications(pd.DataFrame()).empty
    none = field_specifications(pd.DataFrame({"type": pd.Series([], dtype=object)}))
    assert none.to_dict("records") == [
        {"field": "type", "kind": "categorical", "cardinality": 0, "using": False, "non_null_fraction": 0.0}
    ]


@given(st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=20))
def test_a_field_has_as_many_values_as_a_schema_has_categories(values) -> None:
    obs = pd.DataFrame({"type": values})
    row = field_specifications(obs).iloc[0]
    assert row["cardinality"] == len(Categorical.fit(obs["type"]).categories)
    assert row["using"] == (2 <= len(set(values)) <= len(values) / 2)


def test_fields_of_one_name_are_told_apart() -> None:
    obs = pd.DataFrame([["a", 1], ["b", 1], ["a", 1], ["b", 1]], columns=["x", "x"])
    assert list(field_specifications(obs)["using"]) == [True, False]
