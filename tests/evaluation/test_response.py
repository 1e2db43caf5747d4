"""What is asked of runs about perturbations, and what is answered."""

from __future__ import annotations

import numpy as np
import pytest

from genevae.data.value_kind import Kind
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.response import evaluate as response
from genevae.evaluation.response.evaluate import SAME_STATE
from genevae.evaluation.response.scores import METRICS
from genevae.evaluation.response.states import cases, perturbations, training_rows
from genevae.evaluation.scale import in_units_of, logged
from genevae.metrics.distances import E_DISTANCE
from genevae.metrics.response import SHIFT_PEARSON, log_normalised
from genevae.report.records import Bars, Points, scores_to_frame
from genevae.responses.members import members
from genevae.runs.fit import fit

RNG = np.random.default_rng(0)


def train(adata, **settings):
    return fit(
        adata, condition=["type", "drug"], control={"drug": "ctrl"}, epochs=20, batch_size=64, n_latent=4, hidden=[32],
        learning_rate=5e-3, progress=False, device="cpu", **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def context(make_adata):
    """Two runs of one data set, of which stimulated B were held out."""
    adata = make_adata(500)
    held = {"hold_out": {"type": "B", "drug": "stim"}}
    runs = {"counts": train(adata, recipe="nb", **held), "values": train(adata, recipe="conditional", **held)}
    return EvaluationContext(runs, adata, Kind.COUNTS)


@pytest.fixture(scope="module")
def section(context):
    assert response.unavailable_reason(context) is None
    return response.evaluate(context)


def test_the_held_out_state_is_asked_for_from_control_cells_of_its_type(context):
    perturbation = next(perturbations(context.models["counts"], context))
    (case,) = cases(context.models["counts"], "counts", context, perturbation)
    assert (case.state, case.name, case.held_out) == (("B", "stim"), "B", True)
    obs = context.cells.obs
    assert set(zip(obs["type"].iloc[case.true_rows], obs["drug"].iloc[case.true_rows], strict=True)) == {("B", "stim")}
    assert set(zip(obs["type"].iloc[case.control_rows], obs["drug"].iloc[case.control_rows], strict=True)) == {
        ("B", "ctrl")
    }


def test_baselines_know_training_cells_only(context):
    perturbation = next(perturbations(context.models["counts"], context))
    rows = training_rows(context.models["counts"], "counts", context, perturbation)
    assert set(rows) == {("A", "ctrl"), ("A", "stim"), ("B", "ctrl"), ("C", "ctrl")}
    trained = (context.part_n("counts") == "training").to_numpy()
    assert all(trained[each].all() for each in rows.values())


def test_seen_combinations_are_told_from_held_out_answers(make_adata):
    adata = make_adata(500)
    context = EvaluationContext({"run": train(adata, recipe="nb", test=0.3)}, adata, Kind.COUNTS)
    section = response.evaluate(context)
    assert {score.of for score in section.scores} == {"seen combinations", "A", "B"}
    assert any(score.who == SAME_STATE and score.role == "ceiling" for score in section.scores)
    assert any("2 of 2 seen combinations" in verdict.text for verdict in section.verdicts)


def test_every_run_stands_beside_baselines_and_a_ceiling(section):
    table = scores_to_frame([section])
    means = table[table["of"] == "held-out answers"]
    of_counts = means[means["metric"] == SHIFT_PEARSON.name].set_index("who")["value"]
    assert {"counts", "values", "mean shift (counts)", "no change (values)", "split halves (counts)"} <= set(
        of_counts.index
    )
    assert of_counts["no change (counts)"] == 0
    assert of_counts["counts"] > 0.5
    assert {metric.name for metric in METRICS} - set(means["metric"]) == {
        "Pearson of the shift from the mean perturbation",  # one level only
        "coverage of 90 % intervals of the shift",  # and one other type with it: nothing says how far off it is
    }
    assert table["value"].notna().all()


def test_cells_lie_nearer_to_the_true_ones_than_unchanged_cells_do(section):
    found = {score.who: score.value for score in section.scores if score.metric == E_DISTANCE.name and score.of == "B"}
    assert found["counts"] < found["no change (counts)"]
    assert found["split halves (counts)"] < found["counts"]


def test_verdicts_are_sentences_and_charts_name_the_worst_genes(section, context):
    assert section.verdicts[0].text.startswith("counts beats mean shift (counts) on ")
    assert "of 1 held-out answers (Pearson of the shift 0." in section.verdicts[0].text
    assert all(verdict.text.endswith(".") for verdict in section.verdicts)
    bars = [chart for chart in section.charts if isinstance(chart, Bars)]
    points = [chart for chart in section.charts if isinstance(chart, Points)]
    assert len(bars) == 1
    assert len(points) == 2
    assert all(len(chart.x) == len(chart.names) == context.cells.n_vars for chart in points)
    assert all(set(chart.highlighted) <= set(chart.names) for chart in points)


def test_asking_twice_gives_the_same(section, context):
    assert response.evaluate(context).scores == section.scores


def test_runs_without_a_control_level_are_not_asked(make_adata):
    adata = make_adata(120)
    model = fit(adata, condition=["type"], epochs=1, n_latent=2, hidden=[8], progress=False, device="cpu")
    assert "control level" in response.unavailable_reason(EvaluationContext({"run": model}, adata, Kind.COUNTS))


def test_a_model_without_contexts_is_evaluated_by_the_label_of_the_data(make_adata):
    adata = make_adata(500)
    model = fit(adata, condition=["drug"], control={"drug": "ctrl"}, hold_out={"type": "B", "drug": "stim"}, epochs=1,
                n_latent=2, hidden=[8], progress=False, device="cpu")  # fmt: skip
    context = EvaluationContext({"run": model}, adata, Kind.COUNTS, fields=["type", "drug", "lane"])
    perturbation = next(perturbations(context.models["run"], context))
    assert perturbation.context == "type"
    (case,) = cases(context.models["run"], "run", context, perturbation)
    assert (case.state, case.held_out) == (("B", "stim"), True)


def test_states_of_few_cells_are_not_asked_for(context):
    few = EvaluationContext(context.given, context.cells[:40].copy(), Kind.COUNTS)
    assert "20 evaluation cells" in response.unavailable_reason(few)


@pytest.mark.parametrize("run", ["counts", "values"])
def test_true_cells_come_in_the_units_of_the_answers(context, run):
    model, counts = context.models[run], context.cells.X.toarray()
    found = in_units_of(model, context.cells)
    expected = counts if run == "counts" else log_normalised(counts)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(logged(model, found), log_normalised(counts), rtol=1e-5, atol=1e-5)


# baselines of states, on profiles made by hand


def profiles(contexts="abc", levels=("ctrl", "x", "y")):
    """States whose contexts and levels add up."""
    of = {name: RNG.normal(size=20) for name in (*contexts, *levels)}
    return {(c, level): of[c] + (level != "ctrl") * of[level] for c in contexts for level in levels}


def test_the_mean_shift_is_exact_where_contexts_respond_alike():
    seen = profiles()
    answer = seen.pop(("a", "x"))
    found = members(seen, "ctrl", ("a", "x"), seen["a", "ctrl"])
    np.testing.assert_allclose(found["mean shift"], answer - seen["a", "ctrl"])
    np.testing.assert_allclose(found["perturbed mean"], seen["a", "y"] - seen["a", "ctrl"])
    np.testing.assert_allclose(found["matching mean"], (seen["b", "x"] + seen["c", "x"]) / 2 - seen["a", "ctrl"])
    assert SAME_STATE not in found


def test_the_additive_baseline_is_exact_where_parts_add_up():
    seen = profiles("a")
    seen["a", "x+y"] = seen["a", "x"] + seen["a", "y"] - seen["a", "ctrl"]
    found = members(seen, "ctrl", ("a", "x+y"), seen["a", "ctrl"])
    np.testing.assert_allclose(found["additive"], seen["a", "x+y"] - seen["a", "ctrl"])


def test_the_linear_model_follows_a_response_that_grows_with_the_control_profile():
    direction, height = RNG.normal(size=(2, 30))
    start = {c: 3 * k * direction for k, c in enumerate("abcdef")}
    seen = {(c, "ctrl"): x for c, x in start.items()} | {(c, "x"): x + height + 0.5 * x for c, x in start.items()}
    answer = seen.pop(("c", "x"))
    found = members(seen, "ctrl", ("c", "x"), start["c"])
    truth = answer - start["c"]
    assert np.abs(found["linear latent"] - truth).max() < 0.02 < np.abs(found["mean shift"] - truth).max()


def test_without_other_contexts_there_is_no_mean_shift_and_without_training_no_change_alone():
    assert "mean shift" not in members(profiles("a"), "ctrl", ("a", "x"), np.zeros(20))
    assert list(members({}, "ctrl", ("a", "x"), np.zeros(20))) == ["no change"]
