"""Vectors of categories: every form of a file is read alike, distances are kept, and mistakes are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from genevae.data.covariates import Categorical
from genevae.data.embedding import Embedding, read_embedding
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.errors import CategoryError, DataError

TABLE = pd.DataFrame([[0.5, 1.0], [-2.0, 0.25], [3.0, 4.0]], index=["A", "B", "7"], columns=["x", "y"])


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "npy", "table", "vectors by name"])
def test_every_form_has_the_same_vectors(tmp_path, kind):
    path = tmp_path / f"vectors.{kind}"
    if kind in ("csv", "tsv"):
        TABLE.to_csv(path, sep="," if kind == "csv" else "\t", index_label="gene")
    elif kind == "parquet":
        TABLE.to_parquet(path)
    elif kind == "npy":
        np.save(path, TABLE.to_numpy())
        path.with_suffix(".txt").write_text("A\nB\n7\n")
    given = {"table": TABLE, "vectors by name": TABLE.T.to_dict("list")}.get(kind, path)
    found = read_embedding(given, "gene")
    assert list(found.index) == ["A", "B", "7"]
    np.testing.assert_array_equal(found.to_numpy(), TABLE.to_numpy())
    assert Embedding.fit(found, "AB7").sha256 == Embedding.fit(read_embedding(TABLE, "gene"), "AB7").sha256


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gene,x\nA,1\nB,high\n", r"vectors.csv, the embedding of 'gene', .*'high' in column 'x' of B"),
        ("gene,x\nA,1\nB,\n", "finite number"),
        ("gene,x\nA,1\nA,2\n", "has A more than once"),
        ("gene\nA\n", "needs a finite number"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path, text, words):
    (path := tmp_path / "vectors.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_embedding(path, "gene")


def test_an_array_without_names_or_with_others_says_so(tmp_path):
    np.save(path := tmp_path / "vectors.npy", np.ones((3, 2)))
    with pytest.raises(DataError, match="write them to"):
        read_embedding(path, "gene")
    path.with_suffix(".txt").write_text("A\nB\n")
    with pytest.raises(DataError, match="2 names"):
        read_embedding(path, "gene")
    path.write_bytes(b"no array")
    with pytest.raises(DataError, match=r"numpy\.save"):
        read_embedding(path, "gene")


@given(st.integers(0, 10**6), st.integers(3, 9), st.integers(1, 12))
def test_components_keep_the_distances_between_vectors(seed, n, f):
    vectors = pd.DataFrame(np.random.default_rng(seed).normal(size=(n, f)), index=[f"P{i}" for i in range(n)])
    found = np.array(Embedding.fit(vectors, list(vectors.index)).rows)
    ratio = pdist(found) / pdist(vectors.to_numpy())
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    np.testing.assert_allclose(np.square(found).mean(), 1, rtol=1e-4)


def test_categories_are_those_of_the_data_and_of_the_file():
    column = pd.Series(["ctrl", "A", "B+A"], name="gene")
    field = Categorical.fit(column, control="ctrl", combined=True, vectors=TABLE)
    assert set(field.categories) >= {"ctrl", "A", "B", "7", "B+A", "7+A"}
    assert field.vector("ctrl") == (0.0, 0.0)
    np.testing.assert_allclose(field.vector("B+A"), np.add(field.vector("A"), field.vector("B")))
    with pytest.raises(CategoryError, match=r"no vector for 1 of 2 categories of the data: C\."):
        Categorical.fit(pd.Series(["ctrl", "A", "C"], name="gene"), control="ctrl", vectors=TABLE)
    schema = Schema(("G",), Kind.COUNTS, categorical=(field,))
    assert Schema.from_json(schema.to_json()) == schema
    assert schema.vectors_by_category["gene"].keys() == set(field.categories) - {"ctrl"}
    plain = replace(schema, categorical=(replace(field, embedding=None),))
    assert plain.vectors == {}
    assert "embedding" not in plain.to_json()["categorical"][0]


def test_vectors_that_are_all_the_same_are_refused():
    with pytest.raises(DataError, match="all the same"):
        Embedding.fit(pd.DataFrame(np.ones((3, 2)), index=list("ABC")), "ABC")
