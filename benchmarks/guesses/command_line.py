"""What a user types: commands, options of other packages, arguments in another order."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
import pandas as pd
from benchmarks.guesses.runner import emb, expr, guess, mistake, table


def some(*names):
    return [p for n in names for p in Path().glob(n)]


@guess
def version(c):
    assert re.search(r"\d+\.\d+", c.sh("--version").stdout)


@guess
def help_long(c):
    assert re.search("fit|train", c.sh("--help").stdout)


@guess
def no_arguments(c):
    p = c.sh(ok=False)
    assert p.returncode in (0, 1, 2) and "Traceback" not in c.printed and re.search("fit|train", c.printed)


@guess
def python_m(c):
    p = c.sh("-P", "-m", "genevae", "--version", program=())
    assert re.search(r"\d+\.\d+", p.stdout)


@guess
def fit_help(c):
    assert re.search("--condition|--batch", c.sh("fit", "--help").stdout)


@guess
def embed_help(c):
    assert len(c.sh("embed", "-h").stdout) > 50


@guess
def generate_help(c):
    assert len(c.sh("generate", "--help").stdout) > 50


@guess
def counterfactual_help(c):
    assert len(c.sh("counterfactual", "--help").stdout) > 50


@guess
def evaluate_help(c):
    assert len(c.sh("evaluate", "--help").stdout) > 50


@guess
def help_fit(c):
    assert re.search("--condition|--batch", c.sh("help", "fit").stdout)


@guess
def fit_scvi_style(c):
    c.sh("fit", c.path, "--condition", "condition", "--max-epochs", "2", "-o", "myrun")
    assert some("myrun*")


@guess
def train_epochs_out(c):
    c.sh("train", c.path, "--condition", "condition", "--epochs", "2", "--out", "myrun")
    assert some("myrun*")


@guess
def fit_underscore_output(c):
    c.sh("fit", c.path, "--condition", "condition", "--max_epochs", "2", "--output", "myrun")
    assert some("myrun*")


@guess
def fit_batch_key(c):
    c.sh("fit", c.path, "--batch_key", "donor", "--max_epochs", "2", "-o", "myrun")
    assert some("myrun*")


@guess
def fit_batch_labels_dash(c):
    c.sh("fit", c.path, "--batch-key", "donor", "--labels-key", "cell_type", "--max-epochs", "2", "-o", "myrun")
    assert some("myrun*")


@guess
def fit_n_latent_hidden(c):
    c.sh("fit", c.path, "--n_latent", "20", "--hidden", "64", "--max-epochs", "2", "-o", "myrun")
    assert some("myrun*")


@guess
def fit_gene_likelihood_layer(c):
    c.sh("fit", c.path, "--layer", "counts", "--gene-likelihood", "nb", "--max-epochs", "2", "-o", "myrun")
    assert some("myrun*")


@mistake
def fit_column_typo(c):
    p = c.sh("fit", c.path, "--condition", "conditon", "--max-epochs", "2", "-o", "myrun")
    assert p.returncode == 0 and False


@mistake
def fit_file_typo(c):
    c.sh("fit", "smal.h5ad", "--condition", "condition", "-o", "myrun")
    assert False


@mistake
def fit_option_typo(c):
    c.sh("fit", c.path, "--conditon", "condition", "--max-epochs", "2", "-o", "myrun")
    assert some("myrun*")


@guess
def fit_covariates_two_names(c):
    c.sh(
        "fit",
        c.path,
        "--condition",
        "condition",
        "--covariates",
        "donor",
        "cell_type",
        "--max-epochs",
        "2",
        "-o",
        "myrun",
    )
    assert some("myrun*")


@guess
def fit_covariates_comma(c):
    c.sh(
        "fit", c.path, "--condition", "condition", "--covariates", "donor,cell_type", "--max-epochs", "2", "-o", "myrun"
    )
    assert some("myrun*")


@guess
def fit_batch_two_names_first(c):
    c.sh("fit", "--batch", "donor", "subset", "--max-epochs", "2", "-o", "myrun", c.path)
    assert some("myrun*")


@guess
def fit_dash_i(c):
    c.sh("fit", "-i", c.path, "-o", "myrun", "--max-epochs", "2")
    assert some("myrun*")


@guess
def fit_condition_key_equals(c):
    c.sh("fit", c.path, "--condition-key=condition", "--device=cpu", "--max-epochs=2", "--out=myrun")
    assert some("myrun*")


@guess
def fit_lr_seed_gpu(c):
    c.sh(
        "fit",
        c.path,
        "--lr",
        "1e-3",
        "--batch_size",
        "64",
        "--seed",
        "1",
        "--accelerator",
        "cpu",
        "--max-epochs",
        "2",
        "-o",
        "myrun",
    )
    assert some("myrun*")


@guess
def embed_run(c):
    c.sh("embed", c.run, c.path, "-o", "emb.h5ad")
    emb(ad.read_h5ad("emb.h5ad"), n=300)


@guess
def embed_swapped(c):
    c.sh("embed", c.path, c.run, "-o", "emb.h5ad")
    emb(ad.read_h5ad("emb.h5ad"), n=300)


@guess
def embed_options(c):
    c.sh("embed", "--model", c.run, "--data", c.path, "--output", "emb.csv")
    assert len(pd.read_csv("emb.csv")) == 300


@guess
def generate_dash_n(c):
    c.sh("generate", c.run, "-n", "100", "-o", "gen.h5ad")
    expr(ad.read_h5ad("gen.h5ad"), 100)


@guess
def generate_n_cells_condition(c):
    c.sh("generate", c.run, "--n_cells", "50", "--condition", "stim", "--out", "gen.h5ad")
    g = ad.read_h5ad("gen.h5ad")
    expr(g, 50)
    assert (g.obs["condition"] == "stim").all()


@guess
def generate_positional(c):
    c.sh("generate", c.run, "100", "-o", "gen.h5ad")
    expr(ad.read_h5ad("gen.h5ad"), 100)


@guess
def counterfactual(c):
    c.sh("counterfactual", c.run, c.path, "--condition", "stim", "-o", "cf.h5ad")
    expr(ad.read_h5ad("cf.h5ad"), 300)


@mistake
def counterfactual_typo(c):
    c.sh("counterfactual", c.run, c.path, "--condition", "stimm", "-o", "cf.h5ad")
    assert False


@guess
def counterfactual_from_to(c):
    c.sh("counterfactual", c.run, c.path, "--from", "ctrl", "--to", "stim", "-o", "cf.h5ad")
    expr(ad.read_h5ad("cf.h5ad"))


@guess
def predict(c):
    c.sh("predict", c.run, c.path, "--condition", "stim", "-o", "cf.h5ad")
    expr(ad.read_h5ad("cf.h5ad"), 300)


@guess
def evaluate(c):
    assert re.search(r"\d\.\d", c.sh("evaluate", c.run, c.path).stdout)


@mistake
def evaluate_misspelt(c):
    c.sh("evalute", c.run, c.path)


@guess
def info_run(c):
    assert re.search("gene|latent|condition", c.sh("info", c.run).stdout)


@guess
def inspect_data(c):
    assert re.search("condition|300", c.sh("inspect", c.path).stdout)


@guess
def classify(c):
    c.sh("classify", c.run, c.path, "-o", "labels.csv")
    assert len(pd.read_csv("labels.csv")) == 300


@guess
def integrate(c):
    c.sh("integrate", c.path, "--batch", "donor", "--max-epochs", "2", "-o", "out.h5ad")
    emb(ad.read_h5ad("out.h5ad"), n=300)


@guess
def de(c):
    c.sh("de", c.run, c.path, "--groupby", "condition", "--group1", "stim", "--group2", "ctrl", "-o", "de.csv")
    table(pd.read_csv("de.csv"), 100)


@guess
def effects(c):
    c.sh("effects", c.run, c.path, "--condition", "stim", "--control", "ctrl", "-o", "eff.csv")
    table(pd.read_csv("eff.csv"), 100)


@guess
def simulate(c):
    c.sh("simulate", "--n-cells", "100", "--n_genes", "50", "-o", "sim.h5ad")
    expr(ad.read_h5ad("sim.h5ad"), 100, 50)


@guess
def fit_csv(c):
    a = c.adata
    pd.DataFrame(a.X.toarray().astype(int), index=a.obs_names, columns=a.var_names).to_csv("counts.csv")
    a.obs.to_csv("meta.csv")
    c.sh("fit", "counts.csv", "--metadata", "meta.csv", "--condition", "condition", "--max-epochs", "2", "-o", "myrun")
    assert some("myrun*")


@guess
def list_(c):
    assert c.sh("commands").stdout
