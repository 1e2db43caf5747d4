"""A column of categories has the names, codes and errors of the same values as text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genevae.data.covariates import Categorical, category_names, require_complete
from genevae.data.levels import by_level, levels_of
from genevae.errors import CategoryError

LEVELS = ["B", "A+B", "B+A", "1.0", "2", "", " ", "unknown"]


def in_two_forms(codes: list[int], levels: list[object]) -> tuple[pd.Series, pd.Series]:
    index = [f"c{i}" for i in range(len(codes))]
    as_categories = pd.Series(pd.Categorical.from_codes(codes, levels), index=index, name="field")
    return as_categories, as_categories.astype(object)


def outcome(function, column: pd.Series) -> object:
    try:
        found = function(column)
    except CategoryError as error:
        return str(error)
    return found if isinstance(found, Categorical | None) else list(found)


@given(
    st.lists(st.integers(-1, 7), max_size=40), st.sampled_from([LEVELS, list(range(8)), [i / 2 for i in range(8)]]),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_categories_are_read_as_their_values(codes, levels, unknown, combined) -> None:
    field = Categorical("field", ("1", "2", "A+B", "B", "0.5"), unknown=unknown, combined=combined)
    functions = {
        "encode": lambda column: field.encode(column).tolist(),
        "fit": lambda column: Categorical.fit(column, unknown=unknown, combined=combined),
        "names": category_names,
        "complete": require_complete,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genevae.data.covariates.warn", lambda _: None)  # numbers as categories of text are no numbers
        for name, function in functions.items():
            first, second = (outcome(function, column) for column in in_two_forms(codes, levels))
            assert first == second, name


def test_names_keep_the_index_and_the_name_of_the_column() -> None:
    for column in in_two_forms([1, 0, -1], ["x", "2.0"]):
        names = category_names(column)
        assert names.dropna().to_dict() == {"c0": "2", "c1": "x"}
        assert (list(names.index), names.name, names.dtype) == (["c0", "c1", "c2"], "field", object)


def test_one_number_in_two_spellings_counts_where_cells_have_both() -> None:
    for column in in_two_forms([0, 1], ["1", "1.0"]):
        with pytest.raises(CategoryError, match="the same number"):
            category_names(column)
    for column in in_two_forms([0, 0], ["1", "1.0"]):  # no cell has the second
        assert category_names(column).tolist() == ["1", "1"]


def test_a_function_sees_each_level_once() -> None:
    sizes = []
    column, _ = in_two_forms([2, 0, 2, -1, 2], ["a", "b", "c"])

    def lengths(values: pd.Series) -> pd.Series:
        sizes.append(len(values))
        return values.isna()

    np.testing.assert_array_equal(by_level(lengths, column), [False, False, False, True, False])
    assert sizes == [len(levels_of(column))] == [3]
