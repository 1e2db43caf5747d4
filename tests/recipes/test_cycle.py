"""What is the recipe cycle's alone."""

from __future__ import annotations

import numpy as np
import pytest

from genevae.errors import RecipeError
from genevae.recipes.cycle import CYCLE
from genevae.runs.fit import fit
from genevae.runs.load import load
from genevae.tasks.embed import embed
from genevae.tasks.influence import influence

FAST = {"recipe": "cycle", "epochs": 2, "batch_size": 16, "progress": False, "device": "cpu"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"continuous": ["dose"]}, "'dose' is a number"),
        ({"condition": ["drug"], "combine": ["drug"]}, "--combine drug"),
        ({"setting": {"norm": "layer"}}, "no setting 'norm'"),
        ({"setting": {"head_scale": 0}}, "head_scale"),
        ({"setting": {"shared_networks": True}, "hidden": [4, 3]}, "layers of one width"),
        ({"setting": {"head_scaling": "fited"}}, "Did you mean 'fitted'"),
    ],
    ids=str,
)
def test_what_heads_have_no_place_for_is_refused(adata, given, words):
    with pytest.raises(RecipeError, match=words):
        fit(adata, **given, **FAST)


def test_centred_values_are_refused(adata):
    adata.X = adata.X.toarray() - adata.X.mean()
    with pytest.raises(RecipeError, match="never negative"):
        fit(adata, **FAST)


@pytest.mark.parametrize("scaling", ["constant", "learned", "fitted"])
def test_every_scaling_trains(adata, scaling):
    setting = {"head_scaling": scaling, "head_weight_decay": 0.1, "category_dropout": 0.2}
    model = fit(adata, condition=["type", "drug"], setting=setting, **FAST)
    assert np.isfinite(model.history["validation_loss"]).all()
    assert (model.module.heads.scale.item() == pytest.approx(0.0159)) == (scaling == "constant")


def test_training_starts_with_heads_that_add_as_much_as_the_base_whatever_their_widths(adata):
    """At 128 hidden units a constant of 0.0159 multiplies a cell by thousands, from which training does not return."""
    wide = {"n_latent": 128, "hidden": [128], "learning_rate": 1e-4, "batch_size": 128, "epochs": 1}
    losses = {}
    for scaling in ("fitted", "constant"):
        model = fit(adata, condition=["type", "drug"], setting={"head_scaling": scaling}, **{**FAST, **wide})
        losses[scaling] = model.history["validation_cycle"].iloc[-1]
    assert losses["fitted"] < 1 < losses["constant"]
    assert CYCLE.settings()["head_scaling"] == "fitted"


def test_the_base_keeps_its_share_of_the_prediction(adata):
    shares = {}
    for share in (0.0, 0.3):
        model = fit(adata, condition=["type", "drug"], setting={"base_share": share}, **{**FAST, "epochs": 40})
        shares[share] = influence(model, adata).loc["base", "influence"]
        assert model.history["influence base"].between(0, 1).all()
    assert shares[0.3] > 0.25
    assert shares[0.3] > shares[0.0]


def test_networks_can_be_shared_by_encoding_and_decoding_and_are_saved_once(adata, tmp_path):
    options = {**FAST, "hidden": [4, 4], "condition": ["type", "drug"]}
    shared = fit(adata, setting={"shared_networks": True}, out=tmp_path / "run", **options)
    apart = fit(adata, **options)
    for head in shared.module.heads.heads:
        assert head.encode_hidden is head.decode_hidden
    n = [sum(p.numel() for p in model.module.parameters()) for model in (shared, apart)]
    assert n[1] - n[0] == 5 * 2 * 4 * 4, "two layers of five categories"
    restored = load(tmp_path / "run")
    np.testing.assert_array_equal(embed(restored, adata).obsm["X_genevae"], embed(shared, adata).obsm["X_genevae"])


def test_base_and_metadata_heads_have_weight_decays_of_their_own(adata):
    model = fit(adata, condition=["type", "drug"], **FAST)
    objective = model.recipe.make_objective(model.schema, 2)
    rest, heads = CYCLE.edit({"head_weight_decay": 0.5}).parameter_groups(model.module, objective)
    assert heads["weight_decay"] == 0.5
    assert "weight_decay" not in rest
    names = {id(parameter): name for name, parameter in model.module.named_parameters()}
    assert all("heads.heads" in names[id(parameter)] for parameter in heads["params"])
    everything = [*model.module.parameters(), *objective.parameters()]
    assert sorted(map(id, [*rest["params"], *heads["params"]])) == sorted(map(id, everything))


def test_cells_whose_categories_are_missing_are_trained_on_and_embedded(adata):
    adata.obs["drug"] = adata.obs["drug"].astype(object)
    adata.obs.loc[adata.obs_names[:10], "drug"] = None
    model = fit(adata, condition=["type", "drug"], **FAST)
    assert model.schema.n_categories["drug"] == 2
    assert np.isfinite(model.history["validation_loss"]).all()
