"""Dose-response curves: a model whose curves are known, and the words of the errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from genevae.errors import CategoryError, DataError, GeneError
from genevae.runs.fit import fit
from genevae.tasks.counterfactual import counterfactual
from genevae.tasks.curves import half_effect_dose
from genevae.tasks.dose_response import dose_response

FAST = {"epochs": 40, "n_latent": 2, "hidden": [16], "batch_size": 32, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def treated() -> AnnData:
    """Counts of six genes, of which the first rises eight-fold with drug A, half of it at dose 1."""
    rng = np.random.default_rng(0)
    drug = rng.choice(["none", "A"], 300, p=[0.3, 0.7])
    dose = np.where(drug == "none", 0.0, rng.choice([0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0], 300))
    rate = np.full((300, 6), 20.0)
    rate[:, 0] *= 1 + 7 * dose**1.5 / (dose**1.5 + 1)
    obs = pd.DataFrame({"drug": drug, "dose": dose}, index=[f"c{i}" for i in range(300)])
    adata = AnnData(rng.poisson(rate).astype(np.float32), obs=obs)
    adata.var_names = [f"G{i}" for i in range(6)]
    return adata


@pytest.fixture(scope="module")
def model(treated):
    fields = {"condition": ["drug"], "continuous": ["dose"], "control": {"drug": "none"}}
    return fit(treated, recipe="dose", **fields, **FAST)


def test_the_curve_of_the_gene_that_responds_is_found(model, treated):
    table = dose_response(model, treated, size=150.0)
    first = table.loc["G0"]
    assert first["max_effect"].iloc[0] > 30
    assert 0.3 < first["ec50"].iloc[0] < 3
    assert first["mean"].iloc[0] == pytest.approx(20 * 150 / 120, rel=0.2)
    assert (first["mean"].diff().dropna() > -0.5).all()
    assert table.groupby("gene")["max_effect"].first().abs().idxmax() == "G0"


def test_the_table_has_a_row_for_each_gene_and_dose(model, treated):
    table = dose_response(model, treated, doses=[10, 0.5], genes=["G3", "G0"])
    assert list(table.index) == ["G3"] * 3 + ["G0"] * 3
    assert list(table["dose"]) == [0.0, 0.5, 10.0] * 2
    assert list(table.columns) == ["dose", "mean", "lower", "upper", "max_effect", "ec50"]
    assert (table["lower"] <= table["mean"]).all()
    assert (table["mean"] <= table["upper"]).all()


def test_a_wider_interval_holds_more(model, treated):
    narrow, wide = (dose_response(model, treated, interval=i) for i in (0.5, 0.95))
    pd.testing.assert_series_equal(narrow["mean"], wide["mean"])
    assert (wide["upper"] - wide["lower"] >= narrow["upper"] - narrow["lower"]).all()
    treated_rows = wide["dose"] > 0
    assert (wide["upper"] > wide["lower"])[treated_rows].all()


def test_it_agrees_with_the_counterfactual_at_the_same_dose(model, treated):
    curve = dose_response(model, treated, doses=[3.0])
    same = counterfactual(model, treated, condition={"drug": "A", "dose": "3"}).X.mean(0)
    np.testing.assert_allclose(curve.loc[curve["dose"] == 3, "mean"], same, rtol=0.05)


def test_it_does_not_depend_on_the_batch_size(model, treated):
    one, other = (dose_response(model, treated, doses=[1.0], batch_size=size) for size in (300, 37))
    np.testing.assert_allclose(one["mean"], other["mean"], rtol=0.02)
    torch.manual_seed(3)
    pd.testing.assert_frame_equal(one, dose_response(model, treated, doses=[1.0], batch_size=300))


def test_the_doses_that_are_asked_by_default_reach_from_the_lowest_to_the_highest(model, treated):
    doses = dose_response(model, treated).loc["G0", "dose"].to_numpy()
    assert len(doses) == 25
    np.testing.assert_allclose(doses[[0, 1, -1]], [0, 0.01, 100])
    untreated = treated[treated.obs["drug"] == "none"].copy()
    assert dose_response(model, untreated)["dose"].max() == pytest.approx(100)


def test_a_gene_that_hardly_changes_has_no_ec50(model, treated):
    table = dose_response(model, treated, least_change=0.99)
    assert table["ec50"].isna().all()


@given(ec50=st.floats(0.02, 50), top=st.floats(-9, 9).filter(lambda x: abs(x) > 0.1))
def test_the_half_effect_dose_of_a_hill_curve_is_its_ec50(ec50, top):
    doses = [0.0, *np.geomspace(1e-4, 1e6, 400)]
    change = top * np.array(doses) / (np.array(doses) + ec50)
    assert half_effect_dose(doses, change) == pytest.approx(ec50, rel=1e-2)


def test_half_reached_below_the_lowest_dose_or_no_change_is_missing():
    assert np.isnan(half_effect_dose([0, 1, 10], np.array([0.0, 3.0, 4.0])))
    assert np.isnan(half_effect_dose([0, 1, 10], np.zeros(3)))


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"field": "dos"}, CategoryError, "Did you mean 'dose'"),
        ({"field": "drug"}, CategoryError, "categorical"),
        ({"condition": {"drug": "B"}}, CategoryError, "'B' is not a category"),
        ({"condition": {"dose": "3"}}, CategoryError, "--doses"),
        ({"doses": [-1.0]}, DataError, "-1"),
        ({"doses": [float("nan")]}, DataError, "nan"),
        ({"genes": ["G9"]}, GeneError, "G9"),
        ({"answer": "lin"}, CategoryError, "line on log dose"),
        ({"interval": 1.0}, DataError, "interval"),
        ({"size": -1.0}, DataError, "size"),
    ],
)
def test_every_wrong_argument_is_its_typed_error(model, treated, asked, error, words):
    with pytest.raises(error, match=words):
        dose_response(model, treated, **asked)


def test_a_model_without_a_dose_or_with_two_drugs_says_so(tiny_model, adata):
    with pytest.raises(CategoryError, match="has no dose"):
        dose_response(tiny_model, adata)
    drugs = np.where(np.arange(40) % 2, adata.obs["drug"].astype(str), "other")
    two = fit(AnnData(adata.X, adata.obs.assign(drug=drugs), adata.var), recipe="nb", condition=["drug"],
              continuous=["dose"], control={"drug": "ctrl"}, **{**FAST, "epochs": 1})  # fmt: skip
    with pytest.raises(CategoryError, match="Give the drug"):
        dose_response(two, AnnData(adata.X, adata.obs.assign(drug=drugs), adata.var))
