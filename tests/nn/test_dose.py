"""Laws of dose responses: zero at zero, never falling, finite gradients; the control is the dose zero of any drug."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genevae.cells import Condition
from genevae.data.schema import Schema
from genevae.data.value_kind import Kind
from genevae.errors import RecipeError
from genevae.nn.dose import RESPONSES, DosedConditioning, Doses, HillResponse, Response
from genevae.recipes.dose import DOSE
from genevae.recipes.registry import Recipe

N_DRUGS = 4
LARGEST = 10.0
DOSES = torch.cat([torch.zeros(1), torch.logspace(-5, 2, 60)])


@pytest.fixture(params=RESPONSES, scope="module")
def shape(request) -> str:
    return request.param


def response(shape: str, seed: int, spread: float = 1.0) -> Response:
    """A response with random parameters."""
    torch.manual_seed(seed)
    made = RESPONSES[shape](N_DRUGS, LARGEST)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return made


@given(seed=st.integers(0, 200), spread=st.floats(0, 10), drug=st.integers(0, N_DRUGS - 1))
def test_it_is_zero_at_zero_and_never_falls_and_stays_below_one(shape, seed, spread, drug):
    h = response(shape, seed, spread)(DOSES, torch.full((len(DOSES),), drug)).detach()
    assert h[0] == 0
    assert (h.diff() >= -1e-6).all()
    assert h.max() <= 1 + 1e-6


@given(seed=st.integers(0, 200), spread=st.floats(0, 10))
def test_every_gradient_is_finite_over_five_orders_of_magnitude_and_at_zero(shape, seed, spread):
    made = response(shape, seed, spread)
    dose = DOSES.clone().requires_grad_()
    for drug in range(N_DRUGS):
        made(dose, torch.full((len(DOSES),), drug)).sum().backward()
    for each in (dose, *made.parameters()):
        assert torch.isfinite(each.grad).all()


def test_every_parameter_learns(shape):
    made = response(shape, 0, 0.3)
    made(torch.tensor([0.0, 0.01, 1.0, 7.0]).repeat(N_DRUGS), torch.arange(N_DRUGS).repeat_interleave(4)).pow(
        2
    ).sum().backward()
    for parameter in made.parameters():
        assert (parameter.grad.abs().sum() > 0).all()


@given(seed=st.integers(0, 200))
def test_a_hill_curve_is_half_at_its_ec50_and_follows_its_formula(seed):
    made = response("hill", seed)
    assert isinstance(made, HillResponse)
    drug = torch.arange(N_DRUGS)
    torch.testing.assert_close(made(made.ec50_c, drug), torch.full((N_DRUGS,), 0.5))
    d, n = torch.tensor([0.3, 2.0, 5.0, 11.0]), made.slope_c
    torch.testing.assert_close(made(d, drug), d**n / (d**n + made.ec50_c**n))


@pytest.mark.parametrize("true", [lambda d: d**2 / (d**2 + 0.5**2), lambda d: 0.4 * (d > 0.01) + 0.6 * d / (d + 3)])
def test_a_free_response_can_take_the_shape_of_others(true):
    torch.manual_seed(0)
    made = RESPONSES["free"](1, LARGEST)
    d, drug = torch.logspace(-3, 1, 40), torch.zeros(40, dtype=torch.int64)
    optimizer = torch.optim.Adam(made.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (made(d, drug) - true(d)).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.004


@given(dose=st.floats(0, 1e4), mean=st.floats(0, 1e4), scale=st.floats(1, 1e3))
def test_doses_come_back_in_their_own_units(dose, mean, scale):
    value = torch.tensor([(dose - mean) / scale], dtype=torch.float32)
    found = float(Doses(mean, scale, largest=2e4)(value))
    assert found == pytest.approx(dose, rel=1e-3, abs=3e-2)
    assert found >= 0


def conditioning(control: int | None = 0) -> DosedConditioning:
    parts = {"drug": [(0,), (1,), (1, 2), (2,)]}  # ctrl, A, A+B, B
    return DosedConditioning(
        "drug", "dose", Doses(2.0, 3.0, LARGEST), response("hill", 1), n_categories={"type": 3, "drug": 4},
        continuous=["dose", "age"], parts=parts, control=control,
    )  # fmt: skip


def ask(made: DosedConditioning, drug: int, dose: float) -> torch.Tensor:
    values = {"dose": torch.tensor([(dose - 2.0) / 3.0]), "age": torch.zeros(1)}
    codes = {"type": torch.tensor([1]), "drug": torch.tensor([drug])}
    return made(Condition(torch.ones(1, 1), codes, values))


def test_the_control_and_the_dose_zero_of_any_drug_are_the_same_point():
    made = conditioning()
    untreated = ask(made, 0, 0.0)
    for drug, dose in ((1, 0.0), (2, 0.0), (3, 0.0), (0, 5.0)):
        assert torch.equal(ask(made, drug, dose), untreated)
    assert not torch.equal(ask(made, 1, 1.0), untreated)
    assert untreated.shape == (1, made.n_out)


@given(st.floats(0.01, 10))
def test_a_combination_is_the_sum_of_its_parts_at_that_dose(dose):
    made = conditioning()
    nothing, a, b, both = (ask(made, drug, dose) for drug in (0, 1, 3, 2))
    torch.testing.assert_close(both - nothing, (a - nothing) + (b - nothing))


OBS = pd.DataFrame({
    "type": list("xyxyxy"), "drug": ["ctrl", "A", "A", "B", "B", "ctrl"], "dose": [0, 1, 5, 1, 5, 0], "age": range(6),
})  # fmt: skip


def schema(obs: pd.DataFrame = OBS, **fields: object) -> Schema:
    fields = {"condition": ["type", "drug"], "continuous": ["dose"], "control": {"drug": "ctrl"}, **fields}
    return Schema.fit(list("abcd"), obs, Kind.COUNTS, **fields)


def test_the_recipe_finds_the_drug_by_its_control(shape):
    model = DOSE.edit({"dose_response": shape}).build(schema(continuous=["dose", "age"]))
    found = [part for part in model.modules() if isinstance(part, DosedConditioning)]
    assert len(found) == 2  # of the posterior and of the likelihood
    assert {(part.drug, part.dose, part.continuous) for part in found} == {("drug", "dose", ("age",))}
    assert isinstance(found[0].response, RESPONSES[shape])


def test_the_recipe_takes_the_first_condition_or_the_one_that_is_named():
    def drug_of(recipe: Recipe, known: Schema) -> str:
        return next(part.drug for part in recipe.build(known).modules() if isinstance(part, DosedConditioning))

    assert drug_of(DOSE, schema(control=None)) == "type"
    assert drug_of(DOSE.edit({"drug": "drug"}), schema(control=None)) == "drug"


def test_counts_of_the_control_do_not_depend_on_the_dose():
    model = DOSE.edit({"n_latent": 2, "hidden": (4,)}).build(schema()).eval()
    z = torch.randn(3, 2)
    asked = [Condition(torch.ones(3, 1), {"type": torch.arange(3) % 2, "drug": torch.full((3,), 2)},
                       {"dose": torch.full((3,), dose)}) for dose in (-0.5, 2.0)]  # fmt: skip
    means = [model.likelihood(z, condition).mean for condition in asked]
    assert torch.equal(*means)


@pytest.mark.parametrize(
    ("recipe", "fields", "words"),
    [
        (DOSE, {"condition": [], "control": None}, "needs the drug as a condition"),
        (DOSE, {"continuous": []}, "needs the dose as a continuous condition"),
        (DOSE.edit({"drug": "drgu"}), {}, "Did you mean 'drug'"),
        (DOSE.edit({"dose": "dos"}), {}, "Did you mean 'dose'"),
    ],
)
def test_what_is_missing_is_an_error_that_says_so(recipe, fields, words):
    with pytest.raises(RecipeError, match=words):
        recipe.build(schema(**fields))


def test_logarithms_of_doses_are_refused():
    with pytest.raises(RecipeError, match="not as logarithms"):
        DOSE.build(schema(OBS.assign(dose=np.log10(OBS["dose"] + 1e-3))))
