"""Genes: matching tells why names differ, and variable genes are those of scanpy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tests.io.streamed import Streamed, make

from genevae.data.genes import match_genes
from genevae.errors import GeneError
from genevae.io.formats import MemorySource
from genevae.io.gene_lists import read_gene_list
from genevae.preprocessing.loess import loess


def dense(x) -> np.ndarray:
    return x.toarray() if sparse.issparse(x) else x


# --- matching ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), as_sparse=st.booleans(), streamed=st.booleans(), n_chosen=st.integers(1, 9))
def test_columns_come_in_the_models_order(seed, as_sparse, streamed, n_chosen):
    rng = np.random.default_rng(seed)
    x = rng.poisson(0.8, (7, 9)).astype(np.float32)
    source = make(sparse.csr_matrix(x) if as_sparse else x)
    chosen = rng.permutation(9)[:n_chosen]
    genes = [f"G{i}" for i in chosen]
    rows = rng.integers(0, 7, 5)
    matched = match_genes(Streamed(source) if streamed else source, genes)
    found = matched.read(rows)
    assert matched.genes == tuple(genes)
    assert (len(matched), matched.obs is source.obs) == (7, True)
    assert found.dtype == np.float32
    assert np.array_equal(dense(found), x[rows][:, chosen])
    if as_sparse:
        assert found.has_canonical_format
    padded = match_genes(Streamed(source) if streamed else source, ["new", *genes], allow_missing=True)
    assert np.array_equal(dense(padded.read(rows)), np.column_stack([np.zeros(5), x[rows][:, chosen]]))
    assert padded.panels.measured_pg.tolist() == [[False, *[True] * n_chosen]]
    assert padded.panels.panel_n.tolist() == [0] * 7


def test_the_same_genes_are_the_same_source():
    source = make(np.ones((2, 3), np.float32))
    assert match_genes(source, list(source.genes)) is source
    assert match_genes(source, ["G1"]).panels is None
    assert match_genes(Streamed(source), ["G1"]).name == "streamed"


MOUSE = ["Gapdh", "Actb", "Cd8a", "Xist"]
HUMAN = ["GAPDH", "ACTB", "CD8A", "XIST"]
IDS = [f"ENSG0000000{i}" for i in range(1000, 1004)]
VERSIONED = [f"{name}.{i + 3}" for i, name in enumerate(IDS)]


@pytest.mark.parametrize(
    ("present", "asked", "reason"),
    [
        (MOUSE, HUMAN, "lacks 4 of the 4 required genes.*4 of them differ in case only.*ACTB is Actb"),
        (HUMAN, IDS, "Ensembl ids are required, but the data have gene symbols"),
        (IDS, HUMAN, "gene symbols are required, but the data have Ensembl ids"),
        (HUMAN, [*HUMAN, "RP11-1.2", "MYC"], "lacks 2 of the 6 required genes: MYC, RP11-1.2.*--join outer"),
    ],
)
def test_missing_genes_are_explained(present, asked, reason):
    with pytest.raises(GeneError, match=reason):
        match_genes(make(np.ones((2, len(present)), np.float32), present), asked)


@pytest.mark.parametrize(("present", "asked"), [(VERSIONED, IDS), (IDS, VERSIONED)])
def test_ensembl_ids_are_matched_whatever_their_version(present, asked):
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    matched = match_genes(make(x, present), asked[::-1])
    assert matched.genes == tuple(asked[::-1])
    assert np.array_equal(matched.read(np.arange(2)), x[:, ::-1])


def test_versions_are_not_dropped_where_that_would_confuse_two_genes():
    both = [IDS[0] + ".1", IDS[0] + ".2"]
    assert match_genes(make(np.eye(2, dtype=np.float32), both), both[::-1]).genes == tuple(both[::-1])
    with pytest.raises(GeneError, match="lacks 2 of the 2"):
        match_genes(make(np.eye(2, dtype=np.float32), [IDS[0], IDS[1]]), both)


def test_other_names_that_the_data_give_their_genes_are_tried():
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    named = MemorySource("data", x, tuple(IDS), pd.DataFrame(index=["a", "b"]), {"symbol": tuple(HUMAN)})
    matched = match_genes(named, ["XIST", "GAPDH"])
    assert np.array_equal(matched.read(np.arange(2)), x[:, [3, 0]])
    assert match_genes(named, VERSIONED).genes == tuple(VERSIONED)


def test_a_few_missing_genes_may_be_allowed_but_not_all():
    source = make(np.ones((2, 4), np.float32), HUMAN)
    assert match_genes(source, ["GAPDH", "MYC"], allow_missing=True).read(np.array([0])).tolist() == [[1, 0]]
    with pytest.raises(GeneError, match="lacks 4 of the 4"):
        match_genes(source, MOUSE, allow_missing=True)


def test_genes_that_come_twice_are_refused_where_they_are_asked():
    source = make(np.ones((2, 4), np.float32), ["A", "B", "B", "C"])
    assert match_genes(source, ["C", "A"]).genes == ("C", "A")
    with pytest.raises(GeneError, match=r"In data, 1 of the genes occur more than once: B \(2 times\)"):
        match_genes(source, ["A", "B"])
    with pytest.raises(GeneError, match=r"In the required genes.*A \(2 times\)"):
        match_genes(source, ["A", "A"])


# --- lists ------------------------------------------------------------------------------------------------------------


def test_gene_lists_are_read(tmp_path):
    path = tmp_path / "genes.txt"
    path.write_text("\ufeff# markers\nCD3E\n\n  MS4A1 # B cells\r\nCD3E\n", encoding="utf-8")
    assert read_gene_list(path) == ["CD3E", "MS4A1"]


def test_bad_gene_lists_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(GeneError, match="has no gene"):
        read_gene_list(tmp_path / "empty.txt")
    with pytest.raises(GeneError, match=r"The gene list cannot be read.*Did you mean 'empty.txt'"):
        read_gene_list(tmp_path / "emty.txt")
    for path in (tmp_path / "binary.txt", tmp_path):
        with pytest.raises(GeneError, match="cannot be read"):
            read_gene_list(path)


# --- loess ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(60, 400), ties=st.booleans())
def test_loess_reproduces_parabolas_in_any_order(seed, n, ties):
    rng = np.random.default_rng(seed)
    x = np.repeat(np.linspace(-2, 3, n // 2), 2) if ties else rng.normal(size=n)
    y = 1 - 2 * x + 0.5 * x**2
    shuffled = rng.permutation(len(x))
    assert np.allclose(loess(x, y), y, atol=1e-6)
    assert np.allclose(loess(x[shuffled], y[shuffled]), y[shuffled], atol=1e-6)


@pytest.mark.parametrize("x", [[], [1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0] * 50 + [1.0]])
def test_loess_is_finite_on_few_or_equal_points(x):
    fitted = loess(np.array(x), np.ones(len(x)))
    assert np.allclose(fitted, 1, atol=1e-6)
    assert fitted.shape == (len(x),)


def test_loess_agrees_with_the_original():
    original = pytest.importorskip("skmisc.loess", reason="scikit-misc is the oracle").loess
    rng = np.random.default_rng(0)
    x = rng.gamma(2, size=2000)
    for places in (x, np.round(x, 1)):  # also where many are tied
        y = np.sin(places) + rng.normal(size=2000) / 5
        model = original(places, y, span=0.3, degree=2)
        model.fit()
        assert np.abs(loess(places, y) - model.outputs.fitted_values).max() < 1e-9
