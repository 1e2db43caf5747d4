"""What is asked of runs about simulated cells, and what is answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from genevae.data.value_kind import Kind
from genevae.errors import DataError
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.simulation import evaluate as simulation
from genevae.evaluation.simulation import scores as simulation_scores
from genevae.metrics.simulation import FOREST_AUC, MEMBERSHIP_AUROC, MEMORISATION, NEIGHBOUR_ACCURACY, TYPE_SLOPE
from genevae.report.records import Lines, Points, scores_to_frame
from genevae.runs.fit import fit


def train(adata, recipe="nb", epochs=12, **settings):
    return fit(
        adata, recipe=recipe, epochs=epochs, batch_size=64, n_latent=4, hidden=[32], learning_rate=5e-3,
        setting={"learning_rate_decay": 0.0}, progress=False, device="cpu", **settings,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_forests():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation_scores, "N_TREES", 10)
        yield


@pytest.fixture(scope="module")
def context(make_adata):
    """A trained run, one that hardly was, and one of values, with a third of the cells kept away."""
    adata = make_adata(400)
    known = {"condition": ["type"], "test": 0.3}
    runs = {"good": train(adata, **known), "poor": train(adata, epochs=1, **known)}
    return EvaluationContext(runs | {"values": train(adata, "conditional", **known)}, adata, Kind.COUNTS)


@pytest.fixture(scope="module")
def section(context):
    assert simulation.unavailable_reason(context) is None
    return simulation.evaluate(context)


@pytest.fixture(scope="module")
def table(section):
    return scores_to_frame([section]).pivot_table(index="metric", columns="who", values="value")


def test_a_trained_run_is_harder_to_tell_than_one_that_hardly_was(table):
    assert table.loc[FOREST_AUC.name, "good"] < table.loc[FOREST_AUC.name, "poor"]
    for name in ("good", "poor"):  # values of both are those of training cells of the type
        assert abs(table.loc[TYPE_SLOPE.name, name] - table.loc[TYPE_SLOPE.name, "training cells (good)"]) < 0.2


def test_training_cells_are_what_real_cells_are(table):
    real = table["training cells (good)"]
    assert abs(real[FOREST_AUC.name] - 0.5) < 0.12
    assert 0.85 < real[MEMORISATION.name] < 1.15
    assert abs(real[NEIGHBOUR_ACCURACY.name] - 0.5) < 0.12
    assert abs(real[MEMBERSHIP_AUROC.name] - 0.5) < 0.12
    assert real.filter(like="distance of").max() < 0.35


def test_shuffled_genes_keep_each_gene_of_each_kind(table):
    shuffled = table["genes shuffled within conditions (good)"]
    assert table.loc["distance of mean", "poor"] > shuffled["distance of mean"]


def test_every_metric_has_runs_baselines_and_a_ceiling(section):
    frame = scores_to_frame([section])
    for _, rows in frame[~frame["metric"].isin(["distance of zero fraction", "distance of library size"])].groupby(
        "metric"
    ):
        assert set(rows["role"]) == {"run", "baseline", "ceiling"}
        assert len(rows) == 3 + 2 * 3  # three runs; two kinds of units
    assert frame["value"].notna().all()


def test_runs_of_values_are_not_asked_about_zeros(section, table):
    assert np.isnan(table.loc["distance of library size", "values"])
    assert np.isfinite(table.loc["distance of library size", "good"])
    assert any("zeros" in note for note in section.notes)


def test_verdicts_and_charts(section, context):
    assert len(section.verdicts) == 9
    assert all(verdict.text.endswith(".") for verdict in section.verdicts)
    points = [chart for chart in section.charts if isinstance(chart, Points)]
    assert len(points) == 2 * 2 + 1
    assert all(len(chart.x) == context.cells.n_vars for chart in points)
    (sizes,) = [chart for chart in section.charts if isinstance(chart, Lines)]
    assert set(sizes.series) == {"real cells", "good", "poor"}
    assert all(sum(share) == pytest.approx(1, abs=1e-2) for _, share in sizes.series.values())


def test_copies_are_called_copies(context):
    def copying(n, condition, seed):
        cells = context.cells[(context.part_n("good") == "training").to_numpy()]
        return cells[cells.obs["type"] == condition["type"]][:n].X.toarray()

    good = replace(context.models["good"], generate=copying)
    alone = EvaluationContext({"good": good}, context.cells, Kind.COUNTS)
    section = simulation.evaluate(alone)
    assert {s.metric: s.value for s in section.scores if s.who == "good"}[MEMORISATION.name] < 0.7
    assert {s.metric: s.value for s in section.scores if s.who == "good"}[MEMBERSHIP_AUROC.name] > 0.6
    assert any("copies" in verdict.text and verdict.tone == "bad" for verdict in section.verdicts)


def test_a_run_without_conditions_simulates_too_and_types_are_left_out(make_adata):
    adata = make_adata(200)
    section = simulation.evaluate(EvaluationContext({"run": train(adata, epochs=2, test=0.3)}, adata, Kind.COUNTS))
    assert TYPE_SLOPE.name not in {score.metric for score in section.scores}


def test_combinations_without_training_cells_are_refused_in_words(context, make_adata):
    adata = make_adata(120)
    adata.obs["own"] = [f"k{i // 2}" for i in range(120)]
    model = train(adata, epochs=1, condition=["own"], validation=0.3)
    with pytest.raises(DataError, match="No combination of own"):
        simulation.evaluate(EvaluationContext({"run": model}, adata, Kind.COUNTS))


def test_data_without_cells_or_columns_are_not_asked(context):
    few = EvaluationContext(context.given, context.cells[:5].copy(), Kind.COUNTS)
    assert "fewer than 20" in simulation.unavailable_reason(few)
    bare = context.cells.copy()
    del bare.obs["type"]
    assert "no column 'type'" in simulation.unavailable_reason(EvaluationContext(context.given, bare, Kind.COUNTS))


def test_where_all_cells_were_trained_on_half_of_them_stand_for_real_ones(context):
    trained = context.cells[(context.part_n("good") == "training").to_numpy()].copy()
    seen = EvaluationContext({"good": context.given["good"]}, trained, Kind.COUNTS)
    assert simulation.unavailable_reason(seen) is None
    assert any("Half of the training cells" in note for note in simulation.evaluate(seen).notes)


def test_axes_of_training_cells_do_not_set_these_apart():
    """Of many genes and few cells, training cells lie farther out than others in components fitted to them."""
    rng = np.random.default_rng(0)
    made_ng, real_ng, training_ng = (rng.normal(size=(150, 600)) for _ in range(3))
    to = simulation_scores.Likeness.of(real_ng, None, training_ng, None, 0)
    shown = simulation_scores.Simulated("made", "run", to, made_ng, None)
    assert abs(shown.scores[MEMBERSHIP_AUROC] - 0.5) < 0.1
    copies = simulation_scores.Simulated("copies", "run", to, training_ng + 0.1 * made_ng, None)
    assert copies.scores[MEMBERSHIP_AUROC] > 0.99
