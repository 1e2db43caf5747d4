"""The fit of runs: judged fairly, beside baselines, on whatever they see."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

import genevae as gv
from genevae.data.value_kind import Kind
from genevae.evaluation.adapters import as_evaluated
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.fit import evaluate as fit
from genevae.evaluation.predictions import entries, expected
from genevae.report.records import Section

BOUND = "importance-weighted bound, nats per cell"


def train(adata: AnnData, recipe: str, **settings):
    words = {"epochs": 30, "batch_size": 32, "n_latent": 4, "test": 0.2, "progress": False, "device": "cpu"}
    return gv.fit(adata, recipe=recipe, condition=["type", "drug"], **{**words, **settings})


def values(section: Section, metric: str, of: str = "") -> dict[str, float]:
    return {score.who: score.value for score in section.scores if score.metric == metric and score.of == of}


@pytest.fixture(scope="module")
def cells(make_adata) -> AnnData:
    return make_adata(400, seed=3)


@pytest.fixture(scope="module")
def nb(cells):
    return train(cells, "nb", learning_rate=5e-3, hidden=[32])


@pytest.fixture(scope="module")
def section(cells, nb) -> Section:
    return fit.evaluate(EvaluationContext({"nb": nb}, cells, Kind.COUNTS))


def test_a_trained_model_explains_cells_better_than_one_distribution_per_gene(section):
    found = values(section, BOUND)
    assert found["nb"] > found["gene-wise negative binomial"]
    assert found["nb"] > values(section, "bound, nats per cell")["nb"]
    assert section.verdicts[0].text.startswith(
        "nb explains held-out cells better than a gene-wise negative binomial, by"
    )


def test_every_score_of_the_run_stands_beside_a_baseline(section):
    for metric in {score.metric for score in section.scores}:
        assert {score.role for score in section.scores if score.metric == metric} == {"run", "baseline"}, metric


def test_numbers_are_possible_ones(section):
    assert all(np.isfinite(score.value) for score in section.scores)
    assert 0.8 < values(section, "coverage of 90 % intervals")["nb"] < 1
    for score in section.scores:
        assert score.low is None or score.low <= score.value <= score.high


def test_molecules_that_were_hidden_are_told_better_than_without_denoising(section):
    found = values(section, "hidden molecules, Poisson deviance")
    assert found["nb"] < min(found["no denoising"], found["gene mean"])


def test_the_notes_say_which_cells(section):
    assert any("80 cells that no run was trained on (test)" in note for note in section.notes)


def test_the_same_seed_gives_the_same_answer(cells, nb, section):
    again = fit.evaluate(EvaluationContext({"nb": nb}, cells, Kind.COUNTS))
    assert again.scores == section.scores
    assert again.verdicts == section.verdicts


def test_runs_of_one_view_share_their_baselines_and_are_compared(cells, nb):
    poor = train(cells, "nb", epochs=1)
    section = fit.evaluate(EvaluationContext({"good": nb, "poor": poor}, cells, Kind.COUNTS))
    assert len(values(section, BOUND)) == 3
    assert any(v.text.startswith("good explains held-out cells better than poor, by") for v in section.verdicts)


def test_runs_that_see_other_numbers_have_baselines_of_their_own(cells, nb):
    runs = {"nb": nb, "gaussian": train(cells, "gaussian", epochs=3), "cycle": train(cells, "cycle", epochs=3),
            "image": train(cells, "convolutional", epochs=1, setting={"image_size": 8})}  # fmt: skip
    section = fit.evaluate(EvaluationContext(runs, cells, Kind.COUNTS))
    assert set(values(section, BOUND)) == {
        "nb", "gaussian", "gene-wise negative binomial", "gene-wise normal"
    }  # fmt: skip
    assert "The posterior of cycle is a single point, which has no bound." in section.notes
    assert set(values(section, "R² per gene, median")) >= set(runs)
    assert "image" in values(section, "hidden molecules, Poisson deviance")
    assert "image" not in values(section, "coverage of 90 % intervals")


def test_new_cells_are_judged_too_and_the_baselines_learn_from_half_of_them(nb, make_adata):
    new = make_adata(120, seed=9)
    new.obs_names = [f"new{i}" for i in range(120)]
    section = fit.evaluate(EvaluationContext({"nb": nb}, new, Kind.COUNTS))
    assert any("half of the new cells" in note for note in section.notes)


def test_a_reason_is_given_where_it_cannot_be_asked(cells, nb):
    assert fit.unavailable_reason(EvaluationContext({"nb": nb}, cells, Kind.COUNTS)) is None
    lacking = cells.copy()
    del lacking.obs["drug"]
    assert fit.unavailable_reason(EvaluationContext({"nb": nb}, lacking, Kind.COUNTS)) == (
        "The data have no column 'drug', which nb is conditioned on."
    )
    few = cells[(nb.split == "training").reindex(cells.obs_names).to_numpy()].copy()
    assert "fewer than 20 evaluation cells" in fit.unavailable_reason(EvaluationContext({"nb": nb}, few, Kind.COUNTS))


def test_cells_of_unknown_conditions_are_left_out(cells, nb):
    odd = cells.copy()
    odd.obs["type"] = odd.obs["type"].astype(str)
    odd.obs.iloc[:200, odd.obs.columns.get_loc("type")] = "Z"
    assert np.isfinite(
        [score.value for score in fit.evaluate(EvaluationContext({"nb": nb}, odd, Kind.COUNTS)).scores]
    ).all()


@pytest.mark.parametrize("settings", [{"size": "observed"}, {"size": "learned"}])
def test_the_mean_of_the_log_weights_is_the_models_own_bound(cells, settings):
    from genevae.tasks.inference import evaluation_mode, open_cells, seeded

    run = train(cells, "nb", epochs=2, setting=settings)
    log_weight_sn = as_evaluated(run).log_weights(cells[:50], 600, 0)
    with evaluation_mode(run) as module, seeded(module, 1):
        (minibatch,) = open_cells(run, cells[:50], None, 64)
        own_sn = np.array([module.bound_n(minibatch).numpy() for _ in range(600)])
    error_n = np.sqrt((log_weight_sn.var(0) + own_sn.var(0)) / 600)
    assert np.abs((log_weight_sn.mean(0) - own_sn.mean(0)) / error_n).max() < 5


def test_entries_are_those_of_the_cells_and_their_distributions(cells, nb):
    genes = np.array([2, 7, 29])
    found = entries(as_evaluated(nb), cells[:300], genes, seed=0)
    np.testing.assert_array_equal(found.x_ng, cells[:300, list(np.array(nb.schema.genes)[genes])].X.toarray())
    assert ((found.below_ng < found.at_ng) & (found.at_ng <= 1)).all()
    assert (found.below_ng[found.x_ng == 0] == 0).all()
    mean_ng = expected(as_evaluated(nb), cells[:300], seed=0).mean_ng[:, genes]
    np.testing.assert_allclose(found.sample_sng.mean((0, 1)), mean_ng.mean(0), rtol=0.1)
    empirical = (found.sample_sng <= found.x_ng).mean(0)
    assert np.abs(empirical - found.at_ng).mean() < 0.06


@pytest.mark.slow
def test_real_cells(shared_data):
    path = shared_data("pbmc68k_reduced_counts.h5ad")
    run = gv.fit(path, genes=200, epochs=5, test=0.2, condition=["cell_type"], progress=False, device="cpu")
    import anndata

    section = fit.evaluate(EvaluationContext({"nb": run}, anndata.read_h5ad(path), Kind.COUNTS))
    assert 0.8 < values(section, "coverage of 90 % intervals")["nb"] < 1
    assert len(section.charts) == 3
