"""A fit that starts from a trained model: weights by name, shape and gene; and two views of pretrained profiles."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData
from safetensors.torch import load_file

import genevae as gv
from genevae.cli import main
from genevae.errors import GeneError, RecipeError
from genevae.runs.pretrained import recipe_like, transfer_weights

FAST = {"epochs": 2, "batch_size": 16, "n_latent": 3, "hidden": [8], "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def run(make_adata, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / "run"
    gv.fit(make_adata(40, seed=1), recipe="bulk", condition=["type"], out=path, setting={"beta_ramp": 0.2}, **FAST)
    return path


def test_the_same_genes_in_another_order_give_the_same_posterior(run, adata):
    trained = gv.load(run)
    order = np.random.default_rng(0).permutation(30)
    schema = trained.schema.with_genes([trained.schema.genes[i] for i in order])
    module = trained.recipe.build(schema)
    facts = transfer_weights(module, schema, run)
    assert facts["weights"] == facts["of"]
    assert facts["genes"] == 30
    old, new = trained.module.state_dict(), module.state_dict()
    for name in old:
        expected = old[name][order] if old[name].shape[:1] == (30,) else old[name]
        assert torch.equal(new[name], expected), name


def test_embeddings_are_matched_by_category(run, make_adata):
    trained = gv.load(run)
    cells = make_adata(40, seed=1)
    cells.obs["type"] = cells.obs["type"].astype(str).replace({"A": "D"})
    schema = gv.fit(cells, "bulk", condition=["type"], **FAST).schema
    assert schema["type"].labels == ("B", "C", "D")
    module = trained.recipe.build(schema)
    name = next(name for name in module.state_dict() if name.endswith("embeddings.0.weight"))
    fresh = module.state_dict()[name].clone()
    transfer_weights(module, schema, run)
    new, old = module.state_dict()[name], trained.module.state_dict()[name]
    assert torch.equal(new[:2], old[[trained.schema["type"].code(label) for label in "BC"]])
    assert torch.equal(new[2], fresh[2])


def test_genes_that_the_trained_model_lacks_and_other_shapes_stay_fresh(run):
    trained = gv.load(run)
    genes = ["new", *trained.schema.genes[:4]]
    schema = trained.schema.with_genes(genes)
    torch.manual_seed(3)
    fresh = trained.recipe.edit({"hidden": (8, 6)}).build(schema)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    facts = transfer_weights(fresh, schema, run)
    first, old = "_posterior.expression.weight_gh", trained.module.state_dict()
    after = fresh.state_dict()
    assert facts["genes"] == 4
    assert facts["weights"] < facts["of"]
    assert torch.equal(after[first][0], before[first][0])
    assert torch.equal(after[first][1:], old[first][:4])
    assert torch.equal(after["_posterior.head.both.weight"], before["_posterior.head.both.weight"])
    with pytest.raises(GeneError, match="none of these genes"):
        transfer_weights(fresh, schema.with_genes(list("abcde")), run)


def test_the_recipe_is_that_of_the_run_or_another_with_its_model(run):
    assert recipe_like(None, run).settings() == gv.load(run).recipe.settings()
    contrastive = recipe_like("contrastive", run)
    assert contrastive.name == "contrastive"
    assert contrastive.model == gv.load(run).recipe.model
    assert recipe_like("nb", run).model.hidden == (8,)


def test_fine_tuning_starts_where_the_run_ended(run, adata):
    """With a learning rate of almost zero, what was learned stays."""
    model = gv.fit(adata, from_run=run, condition=["type"], learning_rate=1e-9, epochs=1, progress=False, device="cpu")
    assert model.recipe.settings()["beta_ramp"] == 0.2
    assert model.facts["from"]["weights"] == model.facts["from"]["of"]
    for name, tensor in gv.load(run).module.named_parameters():
        torch.testing.assert_close(model.module.get_parameter(name), tensor, rtol=0, atol=1e-6)


def write_profiles(path: Path, seed: int = 0) -> None:
    """Twelve donors with programmes of their own: one pseudobulk of each, and three cell types."""
    rng = np.random.default_rng(seed)
    donor, cell_type = rng.normal(size=(12, 20)), 2 * rng.normal(size=(3, 20))
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["", "donor", "kind", *(f"ENSG{g:011d}" for g in range(20))])
        for d in range(12):
            types = [5 + donor[d] + t + 0.1 * rng.normal(size=20) for t in cell_type]
            rows = [("pseudobulk", np.mean(types, 0)), *(("type", t) for t in types)]
            for i, (kind, x) in enumerate(rows):
                out.writerow([f"s{d}_{i}", f"donor {d}", kind, *map(str, x)])


@pytest.mark.parametrize("posterior", ["frozen", pytest.param("joint", marks=pytest.mark.slow)])
def test_pseudobulk_and_cell_types_find_each_other_through_two_projections(posterior, tmp_path, capsys):
    table, first, second, out = (tmp_path / name for name in ("profiles.csv", "vae", "pairs", "latent.h5ad"))
    write_profiles(table)
    small = ["--hidden", "16", "--n-latent", "8", "--batch-size", "12", "--learning-rate", "0.01", "--device", "cpu"]
    main(["fit", str(table), "--transpose=false", "--recipe", "bulk", "--epochs", "60", *small, "--out", str(first)])
    capsys.readouterr()
    main([
        "fit", str(table), "--transpose=false", "--from", str(first), "--recipe", "contrastive", "--group", "donor",
        "--view", "kind", "--split-by", "donor", "--epochs", "100", "--batch-size", "12", "--device", "cpu",
        "--learning-rate", "0.01", "--setting", "keep_best=false", "--setting", "patience=0",
        "--setting", f"posterior={posterior}", "--setting", "contrastive_weight=10", "--out", str(second),
    ])  # fmt: skip
    said = capsys.readouterr().out
    before, after = (load_file(run / "model.safetensors") for run in (first, second))
    assert f"From     {first}: {len([n for n in before if n in after])} of " in said
    names = [name for name in before if name.startswith("_posterior")]
    assert all(torch.equal(before[name], after[name]) for name in names) == (posterior == "frozen")
    assert {name.split(".")[1] for name in after if name.startswith("projection")} == {"first", "second"}
    main(["embed", str(second), str(table), "--transpose=false", "--out", str(out)])
    latent = gv.read(out)
    p, kind = latent.obsm["X_genevae_projected"], latent.obs["kind"].to_numpy()
    donor = latent.obs["donor"].astype(str).to_numpy()
    bulk, types = kind == "pseudobulk", kind == "type"
    found = donor[bulk][(p[types] @ p[bulk].T).argmax(1)]
    assert (found == donor[types]).mean() > 0.5  # of twelve
    assert json.loads((second / "schema.json").read_text())["view"]["categories"] == ["pseudobulk", "type"]


def test_views_that_no_group_has_both_of_and_columns_of_three_are_errors(adata: AnnData):
    adata.obs["kind"] = np.where(adata.obs["lane"] == "l1", "a", "b")
    with pytest.raises(RecipeError, match="No group has cells of both views"):
        gv.fit(adata, recipe="contrastive", group="lane", view="kind", **FAST)
    with pytest.raises(gv.GenevaeError, match="A view has two categories, and 'type' has 3"):
        gv.fit(adata, recipe="contrastive", group="lane", view="type", **FAST)
