"""Public functions take what users of scanpy and scvi-tools type, or answer it."""

from __future__ import annotations

import gc
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import genevae as gv
from genevae.cli.spelling import respelled, with_our_options
from genevae.errors import CategoryError, DataError, GenevaeError, GenevaeWarning, RecipeError
from genevae.peer_functions import COMPOSED, NAMESPACES
from genevae.peers import CONVERTED, METHOD_ALIASES, OPTIONS, RENAMED, translated

QUICK = {"epochs": 1, "progress": False}


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"kind": ["B", "T"] * 20, "drug": ["ctrl"] * 20 + ["stim"] * 20, "site": ["x", "y", "z", "x"] * 10},
        index=[f"cell_{i}" for i in range(40)],
    )
    var = pd.DataFrame({"chosen": [True] * 8 + [False] * 4}, index=[f"g{i}" for i in range(12)])
    return ad.AnnData(rng.poisson(3.0, (40, 12)).astype("float32"), obs=obs, var=var)


@pytest.fixture(scope="module")
def shared():
    """A model of two conditions, and its data."""
    rng = np.random.default_rng(1)
    obs = pd.DataFrame(
        {"kind": ["B", "T"] * 30, "drug": ["ctrl"] * 30 + ["stim"] * 30}, index=[f"cell_{i}" for i in range(60)]
    )
    adata = ad.AnnData(rng.poisson(3.0, (60, 12)).astype("float32"), obs=obs)
    adata.var_names = [f"g{i}" for i in range(12)]
    adata.var["symbol"] = [f"S{i}" for i in range(12)]
    adata.obsm["X_pca"] = rng.normal(size=(60, 3))
    adata.uns["kind_colors"] = ["#000000", "#ffffff"]
    return gv.fit(adata, condition=["kind", "drug"], **QUICK), adata


def test_names_of_options_point_at_options_that_exist():
    import inspect

    functions = [gv.fit, gv.embed, gv.generate, gv.denoise, gv.effect, gv.counterfactual, gv.classify, gv.evaluate]
    functions += [gv.influence, gv.contributions, gv.gene_embeddings, gv.pseudobulk, gv.highly_variable, gv.save]
    functions += [gv.dose_response, gv.differential_expression]
    known = {name for function in functions for name in inspect.signature(function).parameters}
    every = [ours if isinstance(ours, tuple) else (ours,) for ours in RENAMED.values()]
    every += [(answer[0],) for answer in [*OPTIONS.values(), *CONVERTED.values()]]
    settings = gv.RECIPES["nb"].settings()
    for ours in every:
        for name in ours:
            option, _, setting = name.partition(".")
            assert option in known
            assert not setting or setting in settings


def test_options_of_other_packages_are_those_of_ours(adata):
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        theirs = gv.fit(adata, batch_key="site", max_epochs=1, lr=0.01, n_hidden=16, n_layers=2, dropout_rate=0.1,
                        gene_likelihood="NB", verbose=False)  # fmt: skip
    assert "The option batch_key is batch here." in [str(note.message) for note in notes]
    ours = gv.fit(adata, "nb", batch="site", learning_rate=0.01, hidden=(16, 16), setting={"dropout": 0.1}, **QUICK)
    assert theirs.recipe == ours.recipe
    assert (theirs.history["train_loss"] == ours.history["train_loss"]).all()


def test_converted_values():
    with pytest.warns(GenevaeWarning, match="train_size is validation here"):
        assert translated({"train_size": 0.8}, ["validation"]) == {"validation": 0.2}
    with pytest.warns(GenevaeWarning):
        assert translated({"early_stopping": False}, ["setting"]) == {"setting": {"patience": 0}}
    with pytest.warns(GenevaeWarning):
        assert translated({"early_stopping": True}, ["setting"]) == {}
    with pytest.raises(RecipeError, match="given twice"), pytest.warns(GenevaeWarning):
        translated({"epochs": 3, "max_epochs": 4}, ["epochs"])
    with pytest.warns(GenevaeWarning):
        assert translated({"condition": "a", "covariates": ["b"]}, ["condition"]) == {"condition": ("a", "b")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"transform_batch": "a"}, "no option 'transform_batch'"),
        ({"genes": "chosn"}, "chosn"),
        ({"threads": 2}, "genevae.settings.num_threads = 4"),
        ({"num_workers": 2}, "here it is: read_threads"),
        ({"control": "ctrl", "condition": ["kind", "drug"]}, "must be fields with their values"),
        ({"metadata": "table.csv"}, "says how a file is read"),
    ],
)
def test_other_options_are_answered(adata, options, message):
    with pytest.raises(GenevaeError, match=message):
        gv.fit(adata, **options, **QUICK)


def test_a_text_is_one_name_and_a_value_of_the_only_condition(adata):
    model = gv.fit(adata, condition="drug", control="ctrl", hidden=8, genes="chosen", folds=0, **QUICK)
    assert model.schema.fields == ("drug",)
    assert model.schema.categorical[0].control == "ctrl"
    assert model.schema.genes == tuple(f"g{i}" for i in range(8))
    assert model.recipe.settings()["hidden"] == (8,)
    assert gv.fit(adata, labels="kind", batch=["site"], **QUICK).schema.fields == ("kind", "site")
    with pytest.warns(GenevaeWarning, match="batch is one obs column, site: kind are given to the model as conditions"):
        both = gv.fit(adata, batch=["site", "kind"], **QUICK)
    assert (both.schema.batch, both.schema.fields) == ("site", ("kind", "site"))
    moved = model.counterfactual(adata, "stim")
    assert (moved.obs["drug"] == "stim").all()
    with pytest.raises(CategoryError, match="Did you mean 'stim'"):
        model.counterfactual(adata, "stimm")


def test_swapped_and_missing_arguments_say_what_is_expected(shared, tmp_path):
    model, adata = shared
    with pytest.raises(DataError, match=r"genevae\.embed\(model, data\)\. This is AnnData of shape \(60, 12\)"):
        gv.embed(adata)
    with pytest.raises(DataError, match=r"takes a trained model first.*genevae\.generate\(model\)"):
        gv.generate(n=3)
    with pytest.raises(RecipeError, match="fit takes the data first"):
        gv.fit("nb", adata)
    with pytest.raises(DataError, match="evaluate takes models and then the data"):
        gv.evaluate(adata, adata)
    with pytest.raises(DataError, match="'drug', which is a covariate of the model: give it as the field"):
        gv.influence(model, adata, drug="stim")
    with pytest.raises(CategoryError, match="does not say which field"):
        gv.generate(model, 3, "neither")


def test_what_can_only_mean_one_thing_is_done_with_a_note(shared, tmp_path):
    model, adata = shared
    model.save(tmp_path / "run")
    expected = gv.embed(model, adata).obsm["X_genevae"]
    for arguments in ((adata, model), (adata, tmp_path / "run")):
        with pytest.warns(gv.GenevaeWarning, match="embed takes the model first"):
            assert np.array_equal(gv.embed(*arguments).obsm["X_genevae"], expected)
    with pytest.warns(gv.GenevaeWarning, match="evaluate takes the model first"):
        swapped = gv.evaluate(adata, model, sections=["latent"], cells=60, progress=False)
    assert swapped.scores.equals(gv.evaluate(model, adata, sections=["latent"], cells=60, progress=False).scores)
    with pytest.warns(gv.GenevaeWarning, match="takes covariates as condition={'drug': 'stim'}"):
        named = gv.generate(model, 3, drug="stim", seed=1)
    assert np.array_equal(named.X, gv.generate(model, 3, {"drug": "stim"}, seed=1).X)
    with pytest.warns(gv.GenevaeWarning, match="takes covariates as field='drug', to='stim'"):
        by_name = gv.effect(model, adata, drug="stim", control="ctrl")
    assert by_name.equals(gv.effect(model, adata, field="drug", to="stim", control="ctrl"))
    with pytest.warns(gv.GenevaeWarning, match="inplace is key_added"):
        gv.embed(model, adata, inplace=True)
    assert np.array_equal(adata.obsm.pop("X_genevae"), expected)


def test_a_task_takes_the_folder_of_a_run(shared, tmp_path):
    model, adata = shared
    model.save(tmp_path / "run")
    by_path = gv.embed(tmp_path / "run", adata).obsm["X_genevae"]
    assert np.array_equal(by_path, gv.embed(str(tmp_path / "run"), data=adata).obsm["X_genevae"])
    assert np.array_equal(by_path, model.embed(adata).obsm["X_genevae"])
    assert np.array_equal(by_path, gv.Trained.load(tmp_path / "run").get_latent_representation(adata))
    assert model.get_normalized_expression(adata).shape == (60, 12)


def test_functions_of_other_packages_are_ours_or_answered(shared):
    model, adata = shared
    with pytest.warns(GenevaeWarning, match="genevae.simulate is genevae.generate here"):
        assert gv.simulate is gv.generate
    with pytest.warns(GenevaeWarning, match="model.impute is model.denoise here"):
        assert model.impute(adata).shape == (60, 12)
    with pytest.raises(AttributeError, match=r"Here it is genevae\.fit"):
        _ = gv.SCVI
    with pytest.raises(AttributeError, match=r"Here it is model\.map_query"):
        _ = gv.Trained.load_query_data
    with pytest.raises(AttributeError, match="Did you mean 'embed'"):
        _ = model.embedd
    for ours in METHOD_ALIASES.values():
        assert hasattr(gv.Trained, ours)


@pytest.mark.filterwarnings("ignore::genevae.GenevaeWarning")
def test_functions_that_are_made_of_ours_are_ours(shared, tmp_path):
    model, adata = shared
    label_n = gv.classify(model, adata, "kind")
    assert list(model.predict(adata, "kind")) == list(label_n["label"])
    soft = model.predict(adata, field="kind", soft=True)
    assert (soft[["B", "T"]].to_numpy() == label_n[["probability B", "probability T"]].to_numpy()).all()
    stimulated = gv.counterfactual(model, adata, {"drug": "stim"})
    for predicted in (gv.predict(model, adata, condition="stim"), model.predict(adata, drug="stim")):
        assert np.array_equal(predicted.X, stimulated.X)
    effects = gv.effect(model, adata, "stim", "ctrl")
    assert gv.contrasts(model, adata, [("stim", "ctrl")]).equals(effects)
    assert len(gv.top_genes(model, adata, "stim", n=3, control="ctrl")) == 3
    named = gv.differential_expression(model, adata, "drug", group1="stim", group2="ctrl")
    assert gv.de(model, adata, "stim", "ctrl").equals(named)
    assert model.get_elbo(adata) <= model.get_marginal_ll(adata) < 0
    assert 0 < model.get_reconstruction_error(adata)["reconstruction_loss"] < -model.get_elbo(adata)
    draws = np.stack([model.posterior_predictive_sample(adata, seed=s) for s in range(30)])
    assert np.allclose(draws.mean(), model.denoise(adata).X.mean(), rtol=0.1)
    assert np.array_equal(gv.integrate(model, adata).obsm["X_genevae"], model.embed(adata).obsm["X_genevae"])
    assert list(gv.transfer_labels(model, adata, labels="kind")["label"]) == list(label_n["label"])
    assert model.summary() == repr(model)
    assert np.array_equal(model.history["elbo_train"], model.history["train_loss"])
    assert gv.metrics.silhouette([[0.0], [0.1], [5.0], [5.1]], [0, 0, 1, 1]) > 0.9
    table = pd.DataFrame(adata.X, index=adata.obs_names, columns=adata.var_names)
    table.to_csv(tmp_path / "counts.csv"), adata.obs.to_csv(tmp_path / "cells.csv")
    assert list(gv.read_csv(tmp_path / "counts.csv", tmp_path / "cells.csv").obs["kind"]) == list(adata.obs["kind"])
    controls = adata[adata.obs["drug"] == "ctrl"]
    from_controls = model.counterfactual(adata, source="ctrl", target="stim")
    assert np.array_equal(from_controls.X, model.counterfactual(controls, {"drug": "stim"}).X)
    with pytest.raises(DataError, match="give the cells to start from"):
        model.counterfactual(adata, source="control", target="stim")
    for one in COMPOSED.keys() - {"from_csv", "read_csv"}:
        assert callable(getattr(model, one))


def test_one_batch_of_expression_is_what_the_model_expects_there(adata):
    model = gv.fit(adata, batch="site", **QUICK)
    here = model.get_normalized_expression(adata, transform_batch="x", library_size="latent")
    assert here.equals(model.counterfactual(adata, {"site": "x"}, answer="model").to_df("mean"))
    shares = model.get_normalized_expression(adata, gene_list=adata.var_names[:3])
    assert list(shares) == list(adata.var_names[:3])
    np.testing.assert_allclose(model.get_normalized_expression(adata, library_size=1e4).sum(axis=1), 1e4, rtol=1e-5)
    with pytest.warns(GenevaeWarning) as told:
        assert model.get_elbo() == model.get_elbo(adata)
    assert any("given no cells" in str(each.message) for each in told)
    with pytest.warns(GenevaeWarning):
        assert gv.correct(model, adata).to_df().equals(model.denoise(adata, average_batches=True).to_df())


def test_namespaces_of_scanpy_add_to_the_data(shared):
    model, adata = shared
    mine = adata.copy()
    gv.tl.embed(mine, model)
    assert np.array_equal(mine.obsm["X_genevae"], model.embed(adata).obsm["X_genevae"])
    gv.pp.highly_variable_genes(mine, n_genes=4)
    assert list(mine.var_names[mine.var["highly_variable"]]) == gv.highly_variable(adata, 4)
    assert gv.pp.pseudobulk(mine, by="drug").n_obs == 2
    with pytest.raises(AttributeError, match=r"scanpy has it: scanpy\.pp\.normalize_total"):
        gv.pp.normalize_total(mine)
    with pytest.raises(AttributeError, match=r"scanpy has it: scanpy\.tl\.leiden"):
        gv.tl.leiden(mine)
    for namespace in NAMESPACES.values():
        assert all(callable(getattr(namespace, name)) for name in dir(namespace))


def test_the_data_of_training_are_taken_while_they_are_there(adata):
    mine = adata.copy()
    model = gv.fit(mine, condition="drug", **QUICK)
    with pytest.warns(GenevaeWarning, match="the AnnData that the model was trained on"):
        z_nk = model.get_latent_representation()
    assert np.array_equal(z_nk, model.embed(mine).obsm["X_genevae"])
    with pytest.warns(GenevaeWarning, match="the AnnData that the model was trained on"):
        assert model.effect("stim", "ctrl").equals(model.effect(mine, "stim", "ctrl"))
    del mine
    gc.collect()
    with pytest.raises(DataError, match=r"give the cells too, as in genevae\.embed"):
        model.embed()


def test_the_seed_of_the_session_is_that_of_functions_without_one(shared, monkeypatch):
    model, _ = shared
    monkeypatch.setattr(gv.settings, "seed", 3)
    of_session, given = gv.generate(model, 5), gv.generate(model, 5, seed=0)
    monkeypatch.setattr(gv.settings, "seed", None)
    assert np.array_equal(of_session.X, gv.generate(model, 5, seed=3).X)
    assert np.array_equal(given.X, gv.generate(model, 5).X)


@pytest.mark.filterwarnings("ignore::genevae.GenevaeWarning")
def test_a_report_may_be_a_page_alone(shared, tmp_path):
    model, adata = shared
    options = {"sections": "fit", "cells": 60, "progress": False}
    found = gv.report(model, adata, tmp_path / "page.html", batch_key="site", **options)
    assert found.scores.equals(gv.evaluate(model, adata, report=tmp_path / "other.html", **options).scores)
    for name in ("page.html", "other.html"):
        assert (tmp_path / name).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_model_fits_on_a_screen(shared, tmp_path):
    model, _ = shared
    text = repr(model)
    assert len(text.splitlines()) == 6
    assert len(text) < 700
    assert "kind (2: B, T)" in text
    assert "model.save(PATH)" in text
    html = model._repr_html_()
    assert html.startswith("<table>")
    assert html.count("<tr>") == 6


def test_results_keep_what_the_cells_have(shared):
    model, adata = shared
    found = model.denoise(adata[:, ::-1])
    assert list(found.var["symbol"]) == [f"S{i}" for i in range(12)]
    assert np.array_equal(found.obsm["X_pca"], adata.obsm["X_pca"])
    assert found.uns["kind_colors"] == adata.uns["kind_colors"]


def test_results_are_added_where_the_user_says_so(shared):
    model, adata = shared
    x_ng = np.column_stack([adata.X[:, ::-1], np.ones(60, "float32")])
    mine = ad.AnnData(x_ng, obs=adata.obs.copy(), var=pd.DataFrame(index=[*adata.var_names[::-1], "new"]))
    before = list(mine.obs)
    z = model.embed(mine, key_added="X_vae").obsm["X_genevae"]
    assert np.array_equal(mine.obsm["X_vae"], z)
    x = model.denoise(mine, key_added="denoised")
    assert np.array_equal(mine[:, x.var_names].layers["denoised"], x.X)
    assert np.isnan(mine.layers["denoised"][:, list(mine.var_names).index("new")]).all()
    labels = model.classify(mine, "kind", key_added="guess")
    assert list(mine.obs["guess"]) == list(labels["label"])
    clusters = model.cluster(mine, n_clusters=2, n_repeats=2, key_added="group")
    assert list(mine.obs["group"].astype(int)) == list(clusters["cluster"])
    moved = model.counterfactual(mine, {"drug": "stim"}, key_added="stim")
    assert np.array_equal(mine[:, moved.var_names].layers["stim"], moved.X)
    assert set(mine.obs) - set(before) == {"guess", "guess_probability", "group", "group_stability", "stim_support"}
    mine.layers["counts"], mine.X = mine.X, None
    model.denoise(mine, layer="counts", key_added="again")
    assert np.array_equal(mine.layers["again"], mine.layers["denoised"], equal_nan=True)
    with pytest.raises(DataError, match="not both"):
        model.embed(mine, key_added="z", out="z.h5ad")
    with pytest.raises(DataError, match="For a file, use into=FILE"):
        model.embed(pd.DataFrame(adata.X, columns=adata.var_names), key_added="X_vae")


def test_the_layer_of_training_is_remembered(adata):
    adata.layers["counts"], adata.X = adata.X.copy(), np.log1p(adata.X)
    model = gv.fit(adata, layer="counts", **QUICK)
    z = model.embed(adata).obsm["X_genevae"]
    only_counts = ad.AnnData(adata.layers["counts"], obs=adata.obs, var=adata.var)
    with pytest.warns(GenevaeWarning, match="trained on the layer 'counts', which .* lacks"):
        assert np.array_equal(model.embed(only_counts).obsm["X_genevae"], z)
    with pytest.raises(DataError):
        model.embed(adata, layer="X")


def test_tables_and_lists_are_data(adata):
    table = pd.DataFrame(adata.X, index=adata.obs_names, columns=adata.var_names)
    of_table = gv.fit(table, labels=adata.obs, condition="kind", **QUICK)
    of_adata = gv.fit(adata, condition="kind", **QUICK)
    assert of_table.schema.genes == of_adata.schema.genes
    assert (of_table.history["train_loss"] == of_adata.history["train_loss"]).all()
    assert len(gv.fit([adata[:25], adata[25:]], **QUICK).split) == 40
    with pytest.raises(DataError, match="columns that are not numbers: kind"):
        gv.fit(table.assign(kind="B"), **QUICK)


def test_options_of_reading_go_with_a_path(adata, tmp_path):
    table = pd.DataFrame(adata.X.astype(int), index=adata.obs_names, columns=adata.var_names)
    table.to_csv(tmp_path / "counts.csv")
    adata.obs.to_csv(tmp_path / "cells.csv")
    model = gv.fit(tmp_path / "counts.csv", metadata=tmp_path / "cells.csv", condition="kind", **QUICK)
    assert model.schema.fields == ("kind",)
    assert model.embed(tmp_path / "counts.csv", metadata=tmp_path / "cells.csv").n_obs == 40


def test_preprocessing_takes_an_anndata(adata):
    assert gv.highly_variable(adata, 5) == gv.highly_variable(adata, n_genes=5, flavor="seurat_v3")
    by_site = gv.pseudobulk(adata, "site")
    with pytest.warns(GenevaeWarning, match="groupby is by here"):
        assert list(gv.pseudobulk(adata, groupby="site").obs_names) == list(by_site.obs_names)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("help fit", "fit --help"),
        ("train cells.h5ad -o run", "fit cells.h5ad --out run"),
        ("fit cells.h5ad --condition a b --out run", "fit cells.h5ad --condition a --condition b --out run"),
        ("fit --condition a cells.h5ad --out run", "fit --condition a cells.h5ad --out run"),
        ("generate run -n 5 -o new.h5ad", "generate run --n 5 --out new.h5ad"),
        ("slurm -o job fit a", "slurm -o job fit a"),
        ("fit --batch a b cells.h5ad --out run", "fit --batch a --batch b cells.h5ad --out run"),
        ("predict run cells.h5ad --condition x", "counterfactual run cells.h5ad --condition x"),
        ("predict run cells.h5ad", "classify run cells.h5ad"),
        ("effects run cells.h5ad --condition x", "effect run cells.h5ad --to x"),
        ("embed --model run --data cells.h5ad", "embed --run run --data cells.h5ad"),
        ("commands", "--help"),
    ],
)
def test_command_lines_are_read_as_people_type_them(typed, meant):
    known = {"fit", "generate", "slurm", "classify", "counterfactual", "effect", "embed"}
    assert respelled(typed.split(), known) == meant.split()


def test_a_name_that_is_too_long_for_a_file_is_left_to_the_command():
    assert respelled(["inspect", "n" * 300], {"inspect"}) == ["inspect", "n" * 300]


def test_options_of_other_packages_on_the_command_line(capsys):
    known = {"--epochs", "--setting", "--recipe", "--to"}
    typed = ["fit", "x", "--max-epochs=3", "--dropout_rate", "0.1", "--gene-likelihood", "nb", "--to", "y"]
    assert with_our_options(typed, known) == [
        "fit",
        "x",
        "--epochs",
        "3",
        "--setting",
        "dropout=0.1",
        "--recipe",
        "nb",
        "--to",
        "y",
    ]
    assert "the option --max-epochs is --epochs here" in capsys.readouterr().err
    assert with_our_options(["fit", "--epochs", "3"], known) is None


def test_metrics_have_public_names():
    assert gv.metrics.accuracy(["a", "b"], ["a", "a"]) == 0.5
    assert all(callable(getattr(gv.metrics, name)) for name in gv.metrics.__all__)
    with pytest.raises(AttributeError, match="Did you mean 'silhouette_n'"):
        _ = gv.metrics.silhouett


def test_a_model_says_that_it_keeps_no_cells(shared, tmp_path):
    shared[0].save(tmp_path / "run")
    with pytest.raises(DataError, match="give the cells"):
        gv.load(tmp_path / "run").get_latent_representation()
    shared[1].write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(GenevaeError, match="takes the run first, and then the data"):
        gv.embed(tmp_path / "cells.h5ad", shared[1])
