"""Combinations of perturbations: sums of embeddings, whatever the order, also of pairs that no cell had."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

from genevae.cells import Condition
from genevae.data.covariates import Categorical
from genevae.errors import CategoryError
from genevae.metrics.response import profile
from genevae.nn.conditioning import Conditioning
from genevae.runs.fit import fit
from genevae.runs.load import load
from genevae.runs.trained import save
from genevae.tasks.classify import classify
from genevae.tasks.counterfactual import counterfactual
from genevae.tasks.generate import generate

PARTS = "ABCD"
FEW = settings(max_examples=15)
NAMES = st.lists(st.sampled_from(PARTS), min_size=1, max_size=3, unique=True).map("+".join)
HELD_OUT = "A+C"


def embedded(field: Categorical, made: Conditioning, word: str) -> torch.Tensor:
    code = torch.tensor([field.code(word)])
    return made(Condition(torch.ones(1, 1), {"drug": code}))[0]


@FEW
@given(st.lists(NAMES, min_size=2, max_size=6), st.integers(0, 99))
def test_a_combination_is_the_sum_of_its_parts_in_any_order(words, seed):
    torch.manual_seed(seed)
    field = Categorical.fit(pd.Series(["ctrl", *words], name="drug"), control="ctrl", combined=True)
    made = Conditioning({"drug": field.n_codes}, parts={"drug": field.parts})
    for category in field.categories:
        parts = category.split("+")
        total = torch.stack([embedded(field, made, part) for part in parts]).sum(0)
        for order in itertools.permutations(parts):
            torch.testing.assert_close(embedded(field, made, "+".join(order)), total)


@FEW
@given(st.lists(NAMES, min_size=2, max_size=6))
def test_every_pair_of_treated_parts_can_be_asked_for(words):
    field = Categorical.fit(pd.Series(["ctrl", *words], name="drug"), control="ctrl", combined=True)
    parts = sorted({part for word in words for part in word.split("+")})
    for pair in itertools.permutations(parts, 2):
        codes = field.encode(pd.Series(["+".join(pair), "+".join(pair[::-1])], name="drug"))
        assert codes[0] == codes[1] == field.code("+".join(pair))
    assert len({frozenset(category.split("+")) for category in field.categories}) == len(field.categories)
    with pytest.raises(CategoryError, match=r"A\+Z"):
        field.code("A+Z")


def test_order_matters_where_no_combinations_were_announced():
    field = Categorical.fit(pd.Series(["A+B", "A"], name="drug"))
    with pytest.raises(CategoryError, match=r"B\+A"):
        field.code("B+A")


@pytest.fixture(scope="module")
def pairs() -> AnnData:
    """Counts of 24 genes; each of four drugs multiplies five, two of them a neighbour's, and pairs do both."""
    rng = np.random.default_rng(0)
    drugs = ["ctrl", *PARTS, *("+".join(pair) for pair in itertools.combinations(PARTS, 2))]
    drug_n = np.repeat(drugs, 60)
    log_rate = np.tile(rng.normal(2.0, 0.4, 24), (len(drug_n), 1)) + rng.normal(0, 0.2, (len(drug_n), 1))
    for number, name in enumerate(PARTS):
        log_rate[[name in word.split("+") for word in drug_n], 4 * number : 4 * number + 5] += 1.2 * (-1) ** number
    obs = pd.DataFrame({"drug": drug_n}, index=[f"c{i}" for i in range(len(drug_n))])
    adata = AnnData(rng.poisson(np.exp(log_rate)).astype(np.float32), obs=obs)
    adata.var_names = [f"G{i}" for i in range(24)]
    return adata


@pytest.fixture(scope="module")
def model(pairs):
    return fit(pairs, recipe="nb", condition=["drug"], control={"drug": "ctrl"}, combine=["drug"],
               hold_out={"drug": HELD_OUT}, epochs=60, n_latent=2, hidden=[32], batch_size=64, learning_rate=5e-3,
               progress=False, device="cpu")  # fmt: skip


def test_the_effect_of_a_pair_that_was_held_out_is_foretold(model, pairs):
    untreated = pairs[pairs.obs["drug"] == "ctrl"].copy()
    true = profile(pairs.X[pairs.obs["drug"] == HELD_OUT])
    asked = {order: counterfactual(model, untreated, condition={"drug": order}, n_draws=5) for order in ("A+C", "C+A")}
    np.testing.assert_array_equal(asked["A+C"].X, asked["C+A"].X)
    error = np.mean((profile(asked["A+C"].X) - true) ** 2)
    others = {name: profile(pairs.X[pairs.obs["drug"] == name]) for name in ("ctrl", "A", "C")}
    for name, told in others.items():
        assert error < np.mean((told - true) ** 2) / 3, name


def test_support_is_none_for_a_pair_that_no_cell_had_and_more_for_one_that_some_had(model, pairs):
    untreated = pairs[pairs.obs["drug"] == "ctrl"].copy()
    unseen, seen = (
        counterfactual(model, untreated, condition={"drug": pair}, n_draws=2).obs["support"].mean()
        for pair in (HELD_OUT, "A+B")
    )
    assert unseen == 0
    assert seen > 0.2


def test_cells_of_a_pair_that_no_cell_had_can_be_generated(model, pairs):
    made = generate(model, n=200, condition={"drug": HELD_OUT})
    assert set(made.obs["drug"]) == {HELD_OUT}
    true = profile(pairs.X[pairs.obs["drug"] == HELD_OUT])
    none = profile(pairs.X[pairs.obs["drug"] == "ctrl"])
    assert np.mean((profile(made.X) - true) ** 2) < np.mean((none - true) ** 2) / 3


@pytest.mark.parametrize("method", ["posterior", "reconstruction"])
def test_only_what_training_cells_had_is_told(model, pairs, method, tmp_path):
    score = {"posterior": "probability", "reconstruction": "error"}[method]
    table = classify(model, pairs[::7].copy(), field="drug", method=method)
    told = {name.removeprefix(f"{score} ") for name in table.columns[3:]}
    assert told == set(pairs.obs["drug"]) - {HELD_OUT}
    assert set(table["label"]) <= told
    save(model, tmp_path / "run")
    pd.testing.assert_frame_equal(
        classify(load(tmp_path / "run"), pairs[::7].copy(), field="drug", method=method), table
    )
