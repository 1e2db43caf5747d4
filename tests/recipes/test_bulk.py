"""System B's recipes: bulk, bulk-large and contrastive."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from genevae.data.pair_sampler import Pairs
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.errors import CategoryError, RecipeError, TrainingError
from genevae.io.read_options import ReadOptions
from genevae.objectives.masking import mask_genes
from genevae.recipes.registry import RECIPES
from genevae.runs.fit import fit
from genevae.tasks.denoise import denoise
from genevae.tasks.embed import embed
from genevae.tasks.inference import open_cells

FAST = {"epochs": 3, "batch_size": 16, "n_latent": 3, "hidden": [8], "progress": False, "device": "cpu"}
MASKS = ["validation_reconstruction", "validation_reconstruction_fixed_mask", "validation_reconstruction_dynamic_mask"]
SCHEMA = Schema(tuple("abcdef"), Kind.LOG)


@pytest.mark.parametrize("name", ["bulk", "bulk-large", "contrastive"])
def test_the_numbers_are_those_that_were_announced(name):
    wanted = {
        "activation": "elu", "norm": "batch", "dropout": 0.3, "standardise": True, "beta": 0.1,
        "beta_schedule": "cyclic", "beta_cycle": 40, "beta_curve": "cosine", "mask_low": 0.05, "mask_high": 0.25,
    }  # fmt: skip
    settings = RECIPES[name].settings()
    assert {setting: settings[setting] for setting in wanted} == wanted
    assert settings["beta_decay"] < 1
    assert RECIPES["bulk-large"].model.hidden == (4096, 2048, 1024, 512, 256)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "exponential", "cyclic"])
@pytest.mark.parametrize("n_steps", [1, 7, 400, 4000])
def test_every_schedule_reaches_its_target(schedule, n_steps):
    beta = RECIPES["bulk"].edit({"beta_schedule": schedule}).objective.annealing.schedule(400)
    assert beta(n_steps - 1, n_steps) == beta.target == (0.1 if schedule != "cyclic" else 0.1 * 0.8**9)


def test_cycles_are_forty_epochs_long_and_each_peak_is_lower_than_the_last():
    annealing = RECIPES["bulk"].objective.annealing
    beta = annealing.schedule(200)
    starts = [beta(epoch, 200) for epoch in range(0, 200, 40)]
    peaks = [beta(epoch, 200) for epoch in range(39, 200, 40)]
    assert starts == [0.0] * 5
    np.testing.assert_allclose(peaks, [0.1 * annealing.beta_decay**k for k in range(5)])


def test_validation_reports_whole_fixed_and_dynamic_masks(adata):
    history = fit(adata, recipe="bulk", **FAST).history
    assert set(MASKS) <= set(history)
    assert np.isfinite(history[MASKS]).all().all()


def test_the_history_has_beta_of_every_epoch(adata):
    settings = {"beta_cycle": 4, "beta_decay": 0.5}
    history = fit(adata, recipe="bulk", setting=settings, **{**FAST, "epochs": 9, "batch_size": 12}).history
    beta, n_steps = RECIPES["bulk"].edit(settings).objective.annealing.schedule(9), int(history["step"].iloc[-1])
    each = np.array([beta(step, n_steps) for step in range(n_steps)]).reshape(9, 3)
    np.testing.assert_allclose(history["beta"], each.mean(1), rtol=1e-5)


@pytest.mark.parametrize("standardise", [True, False])
def test_the_mean_squared_error_is_in_the_units_of_the_table(standardise, tmp_path):
    """Against results as they are written: the reconstruction of one draw, in a table of logarithms."""
    rng = np.random.default_rng(0)
    x = 5 + rng.normal(size=(60, 8)) * np.array([0.1, 0.2, 0.5, 1, 2, 3, 4, 5])
    rows = [["", *(f"G{g}" for g in range(8))], *([f"s{n}", *map(str, row)] for n, row in enumerate(x))]
    with (tmp_path / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    settings = {"standardise": standardise, "beta": 100.0, "beta_schedule": "linear", "beta_ramp": 0}
    model = fit(
        ReadOptions(tmp_path / "table.csv", transpose=False), recipe="bulk", setting=settings, **{**FAST, "epochs": 400}
    )
    validation = (model.split == "validation").to_numpy()
    mean_only = ((x[validation] - x[~validation].mean(0)) ** 2).mean()  # with so high a β, nothing is known of a cell
    assert model.history["validation_mse"].iloc[-1] == pytest.approx(mean_only, rel=0.25)


def test_training_stops_at_a_target_of_the_mean_squared_error_with_the_weights_of_that_epoch(adata):
    first = fit(adata, recipe="bulk", **{**FAST, "epochs": 6}).history["validation_mse"]
    target = float(first.iloc[2:4].min())
    model = fit(adata, recipe="bulk", setting={"target_mse": target}, **{**FAST, "epochs": 6})
    assert model.history["validation_mse"].iloc[-1] <= target
    assert (model.history["validation_mse"].iloc[:-1] > target).all()
    assert model.facts["best_epoch"] == len(model.history)
    assert "mean squared error" in model.facts["ended"]
    with pytest.raises(TrainingError, match="validation cells"):
        fit(adata, recipe="bulk", setting={"target_mse": target}, validation=0, **FAST)


def test_the_folder_of_a_run_has_a_picture_of_its_curves(adata, tmp_path):
    fit(adata, recipe="bulk", out=tmp_path / "run", **FAST)
    pixels = imread(tmp_path / "run" / "training.png")
    assert pixels[..., :3].std() > 0.01
    assert pixels.shape[1] > 2 * pixels.shape[0]  # loss, error and β, side by side


def test_without_a_mask_nothing_is_hidden(adata):
    model = fit(adata, recipe="bulk", setting={"mask_low": 0, "mask_high": 0}, **FAST)
    assert not set(MASKS[1:]) & set(model.history)
    assert model.module._posterior.missing_g is None


@pytest.mark.parametrize("standardise", [True, False])
def test_a_hidden_gene_enters_as_its_mean_or_as_a_number_that_is_learned_for_it(adata, standardise):
    model = fit(adata, recipe="bulk", setting={"standardise": standardise, "components": False}, **FAST)
    (cells,) = open_cells(model, adata, None, 64)
    learned_g = model.module._posterior.missing_g
    assert (learned_g is None) == standardise
    learned_g = torch.zeros(30) if learned_g is None else learned_g.detach()
    assert (learned_g == 0).all() == standardise
    torch.manual_seed(0)
    hidden = mask_genes(cells, 0.5)
    filled_ng = torch.where(hidden.condition.measured_ng, cells.x.dense(), learned_g)
    filled = type(cells)(type(cells.x).from_dense(filled_ng), cells.condition, cells.row_n)
    with torch.no_grad():
        torch.testing.assert_close(model.module.posterior(hidden).mean, model.module.posterior(filled).mean)


def test_answers_are_on_the_scale_of_the_logarithms(adata):
    model = fit(adata, recipe="bulk", **{**FAST, "epochs": 40})
    x = adata.X.toarray()
    logged = np.log1p(1e6 * x / x.sum(1, keepdims=True))
    expected = denoise(model, adata, n_draws=2)
    assert str(expected.uns["genevae"]["values"]) == "log-normalised"
    assert np.abs(expected.X.mean(0) - logged.mean(0)).max() < 0.5 * logged.std()


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.2), (0.3, 0.2), (0.0, 1.0)])
def test_shares_that_cannot_be_are_refused(low, high):
    with pytest.raises(RecipeError, match=r"mask_(low|high) must be"):
        RECIPES["bulk"].edit({"mask_low": low, "mask_high": high})


# --- contrastive ------------------------------------------------------------------------------------------------------


def test_contrastive_needs_a_group(adata):
    with pytest.raises(RecipeError, match="--group donor"):
        fit(adata, recipe="contrastive", **FAST)
    with pytest.raises(CategoryError, match="Did you mean 'lane'"):
        fit(adata, recipe="contrastive", group="lan", **FAST)


def test_contrastive_trains_on_pairs_and_embeds_through_its_projection(adata):
    model = fit(adata, recipe="contrastive", group="lane", setting={"n_projection": 5}, **FAST)
    assert np.isfinite(model.history[["contrastive", "validation_contrastive", "validation_retrieval"]]).all().all()
    assert set(MASKS) <= set(model.history)
    found = embed(model, adata)
    assert found.obsm["X_genevae"].shape == (40, 3)
    np.testing.assert_allclose(np.linalg.norm(found.obsm["X_genevae_projected"], axis=1), 1, rtol=1e-5)
    assert found.obsm["X_genevae_projected"].shape == (40, 5)


def test_new_cells_need_no_group(adata):
    model = fit(adata, recipe="contrastive", group="lane", **FAST)
    without = adata.copy()
    del without.obs["lane"]
    np.testing.assert_array_equal(embed(model, without).obsm["X_genevae"], embed(model, adata).obsm["X_genevae"])


def test_cells_without_a_group_are_paired_with_themselves(adata):
    adata.obs["donor"] = np.where(np.arange(40) < 30, adata.obs["lane"], None)
    model = fit(adata, recipe="contrastive", group="donor", **FAST)
    assert model.schema.group.categories == ("l1", "l2")
    assert np.isfinite(model.history["validation_loss"]).all()


def test_a_posterior_of_the_bound_does_not_learn_from_pairs(adata):
    """However much pairs weigh, the first step, which starts from the same weights, changes the posterior alike."""
    setting = {"posterior": "bound", "clip": 1e9}
    once = {**FAST, "epochs": 1, "batch_size": 64}
    light, heavy = (
        fit(adata, recipe="contrastive", group="lane", setting={**setting, "contrastive_weight": weight}, **once)
        for weight in (1.0, 1000.0)
    )
    for name, tensor in light.module._posterior.state_dict().items():
        assert torch.equal(tensor, heavy.module._posterior.state_dict()[name]), name
    changed = light.module.projection.out.weight, heavy.module.projection.out.weight
    assert not torch.equal(*changed)


def test_samplers_are_pairs_and_what_pairs_cannot_do_is_refused(adata):
    recipe = RECIPES["contrastive"]
    rows = np.arange(4)
    assert isinstance(recipe.objective.training_sampler(rows, rows, None, recipe.training, 0), Pairs)
    assert isinstance(recipe.objective.validation_sampler(rows, rows, recipe.training, 0), Pairs)
    with pytest.raises(RecipeError, match="balance"):
        fit(adata, recipe="contrastive", group="lane", balance="type", **FAST)
    with pytest.raises(RecipeError, match="cells_per_epoch"):
        fit(adata, recipe="contrastive", group="lane", setting={"cells_per_epoch": 10}, **FAST)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("temperature", 0.0), ("contrastive_weight", -1.0), ("n_projection", 0), ("posterior", "cold")],
)
def test_settings_that_no_comparison_can_use_are_refused(setting, value):
    with pytest.raises(RecipeError, match=setting):
        RECIPES["contrastive"].edit({setting: value})
