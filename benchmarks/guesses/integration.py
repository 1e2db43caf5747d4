"""What a user with several batches tries: embedding, labels, mapping of a query, missing genes and batches."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from benchmarks.guesses.runner import emb, expr, guess, mistake, numbers


def half(c):
    r, q = c.adata[:200].copy(), c.adata[200:].copy()
    return r, q


@guess
def fit_batch(c):
    assert c.is_model(c.gv.fit(c.adata, batch="donor", max_epochs=2))


@guess
def fit_batch_key_labels_key(c):
    assert c.is_model(c.gv.fit(c.adata, batch_key="donor", labels_key="cell_type", max_epochs=2))


@guess
def fit_labels(c):
    assert c.is_model(c.gv.fit(c.adata, batch="donor", labels="cell_type", max_epochs=2))


@guess
def fit_label_singular(c):
    assert c.is_model(c.gv.fit(c.adata, label="cell_type", max_epochs=2))


@guess
def fit_categorical_covariate_keys(c):
    assert c.is_model(c.gv.fit(c.adata, categorical_covariate_keys=["donor", "subset"], max_epochs=2))


@guess
def fit_covariates_string(c):
    assert c.is_model(c.gv.fit(c.adata, covariates="donor", max_epochs=2))


@guess
def fit_batch_list(c):
    assert c.is_model(c.gv.fit(c.adata, batch=["donor", "subset"], max_epochs=2))


@mistake
def fit_batch_typo(c):
    c.gv.fit(c.adata, batch="doner", max_epochs=2)
    raise AssertionError("typo taken silently")


@guess
def gv_integrate_adata(c):
    emb(c.gv.integrate(c.adata, batch="donor", max_epochs=2), c.adata)


@guess
def gv_integrate_model(c):
    emb(c.gv.integrate(c.model, c.adata), c.adata)


@guess
def latent_scanpy(c):
    import scanpy as sc

    c.adata.obsm["X_scVI"] = c.model.get_latent_representation(c.adata)
    sc.pp.neighbors(c.adata, use_rep="X_scVI")
    assert "connectivities" in c.adata.obsp


@guess
def embed_key_added(c):
    r = c.gv.embed(c.model, c.adata, key_added="X_gv")
    emb(None if not isinstance(r, ad.AnnData) else r, c.adata, key="X_gv")


@guess
def embed_inplace(c):
    c.model.embed(c.adata, inplace=True)
    emb(None, c.adata)


@guess
def tl_embed(c):
    c.gv.tl.embed(c.adata, c.model)
    emb(None, c.adata)


@guess
def gv_classify(c):
    r = c.gv.classify(c.model, c.adata)
    assert len(r) == 300


@guess
def model_classify(c):
    assert len(c.model.classify(c.adata)) == 300


@guess
def scanvi_predict(c):
    assert len(c.model.predict(c.adata)) == 300


@guess
def scanvi_predict_soft(c):
    r = c.model.predict(c.adata, soft=True)
    assert r.shape == (300, 4)


@guess
def gv_annotate(c):
    assert len(c.gv.annotate(c.model, c.adata)) == 300


@guess
def classify_swapped(c):
    assert len(c.gv.classify(c.adata, c.model)) == 300


@guess
def classify_key_added(c):
    c.gv.classify(c.model, c.adata, key_added="pred")
    assert c.adata.obs["pred"].isin(["CD4 T", "CD14+ Mono", "B", "NK"]).mean() > 0.5


@guess
def transfer_labels(c):
    r, q = half(c)
    assert len(c.gv.transfer_labels(r, q, labels="cell_type")) == q.n_obs


@guess
def gv_map(c):
    r, q = half(c)
    x = c.gv.map(c.model, q)
    emb(x, q)


@guess
def map_query(c):
    r, q = half(c)
    emb(c.gv.map_query(c.model, q), q)


@guess
def load_query_data(c):
    r, q = half(c)
    m = type(c.model).load_query_data(q, c.model)
    m.train(max_epochs=1)
    emb(m.get_latent_representation(q), q)


@guess
def prepare_query_anndata(c):
    r, q = half(c)
    type(c.model).prepare_query_anndata(q, c.model)


@guess
def embed_missing_genes(c):
    emb(c.gv.embed(c.model, c.adata[:, :150].copy()), n=300)


@guess
def embed_reordered_genes(c):
    a = emb(c.gv.embed(c.model, c.adata), n=300)
    b = emb(c.gv.embed(c.model, c.adata[:, ::-1].copy()), n=300)
    assert np.allclose(a, b, atol=1e-3)


@guess
def embed_extra_genes(c):
    e = ad.AnnData(
        np.ones((300, 20), "float32"), obs=c.adata.obs, var=pd.DataFrame(index=[f"extra{i}" for i in range(20)])
    )
    b = ad.concat([c.adata, e], axis=1, merge="same")
    emb(c.gv.embed(c.model, b), n=300)


@mistake
def embed_other_genes_all(c):
    c.adata.var_names = [f"ENSG{i:011d}" for i in range(200)]
    c.gv.embed(c.model, c.adata)
    raise AssertionError("embedded cells that share no gene")


@guess
def embed_new_batch(c):
    q = c.adata[:50].copy()
    q.obs["donor"] = "new_donor"
    emb(c.gv.embed(c.model, q), q)


@guess
def embed_no_batch_column(c):
    q = c.adata[:50].copy()
    del q.obs["donor"]
    emb(c.gv.embed(c.model, q), q)


@mistake
def fit_batch_nan(c):
    c.adata.obs["donor"] = c.adata.obs["donor"].astype(object)
    c.adata.obs.iloc[:5, c.adata.obs.columns.get_loc("donor")] = np.nan
    assert c.is_model(c.gv.fit(c.adata, batch="donor", max_epochs=2))


@mistake
def fit_log_normalised(c):
    import scanpy as sc

    del c.adata.layers["counts"]
    sc.pp.normalize_total(c.adata, target_sum=1e4)
    sc.pp.log1p(c.adata)
    c.gv.fit(c.adata, batch="donor", max_epochs=2)
    raise AssertionError("log-normalised values taken silently as counts")


@guess
def fit_log_layer_counts(c):
    import scanpy as sc

    sc.pp.normalize_total(c.adata, target_sum=1e4)
    sc.pp.log1p(c.adata)
    m = c.gv.fit(c.adata, layer="counts", batch="donor", max_epochs=2)
    emb(c.gv.embed(m, c.adata), c.adata)


@mistake
def fit_layer_typo(c):
    c.gv.fit(c.adata, layer="count", max_epochs=2)
    raise AssertionError("typo taken silently")


@guess
def fit_n_top_genes(c):
    assert c.is_model(c.gv.fit(c.adata, n_top_genes=100, max_epochs=2))


@guess
def pp_hvg(c):
    c.gv.pp.highly_variable_genes(c.adata, n_top_genes=100)
    assert c.adata.var["highly_variable"].sum() == 100


@guess
def fit_hvg(c):
    assert c.is_model(c.gv.fit(c.adata, hvg=100, max_epochs=2))


@guess
def transform_batch(c):
    expr(c.model.get_normalized_expression(c.adata, transform_batch="1015"), 300)


@guess
def gv_correct(c):
    expr(c.gv.correct(c.model, c.adata, batch="1015"), 300)


@guess
def evaluate_integration(c):
    assert numbers(c.gv.evaluate(c.model, c.adata, batch="donor", labels="cell_type"))


@guess
def metrics_silhouette(c):
    x = c.latent(c.model, c.adata)
    v = c.gv.metrics.silhouette(x, c.adata.obs["cell_type"])
    assert -1 <= float(v) <= 1


@guess
def fit_backed(c):
    a = ad.read_h5ad(c.path, backed="r")
    assert c.is_model(c.gv.fit(a, batch="donor", max_epochs=2))


@guess
def fit_list(c):
    r, q = half(c)
    assert c.is_model(c.gv.fit([r, q], batch="donor", max_epochs=2))
