"""What a user of scanpy or scvi-tools tries first: read, fit, embed, save, load, look at the model."""

from __future__ import annotations

import re

import anndata as ad
import numpy as np
import pandas as pd
from benchmarks.guesses.runner import emb, guess, mistake


@guess
def version(c):
    assert re.match(r"\d+\.\d+", c.gv.__version__)


@guess
def read_h5ad(c):
    a = c.gv.read_h5ad(c.path)
    assert isinstance(a, ad.AnnData) and a.shape == (300, 200)


@guess
def read_any(c):
    a = c.gv.read(c.path)
    assert isinstance(a, ad.AnnData) and a.shape == (300, 200)


@guess
def inspect_adata(c):
    r = c.gv.inspect(c.adata)
    t = str(r)
    assert "condition" in t or "300" in t


@guess
def info_path(c):
    t = str(c.gv.info(c.path))
    assert "condition" in t or "300" in t


@guess
def fit_plain(c):
    assert c.is_model(c.gv.fit(c.adata))


@guess
def fit_max_epochs(c):
    assert c.is_model(c.gv.fit(c.adata, condition="condition", max_epochs=2))


@guess
def fit_epochs(c):
    assert c.is_model(c.gv.fit(c.adata, condition="condition", epochs=2))


@guess
def fit_path(c):
    assert c.is_model(c.gv.fit(c.path, condition="condition", max_epochs=2))


@guess
def fit_batch_key(c):
    assert c.is_model(c.gv.fit(c.adata, batch_key="donor", max_epochs=2))


@guess
def fit_n_latent(c):
    m = c.gv.fit(c.adata, condition="condition", n_latent=20, max_epochs=2)
    assert c.latent(m, c.adata).shape == (300, 20)


@guess
def fit_latent_dim(c):
    m = c.gv.fit(c.adata, condition="condition", latent_dim=7, max_epochs=2)
    assert c.latent(m, c.adata).shape == (300, 7)


@guess
def fit_hidden(c):
    assert c.is_model(c.gv.fit(c.adata, condition="condition", hidden=64, max_epochs=2))


@guess
def fit_n_hidden_n_layers(c):
    assert c.is_model(c.gv.fit(c.adata, n_hidden=64, n_layers=2, max_epochs=2))


@guess
def fit_gene_likelihood(c):
    assert c.is_model(c.gv.fit(c.adata, gene_likelihood="zinb", max_epochs=2))


@guess
def fit_likelihood_caps(c):
    assert c.is_model(c.gv.fit(c.adata, likelihood="NB", max_epochs=2))


@guess
def fit_lr_batch_size(c):
    assert c.is_model(c.gv.fit(c.adata, lr=1e-3, batch_size=64, max_epochs=2))


@guess
def fit_seed(c):
    a = c.latent(c.gv.fit(c.adata, seed=1, max_epochs=2), c.adata)
    b = c.latent(c.gv.fit(c.adata, seed=1, max_epochs=2), c.adata)
    assert np.allclose(a, b, atol=1e-4)


@guess
def fit_random_state(c):
    assert c.is_model(c.gv.fit(c.adata, random_state=1, max_epochs=2))


@guess
def fit_layer(c):
    assert c.is_model(c.gv.fit(c.adata, layer="counts", max_epochs=2))


@guess
def fit_early_stopping(c):
    assert c.is_model(c.gv.fit(c.adata, early_stopping=True, max_epochs=2))


@guess
def fit_accelerator(c):
    assert c.is_model(c.gv.fit(c.adata, accelerator="cpu", max_epochs=2))


@guess
def fit_device(c):
    assert c.is_model(c.gv.fit(c.adata, device="cpu", max_epochs=2))


@guess
def setup_anndata(c):
    c.gv.setup_anndata(c.adata, batch_key="donor", labels_key="cell_type")


@guess
def scvi_class(c):
    c.gv.VAE.setup_anndata(c.adata, batch_key="donor")
    m = c.gv.VAE(c.adata, n_latent=10)
    m.train(max_epochs=2)
    assert emb(m.get_latent_representation(), c.adata).shape == (300, 10)


@guess
def cvae_class(c):
    m = c.gv.CVAE(c.adata, condition="condition")
    m.fit(max_epochs=2)
    assert emb(m.embed(c.adata), c.adata).shape[0] == 300


@guess
def gv_train(c):
    assert c.is_model(c.gv.train(c.adata, condition="condition", max_epochs=2))


@guess
def model_train_more(c):
    r = c.model.train(max_epochs=1)
    assert r is None or c.is_model(r)


@guess
def get_latent_representation(c):
    emb(c.model.get_latent_representation(), c.adata)


@guess
def get_latent_representation_adata(c):
    emb(c.model.get_latent_representation(c.adata), c.adata)


@guess
def model_embed(c):
    emb(c.model.embed(c.adata), c.adata)


@guess
def gv_embed(c):
    emb(c.gv.embed(c.model, c.adata), c.adata)


@guess
def gv_embed_swapped(c):
    emb(c.gv.embed(c.adata, c.model), c.adata)


@guess
def gv_embed_run_path(c):
    emb(c.gv.embed(c.run, c.adata), c.adata)


@guess
def obsm_scanpy_umap(c):
    c.adata.obsm["X_gv"] = c.model.embed(c.adata)
    import scanpy as sc

    sc.pp.neighbors(c.adata, use_rep="X_gv")
    sc.tl.leiden if False else None
    assert c.adata.obsm["X_gv"].shape[0] == 300 and "neighbors" in c.adata.uns


@guess
def save_load(c):
    c.model.save("my_model")
    m = c.gv.load("my_model")
    assert np.allclose(c.latent(m, c.adata), c.latent(c.model, c.adata), atol=1e-3)


@guess
def save_overwrite(c):
    c.model.save("my_model", overwrite=True)
    c.model.save("my_model", overwrite=True)


@guess
def save_anndata(c):
    c.model.save("my_model", save_anndata=True)


@guess
def class_load_scvi(c):
    c.model.save("m")
    m = type(c.model).load("m", adata=c.adata)
    assert c.is_model(m)


@guess
def load_model(c):
    c.model.save("m")
    assert c.is_model(c.gv.load_model("m"))


@mistake
def load_missing(c):
    try:
        c.gv.load("my_modle")
    except c.gv.GenevaeError as error:
        assert "my_modle" in str(error)
    else:
        raise AssertionError("no error")


@guess
def history(c):
    h = c.model.history
    h = h() if callable(h) else h
    assert len(h) and any(
        re.search("loss|elbo|epoch", str(k)) for k in (h.columns if isinstance(h, pd.DataFrame) else h)
    )


@guess
def history_elbo(c):
    h = c.model.history["elbo_train"]
    assert len(h) == 2 or len(h) >= 1


@guess
def model_repr(c):
    t = repr(c.model)
    assert "object at 0x" not in t and re.search("200|genes|latent|condition", t), t


@guess
def model_summary(c):
    r = c.model.summary()
    assert r is None or len(str(r)) > 20


@guess
def plot_history(c):
    assert c.model.plot_history() is not None


@guess
def pl_umap(c):
    c.gv.pl.umap(c.adata, color="cell_type")


@guess
def settings_seed(c):
    c.gv.settings.seed = 0
    assert c.gv.settings.seed == 0


@guess
def settings_verbosity(c):
    c.gv.settings.verbosity = "ERROR"


@guess
def fit_quiet(c):
    assert c.is_model(c.gv.fit(c.adata, max_epochs=2, verbose=False))
