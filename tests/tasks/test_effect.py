"""Effects: what they say of data whose answer is known, and the laws that hold for any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from genevae.errors import CategoryError, DataError, GenevaeWarning
from genevae.runs.fit import fit
from genevae.tasks.counterfactual import counterfactual
from genevae.tasks.effect import effect

RAISED = {f"G{i}" for i in range(20, 25)}
EPSILON = 1e-5


@pytest.fixture(scope="module")
def logged(make_adata):
    return fit(make_adata(), recipe="gaussian", condition=["type", "drug"], control={"drug": "ctrl"}, epochs=30,
               batch_size=32, n_latent=4, hidden=[32], learning_rate=5e-3, progress=False, device="cpu")  # fmt: skip


@pytest.fixture(scope="module")
def table(tiny_model, make_adata) -> pd.DataFrame:
    return effect(tiny_model, make_adata(), field="drug")


def test_the_genes_that_the_drug_raises_are_found_in_every_type(table):
    assert table.groupby(["type", "drug"], sort=False).size().to_dict() == dict.fromkeys(
        [("A", "stim"), ("B", "stim"), ("C", "stim")], 30
    )
    for _, rows in table.groupby("type"):
        first = rows[rows["rank"] <= 5]
        assert set(first["gene"]) == RAISED
        assert first["lfc"].between(1, 5).all(), "the truth is 3: eight times as much, less the growth of the total"
        assert rows["rank"].tolist() == list(range(1, 31))
        assert rows["lfc"].abs().is_monotonic_decreasing


def test_a_model_of_logarithms_finds_them_too(logged, make_adata):
    told = effect(logged, make_adata(), field="drug")
    for kind in "AB":  # of C, no cell was ever seen with the drug
        assert set(told.loc[told["type"] == kind, "gene"][:5]) == RAISED
    np.testing.assert_allclose(told["lfc"], (told["mean"] - told["control_mean"]) / np.log(2))


def test_the_change_follows_its_formula(table):
    extra = EPSILON * table.groupby("type")["control_mean"].transform("sum")
    np.testing.assert_allclose(table["lfc"], np.log2((table["mean"] + extra) / (table["control_mean"] + extra)))


def test_it_starts_from_the_cells_seen_under_control(table, make_adata):
    control = make_adata().obs.query("drug == 'ctrl'")["type"].astype(str).value_counts()
    assert table.groupby("type")["n_cells"].first().to_dict() == control.to_dict()


def test_its_means_are_those_of_counterfactuals_and_of_the_cells(tiny_model, make_adata):
    adata = make_adata(2000, seed=3)
    cells = adata[((adata.obs["drug"] == "ctrl") & (adata.obs["type"] == "A")).to_numpy()].copy()
    table = effect(tiny_model, adata, field="drug").query("type == 'A'").set_index("gene")
    table = table.loc[list(tiny_model.schema.genes)]
    unlimited = replace(tiny_model, reference=replace(tiny_model.reference, limits=None))
    expected = counterfactual(unlimited, cells, condition={"drug": "stim"}).X.mean(0)
    raised = table.index.isin(RAISED)  # of which the dispersion is that of other genes
    np.testing.assert_allclose(table["mean"][~raised], expected[~raised], rtol=0.15)
    np.testing.assert_allclose(table["mean"][raised], expected[raised], rtol=0.5)
    np.testing.assert_allclose(table["control_mean"], np.asarray(cells.X.mean(0)).ravel(), rtol=1e-5)


def test_all_cells_together_are_the_weighted_mean_of_the_types(tiny_model, table, make_adata):
    told = effect(tiny_model, make_adata(), field="drug", by=()).set_index("gene")
    weighted = (table["mean"] * table["n_cells"]).groupby(table["gene"]).sum() / told["n_cells"]
    np.testing.assert_allclose(told["mean"], weighted[told.index], rtol=1e-4)


def test_an_effect_on_cells_alone_does_not_depend_on_the_others(tiny_model, table, make_adata):
    adata = make_adata()
    adata.obs["drug"] = adata.obs["drug"].astype(str)
    few = adata[(adata.obs["type"] == "B").to_numpy()]
    alone = effect(tiny_model, few, field="drug").set_index("gene")
    np.testing.assert_allclose(
        alone["lfc"], table.query("type == 'B'").set_index("gene")["lfc"][alone.index], atol=0.15
    )


def test_intervals_hold_the_change_and_a_wider_one_holds_a_narrower(tiny_model, make_adata):
    narrow, wide = (effect(tiny_model, make_adata(), field="drug", interval=i) for i in (0.5, 0.95))
    assert (wide["lower"] <= narrow["lower"]).all()
    assert (wide["upper"] >= narrow["upper"]).all()
    assert ((wide["lower"] <= wide["lfc"]) & (wide["upper"] >= wide["lfc"])).mean() > 0.95


def test_support_is_the_mean_over_the_cells_of_their_own(tiny_model, table, make_adata):
    adata = make_adata()
    cells = adata[(adata.obs["drug"] == "ctrl").to_numpy()].copy()
    obs = counterfactual(tiny_model, cells, condition={"drug": "stim"}).obs
    support = obs.groupby("type", observed=True)["support"]
    told = table.groupby("type")["support"].first()
    np.testing.assert_allclose(told, support.mean()[told.index], rtol=1e-3)
    assert told["C"] <= 2 / 3, "two of three fields agree with cells that were seen"


def test_only_what_was_asked_for_comes_back(tiny_model, make_adata):
    told = effect(tiny_model, make_adata(), field="type", control="A", to=["C"], by=["lane"])
    assert set(told["type"]) == {"C"}
    assert set(told["lane"]) == {"l1", "l2"}
    assert "drug" not in told


def test_the_same_seed_gives_the_same_bits_and_the_callers_numbers_stay(tiny_model, adata):
    before = torch.get_rng_state()
    one, other, third = (effect(tiny_model, adata, field="drug", seed=s) for s in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), before)
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    by_model = [effect(tiny_model, adata, field="drug", answer="latent arithmetic", seed=s) for s in (4, 5)]
    assert by_model[0]["mean"].equals(by_model[1]["mean"]), "the model's shift is of posterior means"
    assert one["mean"].equals(third["mean"])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"field": "drgu"}, CategoryError, "Did you mean 'drug'"),
        ({"field": "type"}, CategoryError, "'type' has no control"),
        ({"field": "drug", "control": "ctr"}, CategoryError, "Did you mean 'ctrl'"),
        ({"field": "drug", "to": ["stm"]}, CategoryError, "Did you mean 'stim'"),
        ({"field": "drug", "to": ["ctrl"]}, CategoryError, "nothing to compare with 'ctrl'"),
        ({"field": "drug", "by": ["lan"]}, CategoryError, "Did you mean 'lane'"),
        ({"field": "drug", "answer": "modl"}, CategoryError, "Did you mean 'model'"),
        ({"field": "drug", "change": -1.0}, DataError, "change"),
        ({"field": "drug", "replicate": "donor"}, CategoryError, "'donor' is neither"),
        ({"field": "drug", "interval": 1.0}, DataError, "interval"),
        ({"field": "drug", "batch_size": 0}, DataError, "batch_size"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_its_typed_error(arguments, error, words, tiny_model, adata):
    with pytest.raises(error, match=words):
        effect(tiny_model, adata, **arguments)


def test_data_without_a_control_cell_are_a_typed_error(tiny_model, adata):
    with pytest.raises(CategoryError, match=r"has no control cells, with 'drug' = 'ctrl'"):
        effect(tiny_model, adata[(adata.obs["drug"] == "stim").to_numpy()].copy(), field="drug")


def untreated(n: int, seed: int, donors: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """Return NB counts of 100 genes in cells that were not treated, and labels drawn at random, over donors if any."""
    rng = np.random.default_rng(seed)
    mean_g = rng.gamma(1, 4, 100) + 0.2
    if donors:
        donor_n = np.arange(n) % donors
        mean_ng = (mean_g * rng.lognormal(0, 0.3, (donors, 100)))[donor_n]
        label_n = rng.permutation(np.arange(donors) % 2)[donor_n]
    else:
        donor_n, mean_ng, label_n = np.zeros(n, dtype=int), np.tile(mean_g, (n, 1)), rng.integers(0, 2, n)
    counts_ng = rng.poisson(mean_ng * rng.gamma(3, 1 / 3, mean_ng.shape)).astype(np.float32)
    return counts_ng, pd.DataFrame({"label": np.array(["ctrl", "stim"])[label_n], "donor": [f"d{i}" for i in donor_n]})


def null_effects(counts_ng: np.ndarray, obs: pd.DataFrame, context=(), **more) -> pd.DataFrame:
    cells = AnnData(sparse.csr_matrix(counts_ng), obs=obs.set_index(np.array([f"c{i}" for i in range(len(obs))])))
    cells.var_names = [f"G{i}" for i in range(counts_ng.shape[1])]
    model = fit(cells, recipe="nb", condition=["label"], control={"label": "ctrl"}, context=context, epochs=1,
                batch_size=128, n_latent=2, hidden=[8], progress=False, device="cpu")  # fmt: skip
    return effect(model, cells, field="label", **more)


@pytest.mark.parametrize("seed", range(2))
def test_labels_drawn_at_random_have_no_effect(seed):
    counts_ng, obs = untreated(600, seed)
    table = null_effects(counts_ng, obs, interval=0.95)
    assert ((table["lower"] > 0) | (table["upper"] < 0)).mean() <= 0.06


@pytest.mark.parametrize("seed", range(2))
def test_effects_that_were_planted_are_found_among_none(seed):
    counts_ng, obs = untreated(600, seed)
    treated = (obs["label"] == "stim").to_numpy()
    genes = np.argsort(counts_ng.mean(0))[60:70]  # with some counts in most cells
    counts_ng[np.ix_(treated, genes)] *= 3
    table = null_effects(counts_ng, obs, interval=0.95).set_index("gene")
    planted = [f"G{i}" for i in genes]
    assert (table.loc[planted, "lower"] > 0).all()
    assert set(table.index[table["lower"] > 0]) == set(planted)
    assert (table.loc[planted, "rank"] <= 10).all()


def test_labels_drawn_at_random_over_donors_have_no_effect_on_replicates():
    share = []
    for seed in range(3):
        with pytest.warns(GenevaeWarning, match="compare 8 replicates"):
            table = null_effects(*untreated(600, seed, donors=8), context=["donor"], replicate="donor")
        share.append((table["p_value"] < 0.05).mean())
    assert np.mean(share) <= 0.06
