"""Kinds of values: what cells hold is found from the values alone, and named in messages."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from genevae.data.value_kind import Kind, detect_kind, require_same_values
from genevae.errors import DataError
from genevae.io.formats import open_source


def counts(n: int = 60, n_genes: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(0.5, 2, n_genes) * rng.uniform(0.5, 3, (n, 1))).astype(np.float64)


def normalised(x_ng: np.ndarray, total: float = 1e4) -> np.ndarray:
    return total * x_ng / x_ng.sum(1, keepdims=True)


@pytest.mark.parametrize("base", [np.e, 2.0, 10.0])
@pytest.mark.parametrize("genes", [200, 20])
def test_logarithms_are_found_in_every_base_also_of_some_of_the_genes(base, genes):
    x_ng = np.log1p(normalised(counts()))[:, :genes] / np.log(base)
    assert detect_kind(sparse.csr_matrix(x_ng)) is Kind.LOG


@pytest.mark.parametrize("genes", [200, 20])
def test_counts_in_proportion_are_normalised_whatever_their_totals(genes):
    x_ng = normalised(counts(), total=1e5)[:, :genes]
    x_ng[5] = 0  # a cell without counts
    if genes == 200:
        x_ng[:, 0] *= 1.07  # a few values are no multiples
    assert detect_kind(sparse.csr_matrix(x_ng)) is Kind.NORMALISED


def test_counts_and_scaled_values():
    assert detect_kind(counts()) is Kind.COUNTS
    assert detect_kind(np.random.default_rng(0).normal(size=(50, 20))) is Kind.SCALED


def test_messages_name_the_kind():
    log = open_source(as_adata(np.log1p(normalised(counts()))))
    with pytest.raises(DataError, match=r"log-normalised values.*counts"):
        require_same_values(log, Kind.COUNTS, None)


def as_adata(x_ng):
    return ad.AnnData(x_ng.astype(np.float32))
