"""Answers to "what if" on profiles whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from genevae.errors import CategoryError
from genevae.responses.answer import Request, Responses
from genevae.responses.profiles import Profiles

N_GENES = 60
NOISE = 0.5
"""The variance of a gene over cells."""


def responses(
    means: Mapping[tuple[str, ...], np.ndarray], fields=("type", "drug"), n: Mapping[tuple[str, ...], int] | int = 500,
    control: Mapping[str, str] | None = None, **more,
) -> Responses:  # fmt: skip
    keys = tuple(means)
    n_m = np.array([n if isinstance(n, int) else n[key] for key in keys])
    mean_mg = np.stack([means[key] for key in keys])
    profiles = Profiles(fields, keys, n_m, mean_mg, np.full_like(mean_mg, NOISE), np.zeros((len(keys), 2)))
    return Responses(profiles, {"drug": "ctrl"} if control is None else control, **more)


def request(made: Responses, context: str, target: str, source: str = "ctrl", fields=("drug",), **more) -> Request:
    view = made.profiles.view(fields)
    start = (context, source)
    return Request(fields, context, source, target, view.mean[start], view.variance[start], view.n[start], **more)


def alike(types: str = "ABCD", drugs: str = "st", shift: float = 1.0) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the profiles of types that respond alike to drugs, and the shifts."""
    rng = np.random.default_rng(0)
    shifts = {drug: shift * rng.normal(size=N_GENES) for drug in drugs}
    base = {name: rng.normal(size=N_GENES) for name in types}
    means = {(name, "ctrl"): x for name, x in base.items()}
    means |= {(name, drug): x + shifts[drug] for name, x in base.items() for drug in drugs}
    return means, shifts


def test_a_shift_to_the_source_is_zero():
    made = responses(alike()[0])
    answer = made.answer(request(made, "A", "ctrl"))
    assert not answer.shift_g.any()
    assert not answer.half_width_g.any()


def test_an_unseen_state_is_answered_exactly_where_all_contexts_respond_alike():
    means, shifts = alike()
    made = responses({key: x for key, x in means.items() if key != ("A", "s")})
    for only in ("mean shift", "weighted shift", "slope"):
        np.testing.assert_allclose(made.answer(request(made, "A", "s"), only=only).shift_g, shifts["s"], atol=1e-9)
    answer = made.answer(request(made, "A", "s"))
    assert sum(answer.weights.values()) == pytest.approx(1, abs=0.02)
    off = np.square(answer.shift_g - shifts["s"]).mean()
    assert off < 0.1 * np.square(shifts["s"]).mean()
    assert (np.abs(answer.shift_g - shifts["s"]) <= answer.half_width_g).mean() > 0.8


def test_the_wanted_state_itself_is_not_used_by_the_members():
    means, _ = alike()
    other = {**means, ("A", "s"): means["A", "s"] + 100}
    found = [made.answer(request(made, "A", "s")) for made in map(responses, (means, other))]
    for name, shift_g in found[0].members.items():
        np.testing.assert_array_equal(shift_g, found[1].members[name])


def test_a_combination_of_two_additive_parts_is_their_sum():
    rng = np.random.default_rng(1)
    parts = {name: rng.normal(size=N_GENES) for name in "pqrst"}
    base = rng.normal(size=N_GENES)
    means = {("A", "ctrl"): base, **{("A", name): base + x for name, x in parts.items()}}
    means |= {("A", f"{a}+{b}"): base + parts[a] + parts[b] for a, b in ("pq", "rs", "pr", "st", "qt")}
    made = responses(means, n=5000)
    truth_g = parts["q"] + parts["s"]
    additive = made.answer(request(made, "A", "q+s"), only="additive")
    np.testing.assert_allclose(additive.shift_g, truth_g, atol=0.1)
    answer = made.answer(request(made, "A", "q+s"))
    assert np.corrcoef(answer.shift_g, truth_g)[0, 1] > 0.99


def test_a_dose_between_two_doses_is_between_their_shifts():
    rng = np.random.default_rng(2)
    slope_g, base = rng.normal(size=N_GENES), rng.normal(size=N_GENES)
    doses = {"0.1": 1, "1": 2, "10": 3, "100": 4}  # a line in log dose, from dose zero on
    means = {("A", "ctrl", "0"): base, **{("A", "s", dose): base + at * slope_g for dose, at in doses.items()}}
    made = responses(means, ("type", "drug", "dose"), 5000, {"drug": "ctrl", "dose": "0"})
    wanted = 10**0.5
    answer = made.answer(
        request(made, "A", f"s, {wanted:.6g}", "ctrl, 0", ("drug", "dose"), dose=("dose", wanted)),
    )
    np.testing.assert_allclose(answer.members["line on log dose"], 2.5 * slope_g, atol=1e-9)
    np.testing.assert_allclose(answer.shift_g, 2.5 * slope_g, atol=0.3)
    assert np.isfinite(answer.half_width_g).all()


def test_cells_of_the_state_decide_where_they_are_many_and_the_prediction_where_they_are_few():
    means, shifts = alike()
    own_g = shifts["s"] + np.random.default_rng(3).normal(0, 0.3, N_GENES)
    means["A", "s"] = means["A", "ctrl"] + own_g
    found = {}
    for n in (4, 20_000):
        made = responses(means, n={key: n if key == ("A", "s") else 20_000 for key in means})
        found[n] = made.answer(request(made, "A", "s"))
        assert sum(found[n].weights.values()) == pytest.approx(1, abs=0.02)

    def off(n: int, from_g: np.ndarray) -> float:
        return float(np.square(found[n].shift_g - from_g).mean())

    predicted_g = responses({k: x for k, x in means.items() if k != ("A", "s")})
    predicted_g = predicted_g.answer(request(predicted_g, "A", "s")).shift_g
    assert off(20_000, own_g) < 0.01 * np.square(own_g).mean()
    assert off(4, predicted_g) < off(4, own_g)
    assert found[4].weights["observed"] < found[20_000].weights["observed"]
    assert (found[4].sd_g > found[20_000].sd_g).mean() > 0.95


def test_an_observed_state_is_not_shrunken_towards_a_prediction_that_is_wrong():
    means, shifts = alike()
    means["A", "s"] = means["A", "ctrl"] - 2 * shifts["s"]
    made = responses(means, n=2000)
    np.testing.assert_allclose(made.answer(request(made, "A", "s")).shift_g, -2 * shifts["s"], atol=0.25)


def test_an_unknown_member_is_named_with_the_nearest():
    made = responses(alike()[0])
    with pytest.raises(CategoryError, match=r"'mena shift'.*Did you mean 'mean shift'"):
        made.answer(request(made, "A", "s"), only="mena shift")


def test_where_nothing_is_known_nothing_changes_and_intervals_are_missing():
    means, _ = alike(types="A", drugs="s")
    made = responses({("A", "ctrl"): means["A", "ctrl"]})
    answer = made.answer(request(made, "A", "s"))
    assert answer.weights == {"no change": 1}
    assert not answer.shift_g.any()
    assert np.isnan(answer.half_width_g).all()
    assert np.isnan(answer.sd_g).all()
    change = np.ones(N_GENES)
    by_model = made.answer(request(made, "A", "s", model=lambda: {"model": change}))
    assert by_model.weights == {"model": 1}
    np.testing.assert_array_equal(by_model.shift_g, change)


def test_the_model_has_a_weight_where_it_predicted_states_that_it_had_not_seen():
    means, _ = alike()
    rng = np.random.default_rng(4)
    means |= {(name, "s"): means[name, "ctrl"] + rng.normal(size=N_GENES) for name in "ABCD"}  # no member knows this
    truth = {name: means[name, "s"] - means[name, "ctrl"] for name in "ABCD"}
    seen = {key: x for key, x in means.items() if key != ("A", "s")}
    left_out = {(name, "s"): {"model": truth[name]} for name in "BCD"}
    made = responses(seen, left_out_fields=("type", "drug"), left_out=left_out)
    answer = made.answer(request(made, "A", "s", model=lambda: {"model": truth["A"]}))
    assert answer.weights["model"] > 0.5
    without = replace(made, left_out_fields=(), left_out={})
    assert "model" not in without.answer(request(made, "A", "s", model=lambda: {"model": truth["A"]})).weights
