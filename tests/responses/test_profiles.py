"""Profiles: which fields are contexts, how replicates are pooled, and what is kept of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from genevae.responses.profiles import Profiles, dose_of, text_of

FIELDS = ("type", "drug", "donor")
NESTED = [("T", "ctrl", "d1"), ("T", "ctrl", "d2"), ("T", "stim", "d3"), ("T", "stim", "d4"),
          ("B", "ctrl", "d1"), ("B", "stim", "d3")]  # fmt: skip


def profiles(keys, n_genes: int = 5, seed: int = 0, fields=FIELDS) -> Profiles:
    rng, m = np.random.default_rng(seed), len(keys)
    mean_mg, variance_mg = rng.normal(size=(m, n_genes)), rng.gamma(1, 1, (m, n_genes))
    return Profiles(tuple(fields), tuple(keys), rng.integers(5, 50, m), mean_mg, variance_mg, rng.normal(size=(m, 2)))


def test_fields_nested_in_those_that_are_set_are_replicates():
    made = profiles(NESTED)
    assert made.contexts(["drug"]) == ("type",), "each donor had one drug"
    assert made.contexts(["donor"]) == ("type", "drug")
    assert made.contexts(["type"]) == ("drug", "donor")
    assert made.contexts(["type", "drug"]) == ("donor",), "donors have both types"
    assert text_of({"type": "T", "drug": "ctrl", "donor": "d9"}, made.contexts(["drug"])) == "T"


def test_a_donor_with_both_drugs_makes_donors_contexts():
    assert profiles([*NESTED, ("B", "stim", "d1")]).contexts(["drug"]) == ("type", "donor")


def test_where_all_have_one_level_nothing_is_nested():
    assert profiles([key for key in NESTED if key[1] == "ctrl"]).contexts(["drug"]) == ("type", "donor")


def test_a_pooled_mean_is_that_over_all_cells():
    made = profiles(NESTED)
    view = made.view(["drug"])
    assert set(view.mean) == {("T", "ctrl"), ("T", "stim"), ("B", "ctrl"), ("B", "stim")}
    np.testing.assert_allclose(view.mean["T", "ctrl"], np.average(made.mean_mg[:2], axis=0, weights=made.n_m[:2]))
    np.testing.assert_allclose(view.latent["T", "ctrl"], np.average(made.latent_mk[:2], axis=0, weights=made.n_m[:2]))
    assert view.n["T", "ctrl"] == made.n_m[:2].sum()
    np.testing.assert_array_equal(view.mean["B", "stim"], made.mean_mg[5])


def simulated(between: float, n_donors: int = 6, n_cells: int = 40, n_genes: int = 3000) -> Profiles:
    """Return donors that vary, each with cells of variance one."""
    rng = np.random.default_rng(0)
    keys = [("T", drug, f"{drug}{i}") for drug in ("ctrl", "stim") for i in range(n_donors)]
    true_mg = rng.normal(0, between, (len(keys), n_genes))
    mean_mg = true_mg + rng.normal(0, n_cells**-0.5, true_mg.shape)
    variance_mg = rng.chisquare(n_cells - 1, true_mg.shape) / n_cells
    return Profiles(FIELDS, tuple(keys), np.full(len(keys), n_cells), mean_mg, variance_mg, np.zeros((len(keys), 2)))


@pytest.mark.parametrize("between", [0.0, 0.5])
def test_the_variance_of_a_mean_includes_that_between_replicates(between):
    view = simulated(between).view(["drug"])
    expected = (between**2 + 1 / 40) / 6
    assert np.mean(view.variance["T", "ctrl"]) == pytest.approx(expected, rel=0.1 if between else 0.3)
    observed = np.var(view.mean["T", "ctrl"])
    assert observed == pytest.approx(expected, rel=0.1)


def test_a_state_of_one_cell_has_the_variance_of_the_others():
    made = simulated(0.0)
    n_m, variance_mg = made.n_m.copy(), made.variance_mg.copy()
    n_m[0], variance_mg[0] = 1, 0
    view = Profiles(FIELDS, made.keys, n_m, made.mean_mg, variance_mg, made.latent_mk).view(["donor"])
    assert np.mean(view.variance["T, ctrl", "ctrl0"]) == pytest.approx(1, rel=0.1)


def test_a_round_trip_is_exact():
    made = profiles(NESTED)
    again = Profiles.restore(json.loads(json.dumps(made.to_json())), made.to_arrays())
    assert (again.fields, again.keys) == (made.fields, made.keys)
    for name, array in made.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)


@pytest.mark.parametrize("change", [{"n_m": np.ones(5)}, {"mean_mg": np.ones((7, 5))}, {"latent_mk": np.ones((0, 2))}])
def test_columns_of_several_lengths_are_an_error(change):
    made = profiles(NESTED)
    with pytest.raises(ValueError, match="several lengths"):
        Profiles.restore(made.to_json(), {**made.to_arrays(), **change})


def test_a_dose_is_a_number_or_none():
    assert dose_of("0.5") == 0.5
    assert np.isnan(dose_of("high"))
