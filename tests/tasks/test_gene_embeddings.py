"""Genes as vectors: the decoder's, and which are alike."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from genevae.errors import DataError, RunError
from genevae.runs.fit import fit
from genevae.tasks import gene_embeddings as module
from genevae.tasks.gene_embeddings import gene_embeddings

FAST = {"epochs": 1, "n_latent": 3, "hidden": [8], "progress": False, "device": "cpu"}


@pytest.mark.parametrize("name", ["nb", "zinb", "poisson", "gaussian", "bulk"])
def test_the_vectors_are_what_the_last_hidden_units_are_multiplied_by(adata, name):
    model = fit(adata, recipe=name, **FAST)
    answer = gene_embeddings(model)
    assert list(answer.obs_names) == list(adata.var_names)
    likelihood = model.module._likelihood
    last = likelihood.mean if name in {"gaussian", "bulk"} else likelihood.proportion.logits
    np.testing.assert_array_equal(answer.obsm["X_genevae"], last.weight.detach().numpy())


@pytest.mark.parametrize(("neighbours", "at_once"), [(3, 1024), (7, 4), (29, 11), (50, 1024)])
def test_similarities_are_the_largest_cosines(tiny_model, monkeypatch, neighbours, at_once):
    monkeypatch.setattr(module, "BLOCK_SIZE", at_once)
    answer = gene_embeddings(tiny_model, neighbours=neighbours)
    v = answer.obsm["X_genevae"]
    cosine = v @ v.T / np.outer(*[np.linalg.norm(v, axis=1)] * 2)
    np.fill_diagonal(cosine, -np.inf)
    kept = answer.obsp["similarity"]
    n = min(neighbours, 29)
    assert (np.diff(kept.indptr) == n).all()
    assert kept.has_sorted_indices
    for gene, row in enumerate(cosine):
        columns = kept.indices[kept.indptr[gene] : kept.indptr[gene + 1]]
        assert gene not in columns
        np.testing.assert_allclose(np.sort(kept[gene].data), np.sort(row)[-n:], rtol=1e-4, atol=1e-6)


def test_no_neighbours_give_no_similarity(tiny_model):
    assert not gene_embeddings(tiny_model, neighbours=0).obsp
    with pytest.raises(DataError, match="neighbours"):
        gene_embeddings(tiny_model, neighbours=-1)


def test_markers_of_a_type_are_nearest_to_each_other(tiny_model):
    similarity = gene_embeddings(tiny_model, neighbours=29).obsp["similarity"].toarray()
    marker = np.zeros(30, dtype=int)
    marker[:15] = np.repeat([1, 2, 3], 5)
    together = (marker[:, None] == marker) & (marker > 0) & ~np.eye(30, dtype=bool)
    apart = (marker[:, None] != marker) & (marker > 0) & (marker[:, None] > 0)
    assert similarity[together].mean() > similarity[apart].mean() + 0.3


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_a_store_holds_what_is_returned(tiny_model, tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SIZE", 7)
    out = tmp_path / f"genes{suffix}"
    gene_embeddings(tiny_model, neighbours=5, out=out)
    written = ad.read_h5ad(out) if suffix == ".h5ad" else ad.read_zarr(out)
    answer = gene_embeddings(tiny_model, neighbours=5)
    np.testing.assert_array_equal(written.obsm["X_genevae"], answer.obsm["X_genevae"])
    assert (written.obsp["similarity"] != answer.obsp["similarity"]).nnz == 0
    with pytest.raises(RunError, match="already exists"):
        gene_embeddings(tiny_model, out=out)


def test_a_model_whose_decoder_has_no_vectors_is_refused(tiny_model, monkeypatch):
    monkeypatch.setattr(type(tiny_model.module), "gene_embeddings", lambda _: None)
    with pytest.raises(DataError, match="bulk, gaussian or nb"):
        gene_embeddings(tiny_model)
