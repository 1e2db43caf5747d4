"""One battery for every recipe; settings, their errors, and the config file."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genevae.cli import main
from genevae.data.schema import Categorical, Continuous, Schema
from genevae.data.transforms.transform import AsIs, LogNormalise
from genevae.data.value_kind import Kind
from genevae.errors import CategoryError, DataError, GeneError, RecipeError
from genevae.objectives.objective import Progress
from genevae.recipes.describe import settings_of
from genevae.recipes.registry import RECIPES, Recipe, recipe_named
from genevae.runs.config import Covariates, Expression, RunOptions, SplitOptions
from genevae.runs.config_file import read_config, write_config
from genevae.runs.fit import fit
from genevae.runs.load import load
from genevae.runs.trained import save
from genevae.tasks.embed import embed
from genevae.training.settings import flat

FAST = {"epochs": 2, "batch_size": 16, "n_latent": 3, "hidden": [8], "progress": False, "device": "cpu"}
NEEDS: dict[str, dict[str, object]] = {
    "contrastive": {"group": "lane"},
    "adversarial": {"batch": "lane"},
    "programs": {"gene_sets": {"one": [f"G{i}" for i in range(9)], "two": [f"G{i}" for i in range(5, 15)]}},
    "semi": {"condition": ["type", "drug"]},
    "dose": {"condition": ["drug"], "continuous": ["dose"]},
    "cycle": {"continuous": ()},
}
"""What a recipe cannot do without, or cannot do with."""
LATENT = {"cycle": 3 + 3 * 8, "programs": 3 + 2}
"""Width of the latent where it is more than ``n_latent``: the hidden states of the base and of three heads; and two
gene sets."""


@pytest.fixture(params=RECIPES)
def name(request) -> str:
    return request.param


def logged(adata):
    x = adata.X.toarray()
    adata.X = np.log1p(1e4 * x / x.sum(1, keepdims=True)).astype(np.float32)
    return adata


@pytest.mark.parametrize("name", ["nb", "gaussian", "convolutional", "dose"])
def test_the_decoder_has_dropout_where_it_is_set_and_in_training_only(name, make_cells):
    dose = Continuous("dose", 1.0, 1.0, 0.0, 3.0)
    schema = Schema(tuple("abcdefg"), Kind.COUNTS, categorical=(Categorical("type", ("A", "B", "C")),),
                    continuous=(dose,))  # fmt: skip
    cells = make_cells()
    for share, differ in ((0.0, False), (0.5, True)):
        torch.manual_seed(0)
        model = RECIPES[name].edit({"dropout": 0, "decoder_dropout": share, "n_latent": 2}).build(schema)
        noise = torch.zeros(1, 12, 2)
        first, second = (model.terms(cells, noise_snk=noise) for _ in range(2))
        assert torch.equal(first.log_px_sn, second.log_px_sn) != differ, share
        assert torch.equal(first.kl_n, second.kl_n)
        model.eval()
        first, second = (model.terms(cells, noise_snk=noise) for _ in range(2))
        assert torch.equal(first.log_px_sn, second.log_px_sn)


def test_every_recipe_fits_saves_and_embeds(name, adata, tmp_path):
    given = {"condition": ["type", "drug"], "continuous": ["dose"], "batch": "lane", **NEEDS.get(name, {})}
    model = fit(adata, recipe=name, **given, **FAST)
    assert len(model.history) == 2
    assert np.isfinite(model.history["validation_loss"]).all()
    save(model, tmp_path / "run")
    z = embed(load(tmp_path / "run"), adata).obsm["X_genevae"]
    assert z.shape == (40, LATENT.get(name, 3))
    assert np.isfinite(z).all()


def test_every_recipe_fits_without_any_condition(name, adata):
    model = fit(adata, recipe=name, **FAST, **NEEDS.get(name, {}))
    assert np.isfinite(model.history["validation_loss"]).all()


def test_recipes_for_counts_refuse_logarithms_and_the_others_take_them(name, adata):
    adata = logged(adata)
    if RECIPES[name].model.needs_counts:
        with pytest.raises((DataError, RecipeError), match="count"):
            fit(adata, recipe=name, **FAST)
    else:
        model = fit(adata, recipe=name, **FAST, **NEEDS.get(name, {}))
        assert getattr(model.schema.transform, "inner", model.schema.transform) == AsIs()
        assert np.isfinite(model.history["validation_loss"]).all()


def test_every_recipe_survives_json(name):
    recipe = RECIPES[name].edit({"n_latent": 5, "hidden": (7, 6), "target_loss": 3.0, "beta": 0.5})
    written = json.loads(json.dumps(recipe.settings()))
    assert RECIPES[name].edit(written) == recipe


def test_every_recipe_survives_texts_as_the_command_line_gives_them(name):
    texts = {"n_latent": "5", "hidden": "7, 6", "beta": "0.25", "keep_best": "False", "epochs": "3"}
    settings = RECIPES[name].edit(texts).settings()
    wanted = {"n_latent": 5, "hidden": (7, 6), "beta": 0.25, "keep_best": False, "epochs": 3}
    assert {setting: settings[setting] for setting in wanted} == wanted


def test_an_unknown_setting_is_an_error_with_the_nearest(name):
    with pytest.raises(RecipeError, match=r"no setting 'n_latnt'. Did you mean 'n_latent'"):
        RECIPES[name].edit({"n_latnt": 3})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("n_latent", "many"), ("n_latent", 1.5), ("n_latent", None), ("n_latent", True), ("hidden", "8,x"),
     ("hidden", [8, None]), ("hidden", [8.5]), ("dropout", "some"), ("dropout", None), ("encode_condition", "perhaps"),
     ("activation", 3), ("epochs", "soon"), ("prior", None)],
)  # fmt: skip
def test_a_setting_of_the_wrong_type_is_an_error_that_names_it(name, setting, value):
    if setting not in RECIPES[name].settings():
        pytest.skip(f"{name} has no {setting}")
    with pytest.raises(RecipeError, match=setting):
        RECIPES[name].edit({setting: value})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("n_latent", 0), ("hidden", ()), ("hidden", (8, 0)), ("dropout", 1.0), ("dropout", -0.1), ("norm", "bach"),
     ("activation", "rel"), ("prior", "normal"), ("size", "given"), ("epochs", 0), ("batch_size", 1), ("beta", -1.0),
     ("beta_ramp", 1.5), ("beta_ramp", -0.5), ("reconstruction_weight", -1.0), ("embedding_widths", (0,)),
     ("beta", float("nan")), ("learning_rate", 0.0), ("weight_decay", -1.0)],
)  # fmt: skip
def test_a_value_that_no_model_can_use_is_an_error_that_names_it(name, setting, value):
    if setting not in RECIPES[name].settings():
        pytest.skip(f"{name} has no {setting}")
    with pytest.raises(RecipeError, match=setting):
        RECIPES[name].edit({setting: value})


def test_a_misspelt_word_is_answered_with_the_nearest():
    with pytest.raises(RecipeError, match="Did you mean 'batch'"):
        RECIPES["nb"].edit({"norm": "bach"})
    with pytest.raises(RecipeError, match=r"no recipe 'nbb'. Did you mean 'nb'"):
        recipe_named("nbb")
    with pytest.raises(RecipeError, match="Did you mean 'gene-cell'"):
        RECIPES["nb"].edit({"dispersion": "gene-cel"})


@pytest.mark.parametrize("beta_ramp", [0.0, 0.25, 1.0])
def test_the_objective_settles_at_the_recipes_beta(name, beta_ramp):
    lane = Categorical("lane", ("l1", "l2"), technical=True)
    kind = Categorical("type", ("A", "B"))
    schema = Schema(("a", "b"), Kind.COUNTS, categorical=(kind, lane), group=lane)
    objective = RECIPES[name].edit({"beta": 0.7, "beta_ramp": beta_ramp}).make_objective(schema, 10)
    assert objective.beta(999, 1000) == 0.7
    assert objective.settled(Progress(1000, 1000))


def test_a_recipe_for_expression_log_normalises_what_is_linear():
    gaussian = RECIPES["gaussian"].model
    assert gaussian.transform(Kind.COUNTS) == LogNormalise()
    assert gaussian.transform(Kind.LOG) == AsIs()
    assert gaussian.transform(Kind.SCALED) == AsIs()


@pytest.mark.parametrize(
    "settings",
    [
        {"size": "learned"},
        {"prior": "conditional"},
        {"dispersion": "gene-category"},
        {"dispersion": "gene-cell"},
        {"norm": "layer"},
        {"activation": "elu"},
    ],
    ids=str,
)
def test_every_choice_of_parts_trains(settings, adata):
    model = fit(adata, recipe="nb", condition=["type"], batch="lane", setting=settings, **FAST)
    assert np.isfinite(model.history["validation_loss"]).all()
    assert {name: model.recipe.settings()[name] for name in settings} == settings


def test_a_dispersion_per_category_needs_a_category(adata):
    with pytest.raises(RecipeError, match="needs a condition"):
        fit(adata, setting={"dispersion": "gene-category"}, **FAST)


def test_the_users_data_are_not_changed_by_fit(adata):
    before = adata.copy()
    fit(adata, recipe="gaussian", condition=["type"], batch="lane", **FAST)
    assert (before.X != adata.X).nnz == 0
    assert before.obs.equals(adata.obs)
    assert list(before.obsm) == list(adata.obsm)


def test_options_and_settings_win_over_the_recipe(adata):
    recipe = RECIPES["nb"].edit({"dropout": 0.4, "n_latent": 9})
    model = fit(adata, recipe=recipe, setting={"dropout": 0.2}, **FAST)
    assert (model.recipe.model.dropout, model.recipe.model.n_latent) == (0.2, 3)


def test_a_number_given_twice_is_an_error(adata):
    with pytest.raises(RecipeError, match="'n_latent' is given twice"):
        fit(adata, setting={"n_latent": 7}, **FAST)


@pytest.mark.parametrize(("theirs", "ours"), [("use_rep", "layer"), ("logs", "callbacks")])
def test_a_peers_option_is_answered_with_ours(adata, theirs, ours):
    with pytest.raises(RecipeError, match=f"'{theirs}'; here it is: {ours}"):
        fit(adata, **{theirs: 1}, **FAST)


def test_every_setting_has_a_name_of_its_own(name):
    recipe = RECIPES[name]
    parts = [flat(recipe.model), flat(recipe.objective), flat(recipe.training)]
    assert sum(map(len, parts)) == len(recipe.settings())


def test_every_setting_is_described_with_its_default_and_its_values(name, capsys):
    main(["recipes", name])
    words = " ".join(capsys.readouterr().out.split())
    for setting in settings_of(RECIPES[name]):
        assert f"{setting.name} = " in words
        assert setting.valid in words
        assert setting.meaning, setting.name
        assert " ".join(setting.meaning.split()) in words
    assert [setting.name for setting in settings_of(RECIPES[name])] == list(RECIPES[name].settings())


def test_settings_are_described_as_they_are_typed(capsys):
    main(["recipes", "bulk-large"])
    lines = capsys.readouterr().out.splitlines()
    assert "  hidden = 4096,2048,1024,512,256  (integers with commas, 1 or more)" in lines
    assert "  beta_schedule = cyclic  (linear, cosine, exponential, cyclic)" in lines
    assert "  target_loss = none  (number or none)" in lines


def test_an_unknown_setting_is_answered_with_all_of_them(name):
    with pytest.raises(RecipeError) as error:
        RECIPES[name].edit({"n_laten": 3})
    assert "Did you mean 'n_latent'?" in str(error.value)
    assert all(setting in str(error.value) for setting in RECIPES[name].settings())


def test_options_of_fit_are_the_fields_of_its_config():
    parameters = inspect.signature(fit).parameters
    for part in (Covariates, Expression, SplitOptions, RunOptions):
        for field in fields(part):
            assert parameters[field.name].default == field.default, field.name


def test_split_names_every_cell_and_its_part(adata):
    model = fit(adata, validation=0.2, test=0.25, **FAST)
    assert model.split.index.tolist() == adata.obs_names.tolist()
    assert model.split.value_counts().to_dict() == {"training": 22, "validation": 8, "test": 10}


def test_a_combination_that_is_held_out_is_not_remembered(adata):
    model = fit(adata, condition=["type", "drug"], hold_out={"type": "A", "drug": "stim"}, **FAST)
    held_out = (adata.obs["type"] == "A") & (adata.obs["drug"] == "stim")
    assert held_out.any()
    assert set(model.split[held_out.to_numpy()]) == {"test"}
    codes = {"type": model.schema["type"].code("A"), "drug": model.schema["drug"].code("stim")}
    assert model.reference.agreement_n(codes).max() == 1


def test_genes_can_be_named_and_keep_their_order(adata):
    model = fit(adata, genes=["G7", "G2", "G11"], **FAST)
    assert model.schema.genes == ("G7", "G2", "G11")
    assert len(fit(adata, genes=12, **FAST).schema.genes) == 12


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"recipe": "nbb"}, RecipeError, "Did you mean 'nb'"),
        ({"condition": ["tpye"]}, CategoryError, "Did you mean 'type'"),
        ({"batch": "lan"}, CategoryError, "Did you mean 'lane'"),
        ({"continuous": ["type"]}, DataError, "should contain numbers"),
        ({"control": {"drug": "ctrl"}}, CategoryError, "not a condition"),
        ({"condition": ["drug"], "control": {"drug": "ctr"}}, CategoryError, "Did you mean 'ctrl'"),
        ({"genes": ["G1", "Gx"]}, GeneError, "Gx"),
        ({"layer": "count"}, DataError, "count"),
        ({"stratify": "type", "split_by": "lane"}, DataError, "one way only"),
        ({"stratify": "kind"}, CategoryError, "no obs column 'kind'"),
        ({"split_by": "kind"}, CategoryError, "no obs column 'kind'"),
        ({"validation": 1.5}, DataError, "1.5"),
        ({"setting": {"betta": 1}}, RecipeError, "Did you mean 'beta'"),
        ({"device": "gpus"}, RecipeError, "no device 'gpus'"),
        ({"compile": "no"}, RecipeError, "compile must be True or False, not 'no'"),
        ({"cuda_graphs": 1}, RecipeError, "cuda_graphs must be True or False, not 1"),
    ],
    ids=str,
)
def test_every_wrong_argument_of_fit_is_its_typed_error(adata, wrong, error, words):
    with pytest.raises(error, match=words):
        fit(adata, **{**FAST, **wrong})


def test_every_recipe_says_what_it_is(name):
    recipe = RECIPES[name]
    assert isinstance(recipe, Recipe)
    assert recipe.name == name
    assert recipe.description.endswith(".")
    assert {"n_latent", "hidden", "beta", "learning_rate"} <= set(recipe.settings())


VALUES = st.one_of(st.text(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.booleans())
NAMES = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
SETTINGS = st.dictionaries(NAMES, st.one_of(VALUES, st.lists(VALUES, max_size=3)), max_size=4)
TABLES = st.dictionaries(st.from_regex(r"t[0-9]{2}", fullmatch=True),
                         st.dictionaries(st.text(), VALUES, min_size=1, max_size=3), max_size=2)  # fmt: skip


@given(SETTINGS, TABLES)
def test_a_config_is_read_as_it_was_written(tmp_path_factory, settings, tables):
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_text(write_config({**settings, **tables}), encoding="utf-8")
    assert read_config(path) == {**settings, **tables}


def test_a_config_leaves_out_what_is_none_and_tables_that_are_empty(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(write_config({"seed": 0, "batch": None, "control": {}, "setting": {"epochs": None, "beta": 1.0}}))
    assert read_config(path) == {"seed": 0, "setting": {"beta": 1.0}}


def test_the_config_of_a_fit_repeats_it(adata, tmp_path):
    model = fit(adata, recipe="zinb", condition=["type"], control={"type": "A"}, seed=3, **FAST)
    path = tmp_path / "config.toml"
    path.write_text(model.facts["config"], encoding="utf-8")
    config = read_config(path)
    again = fit(adata, **config, progress=False, device="cpu")
    assert again.recipe == model.recipe
    assert torch.equal(again.reference.mean_nk, model.reference.mean_nk)


@pytest.mark.parametrize("content", ["a = ", "[", "a = 1\na = 2"])
def test_a_config_that_is_not_toml_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "config.toml").write_text(content)
    with pytest.raises(RecipeError, match=r"config\.toml is not TOML"):
        read_config(tmp_path / "config.toml")


def test_a_config_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(RecipeError, match=r"Cannot read the config file .*config\.toml"):
        read_config(tmp_path / "config.toml")
