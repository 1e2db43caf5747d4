"""Arrays, images and labels become data that every recipe takes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import genevae as gv
from genevae.errors import DataError

FAST = {"epochs": 2, "batch_size": 16, "device": "cpu", "progress": False}


@pytest.fixture
def counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(2.0, (48, 16))


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, lambda x: x.astype(np.float64)])
def test_fit_takes_an_array_with_labels(counts, make):
    labels = np.tile(["A", "B", "C"], 16)
    model = gv.fit(make(counts), labels=labels, **FAST)
    assert model.schema.genes[:2] == ("gene_0", "gene_1")
    assert model.schema.n_categories == {"label": 3}
    assert gv.generate(model, n=3, condition={"label": "B"}).shape == (3, 16)
    assert gv.embed(model, gv.from_arrays(counts, labels)).obsm["X_genevae"].shape == (48, 10)


def test_an_array_without_labels_has_no_condition(counts):
    assert gv.fit(counts, **FAST).schema.fields == ()


@pytest.mark.parametrize("shape", [(48, 4, 4, 1), (48, 1, 4, 4)])
def test_images_are_trained_on_as_they_are_laid_out(counts, shape):
    adata = gv.from_arrays(counts.reshape(shape) / 8, ["A", "B"] * 24, factor=8)
    assert adata.var_names[5] == "pixel_1_1"
    np.testing.assert_array_equal(adata.X, counts)
    model = gv.fit(adata, "convolutional", condition=["label"], setting={"order": "given", "image_size": 4}, **FAST)
    assert gv.generate(model, per_category={"label": 2}).shape == (4, 16)


def test_several_labels_by_name(counts):
    model = gv.fit(counts, labels={"type": ["A", "B"] * 24, "lane": [1, 2, 3] * 16}, condition=["type"], **FAST)
    assert model.schema.fields == ("type",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": np.zeros((3, 2, 2))}, r"shape \(3, 2, 2\)"),
        ({"x": np.zeros((3, 2, 2, 3))}, "one channel"),
        ({"x": np.array([["a", "b"]])}, "type <U1"),
        ({"x": np.zeros((3, 2)), "labels": ["A"]}, r"'label' have shape \(1,\), and there are 3 cells"),
        ({"x": np.zeros((3, 2)), "genes": ["A"]}, "1 gene names for 2 columns"),
        ({"x": np.full((3, 2), 0.3), "factor": 2}, "not whole numbers"),
        ({"x": np.zeros((3, 2)), "factor": 0}, "factor must be above 0"),
    ],
    ids=str,
)
def test_what_is_no_expression_is_an_error_that_says_so(arguments, words):
    with pytest.raises(DataError, match=words):
        gv.from_arrays(**arguments)


def test_labels_go_with_arrays_only(adata):
    with pytest.raises(DataError, match="Name the obs column"):
        gv.fit(adata, labels=["A"] * 40, **FAST)
