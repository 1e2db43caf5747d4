"""Pickled lists of dicts and dicts of lists are tables."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from genevae.errors import DataError
from genevae.io.formats import open_source
from genevae.io.safe_pickle.table import read_pickled_table

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text("ab", max_size=3))
ROWS = st.lists(st.dictionaries(st.sampled_from("xyz"), SCALARS, min_size=1), min_size=1, max_size=6)


def written(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


@given(ROWS)
def test_a_list_of_dicts_is_the_table_that_pandas_makes_of_it(tmp_path_factory, rows):
    path = written(tmp_path_factory.mktemp("rows") / "x.pkl", rows)
    found, expected = read_pickled_table(path), pd.DataFrame(rows)
    assert list(found.columns) == list(expected.columns)
    pd.testing.assert_frame_equal(found.isna(), expected.isna())
    for name in expected:
        assert found[name].dropna().tolist() == expected[name].dropna().tolist()


def test_a_dict_of_lists_and_arrays_is_a_table_without_what_is_no_column(tmp_path, capsys):
    content = {"type": ["T", "B"], "age": np.array([1.5, 2.5]), "nested": [[1], [2]], "square": np.eye(2)}
    table = read_pickled_table(written(tmp_path / "x.pkl", content))
    pd.testing.assert_frame_equal(table, pd.DataFrame({"type": ["T", "B"], "age": [1.5, 2.5]}))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "'nested' is left out" in lines[0]
    assert "'square' is left out" in lines[1]


def test_a_column_of_other_objects_is_left_out_of_a_data_frame_and_named(tmp_path, capsys):
    table = pd.DataFrame({"type": ["T", "B"], "markers": [["CD3E"], {"a": 1}], "age": [1.5, 2.5], "lane": ["x", None]})
    path = written(tmp_path / "x.pkl", table)
    found = read_pickled_table(path)
    pd.testing.assert_frame_equal(found, table.drop(columns="markers"))
    assert "column 'markers' is left out" in capsys.readouterr().err


@pytest.mark.parametrize("content", [{"a": [1], "b": [1, 2]}, {"a": [[1]]}, [], {}, [{}]], ids=str)
def test_what_is_no_table_is_an_error(tmp_path, content):
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_pickled_table(written(tmp_path / "x.pkl", content))


def test_a_few_bytes_do_not_become_a_large_table(tmp_path):
    row = dict.fromkeys(map(str, range(2000)))
    with pytest.raises(DataError, match="much larger than its bytes"):
        read_pickled_table(written(tmp_path / "x.pkl", [row] * 4000))


def test_chunks_with_lists_of_dicts_are_opened(tmp_path):
    sparse.save_npz(tmp_path / "counts_0.npz", sparse.csr_matrix(np.eye(2, dtype=np.float32)))
    written(tmp_path / "metadata_0.pkl", [{"type": "T"}, {"type": "B"}])
    source = open_source(tmp_path)
    assert list(source.obs["type"]) == ["T", "B"]
    assert list(source.obs.index) == ["cell_0", "cell_1"]
