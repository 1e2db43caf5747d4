"""What a user with a perturbation tries: what-if, effects, differential expression, doses."""

from __future__ import annotations

import numpy as np
from benchmarks.guesses.runner import arr, expr, guess, mistake, numbers, table


@guess
def model_counterfactual(c):
    expr(c.model.counterfactual(c.adata, condition="stim"), 300)


@guess
def gv_counterfactual(c):
    expr(c.gv.counterfactual(c.model, c.adata, condition="stim"), 300)


@guess
def counterfactual_swapped(c):
    expr(c.gv.counterfactual(c.adata, c.model, condition="stim"), 300)


@guess
def counterfactual_positional(c):
    expr(c.gv.counterfactual(c.model, c.adata, "stim"), 300)


@guess
def counterfactual_target(c):
    b = c.adata[c.adata.obs["condition"] == "ctrl"].copy()
    expr(c.gv.counterfactual(c.model, b, target="stim"), b.n_obs)


@guess
def counterfactual_source_target(c):
    b = c.adata[c.adata.obs["condition"] == "ctrl"].copy()
    expr(c.gv.counterfactual(c.model, b, source="ctrl", target="stim"), b.n_obs)


@guess
def counterfactual_to(c):
    expr(c.gv.counterfactual(c.model, c.adata, to="stim"), 300)


@guess
def counterfactual_dict(c):
    expr(c.gv.counterfactual(c.model, c.adata, {"condition": "stim"}), 300)


@guess
def model_predict(c):
    expr(c.model.predict(c.adata, condition="stim"), 300)


@guess
def gv_predict(c):
    expr(c.gv.predict(c.model, c.adata, condition="stim"), 300)


@guess
def gv_what_if(c):
    expr(c.gv.what_if(c.model, c.adata, condition="stim"), 300)


@guess
def scgen_predict(c):
    expr(c.model.predict(ctrl_key="ctrl", stim_key="stim", celltype_to_predict="CD4 T"))


@guess
def gv_perturb(c):
    expr(c.gv.perturb(c.model, c.adata, "stim"), 300)


@guess
def counterfactual_run_path(c):
    expr(c.gv.counterfactual(c.run, c.path, condition="stim"), 300)


@mistake
def counterfactual_value_typo(c):
    c.gv.counterfactual(c.model, c.adata, condition="stimm")


@mistake
def counterfactual_column_given(c):
    c.gv.counterfactual(c.model, c.adata, condition="condition")
    raise AssertionError("a column's name taken as a value")


@mistake
def fit_column_typo(c):
    c.gv.fit(c.adata, condition="conditon", max_epochs=2)
    raise AssertionError("typo taken silently")


@guess
def fit_condition_key(c):
    assert c.is_model(c.gv.fit(c.adata, condition_key="condition", max_epochs=2))


@guess
def fit_control(c):
    assert c.is_model(c.gv.fit(c.adata, condition="condition", control="ctrl", max_epochs=2))


@guess
def fit_condition_cell_type(c):
    assert c.is_model(c.gv.fit(c.adata, condition="cell_type", max_epochs=2))


@guess
def fit_two_conditions(c):
    assert c.is_model(c.gv.fit(c.adata, condition=["condition", "cell_type"], max_epochs=2))


@guess
def fit_cell_type_kw(c):
    assert c.is_model(c.gv.fit(c.adata, condition="condition", cell_type="cell_type", max_epochs=2))


@guess
def fit_holdout(c):
    assert c.is_model(
        c.gv.fit(
            c.adata,
            condition="condition",
            covariates=["cell_type"],
            max_epochs=2,
            holdout={"condition": "stim", "cell_type": "B"},
        )
    )


@guess
def gv_effects(c):
    table(c.gv.effects(c.model, c.adata, condition="stim", control="ctrl"), 100, c.adata.var_names)


@guess
def gv_effect_positional(c):
    table(c.gv.effect(c.model, c.adata, "stim", "ctrl"), 100, c.adata.var_names)


@guess
def model_effects(c):
    table(c.model.effects("stim", "ctrl"), 100, c.adata.var_names)


@guess
def effects_by_cell_type(c):
    table(c.gv.effects(c.model, c.adata, condition="stim", groupby="cell_type"), 100, c.adata.var_names)


@guess
def effects_swapped(c):
    table(c.gv.effects(c.adata, c.model, condition="stim", control="ctrl"), 100, c.adata.var_names)


@guess
def scvi_de(c):
    table(c.model.differential_expression(groupby="condition", group1="stim", group2="ctrl"), 200, c.adata.var_names)


@guess
def scvi_de_adata(c):
    table(c.model.differential_expression(c.adata, groupby="condition"), 200, c.adata.var_names)


@guess
def gv_de(c):
    table(
        c.gv.differential_expression(c.model, c.adata, groupby="condition", group1="stim", group2="ctrl"),
        200,
        c.adata.var_names,
    )


@guess
def gv_de_short(c):
    table(c.gv.de(c.model, c.adata, "stim", "ctrl"), 200, c.adata.var_names)


@guess
def tl_rank_genes(c):
    table(c.gv.tl.rank_genes_groups(c.adata, groupby="condition", reference="ctrl"))


@guess
def gv_contrast(c):
    table(c.gv.contrast(c.model, c.adata, "stim", "ctrl"), 100, c.adata.var_names)


@guess
def gv_contrast_pairs(c):
    table(c.gv.contrasts(c.model, c.adata, [("stim", "ctrl")]), 100, c.adata.var_names)


@guess
def gv_top_genes(c):
    assert len(c.gv.top_genes(c.model, c.adata, "stim", n=10)) == 10


@guess
def counterfactual_subset_view(c):
    b = c.adata[c.adata.obs["cell_type"] == "B"]
    expr(c.gv.counterfactual(c.model, b, condition="stim"), b.n_obs)


@guess
def counterfactual_n_samples(c):
    x = c.gv.counterfactual(c.model, c.adata, condition="stim", n_samples=3)
    x = arr(x)
    assert 200 in x.shape and x.size in (300 * 200, 900 * 200)


@guess
def fit_dose(c):
    c.adata.obs["dose"] = np.where(c.adata.obs["condition"] == "stim", 1.0, 0.0)
    assert c.is_model(c.gv.fit(c.adata, condition="condition", dose="dose", max_epochs=2))


@guess
def fit_continuous_covariate_keys(c):
    c.adata.obs["dose"] = np.random.default_rng(0).choice([0.0, 0.1, 1, 10], 300)
    assert c.is_model(c.gv.fit(c.adata, continuous_covariate_keys=["dose"], max_epochs=2))


@guess
def gv_dose_response(c):
    c.adata.obs["dose"] = np.random.default_rng(0).choice([0.0, 0.1, 1, 10], 300)
    m = c.gv.fit(c.adata, condition="dose", max_epochs=2)
    table(c.gv.dose_response(m, c.adata, "dose"))


@guess
def counterfactual_dose(c):
    c.adata.obs["dose"] = np.random.default_rng(0).choice([0.0, 0.1, 1, 10], 300)
    m = c.gv.fit(c.adata, covariates=["dose"], max_epochs=2)
    expr(c.gv.counterfactual(m, c.adata, dose=0.5), 300)


@guess
def gv_evaluate(c):
    assert numbers(c.gv.evaluate(c.model, c.adata))


@guess
def evaluate_counterfactual(c):
    assert numbers(c.gv.evaluate_counterfactual(c.model, c.adata, condition="stim", control="ctrl"))
