"""What a user tries who wants new cells, denoised cells, bulk samples, gene embeddings or scores."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp
from benchmarks.guesses.runner import airway, arr, emb, expr, frames, guess, mistake, numbers


@guess
def gv_generate_100(c):
    expr(c.gv.generate(c.model, 100), 100)


@guess
def generate_n_condition(c):
    expr(c.gv.generate(c.model, n=100, condition="stim"), 100)


@guess
def model_generate(c):
    expr(c.model.generate(100), 100)


@guess
def model_sample(c):
    expr(c.model.sample(100), 100)


@guess
def gv_sample(c):
    expr(c.gv.sample(c.model, n_samples=50), 50)


@guess
def generate_swapped(c):
    expr(c.gv.generate(100, c.model), 100)


@guess
def generate_n_cells_type(c):
    expr(c.gv.generate(c.model, n_cells=60, cell_type="B"), 60)


@guess
def generate_positional_condition(c):
    expr(c.gv.generate(c.model, 10, "stim"), 10)


@guess
def generate_seed(c):
    a = expr(c.gv.generate(c.model, 20, seed=0), 20)
    b = expr(c.gv.generate(c.model, 20, seed=0), 20)
    assert (a == b).all()


@guess
def generate_anndata(c):
    g = c.gv.generate(c.model, 20, condition="ctrl")
    assert (
        isinstance(g, ad.AnnData)
        and list(g.var_names) == list(c.adata.var_names)
        and (g.obs["condition"] == "ctrl").all()
    )


@guess
def generate_run_path(c):
    expr(c.gv.generate(c.run, 20), 20)


@mistake
def generate_value_typo(c):
    c.gv.generate(c.model, 20, condition="control")
    raise AssertionError("unknown condition taken silently")


@guess
def gv_simulate(c):
    s = c.gv.simulate(n_cells=100, n_genes=50)
    expr(s, 100, 50)


@guess
def simulate_positional(c):
    expr(c.gv.simulate(100, 50), 100, 50)


@guess
def posterior_predictive_sample(c):
    x = c.model.posterior_predictive_sample(c.adata)
    if hasattr(x, "todense") and not sp.issparse(x):
        x = x.todense()
    assert x.shape[0] == 300 and x.shape[1] == 200


@guess
def gv_denoise(c):
    expr(c.gv.denoise(c.model, c.adata), 300)


@guess
def model_denoise(c):
    expr(c.model.denoise(c.adata), 300)


@guess
def denoise_swapped(c):
    expr(c.gv.denoise(c.adata, c.model), 300)


@guess
def normalized_expression(c):
    x = expr(c.model.get_normalized_expression(c.adata, library_size=1e4), 300)
    assert np.allclose(x.sum(1), 1e4, rtol=1e-2)


@guess
def gv_impute(c):
    expr(c.gv.impute(c.model, c.adata), 300)


@guess
def read_csv(c):
    df, meta = frames()
    df.to_csv("counts.csv")
    a = c.gv.read_csv("counts.csv")
    assert a.shape == df.shape


@guess
def fit_csv_metadata(c):
    df, meta = frames()
    df.to_csv("counts.csv")
    meta.to_csv("meta.csv")
    assert c.is_model(c.gv.fit("counts.csv", metadata="meta.csv", condition="dex", max_epochs=2))


@guess
def fit_dataframe(c):
    df, meta = frames()
    assert c.is_model(c.gv.fit(df, max_epochs=2))


@guess
def fit_dataframe_obs(c):
    df, meta = frames()
    assert c.is_model(c.gv.fit(df, obs=meta, condition="dex", max_epochs=2))


@guess
def fit_csv_genes_by_samples(c):
    df, meta = frames()
    df.T.to_csv("counts.csv")
    meta.to_csv("meta.csv")
    m = c.gv.fit("counts.csv", obs="meta.csv", condition="dex", max_epochs=2)
    expr(c.gv.generate(m, 5), 5, 150)


@guess
def fit_tsv(c):
    df, meta = frames()
    df.to_csv("counts.tsv", sep="\t")
    assert c.is_model(c.gv.fit("counts.tsv", max_epochs=2))


@guess
def from_csv(c):
    df, meta = frames()
    df.to_csv("counts.csv")
    meta.to_csv("meta.csv")
    a = c.gv.from_csv("counts.csv", "meta.csv")
    assert a.shape == df.shape and "dex" in a.obs


@guess
def fit_bulk_flag(c):
    assert c.is_model(c.gv.fit(airway(), bulk=True, max_epochs=2))


@guess
def fit_bulk_few_samples(c):
    m = c.gv.fit(airway(), n_latent=2, max_epochs=2)
    assert emb(c.gv.embed(m, airway()), n=airway().n_obs).shape[1] == 2


@guess
def pseudobulk_groupby(c):
    p = c.gv.pseudobulk(c.adata, groupby=["donor", "condition"])
    assert isinstance(p, ad.AnnData) and p.n_vars == 200 and p.n_obs <= 6 and np.isclose(p.X.sum(), c.adata.X.sum())


@guess
def pp_pseudobulk(c):
    p = c.gv.pp.pseudobulk(c.adata, by="donor")
    assert p.n_vars == 200 and p.n_obs == 3


@guess
def pseudobulk_positional(c):
    p = c.gv.pseudobulk(c.adata, "donor", layer="counts")
    assert p.n_vars == 200 and p.n_obs == 3


@guess
def gv_gene_embeddings(c):
    x = c.gv.gene_embeddings(c.model)
    assert len(getattr(x, "obs", x)) == 200


@guess
def model_gene_embedding(c):
    x = c.model.gene_embedding()
    assert len(getattr(x, "obs", x)) == 200


@guess
def get_loadings(c):
    x = c.model.get_loadings()
    assert len(getattr(x, "obs", x)) == 200


@guess
def metrics_mmd(c):
    g = c.adata[::2].copy()
    assert np.isfinite(float(c.gv.metrics.mmd(c.adata.X.toarray(), g.X.toarray())))


@guess
def metrics_r2(c):
    x = c.adata.X.toarray().mean(0)
    assert abs(float(c.gv.metrics.r2_score(x, x)) - 1) < 1e-6


@guess
def compare_real_generated(c):
    g = c.adata[::2].copy()
    assert numbers(c.gv.compare(c.adata, g))


@guess
def gv_evaluate(c):
    assert numbers(c.gv.evaluate(c.model, c.adata))


@guess
def evaluate_swapped(c):
    assert numbers(c.gv.evaluate(c.adata, c.model))


@guess
def model_evaluate(c):
    assert numbers(c.model.evaluate(c.adata))


@guess
def gv_report(c):
    c.gv.report(c.model, c.adata, "report.html")
    assert Path("report.html").stat().st_size > 500


@guess
def evaluate_report(c):
    c.gv.evaluate(c.model, c.adata, report="report.html")
    assert Path("report.html").stat().st_size > 500


@guess
def get_elbo(c):
    v = c.model.get_elbo(c.adata)
    assert np.isfinite(float(np.mean(arr(v))))


@guess
def get_reconstruction_error(c):
    assert c.model.get_reconstruction_error(c.adata)
