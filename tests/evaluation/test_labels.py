"""Labels: judged fairly, beside classifiers that were made for it."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
from anndata import AnnData

import genevae as gv
from genevae.data.value_kind import Kind
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.labels import evaluate as labels
from genevae.report.records import Heat, Lines, Section


def accuracies(section: Section) -> dict[str, float]:
    return {score.who: score.value for score in section.scores if score.metric == "accuracy"}


def train(adata: AnnData, **settings):
    words = {"recipe": "nb", "epochs": 30, "batch_size": 32, "n_latent": 4, "hidden": [32], "learning_rate": 5e-3,
             "test": 0.2, "progress": False, "device": "cpu", "condition": ["type", "drug"],
             "control": {"drug": "ctrl"}, "batch": "lane"}  # fmt: skip
    return gv.fit(adata, **{**words, **settings})


@pytest.fixture(scope="module")
def cells(make_adata) -> AnnData:
    return make_adata(400, seed=3)


@pytest.fixture(scope="module")
def nb(cells):
    return train(cells)


def test_a_trained_model_tells_types_and_stands_beside_classifiers(cells, nb):
    section = labels.evaluate(EvaluationContext({"nb": nb}, cells, Kind.COUNTS))
    found = accuracies(section)
    assert set(found) == {
        "nb", "logistic regression on 30 PCs", "nearest neighbours on 30 PCs", "commonest label"
    }  # fmt: skip
    assert found["nb"] > 0.8 > 0.6 > found["commonest label"]
    assert [type(chart) for chart in section.charts] == [Heat, Lines, Lines]
    assert "nb predicts type right in" in section.verdicts[0].text
    assert "of 80 cells" in section.verdicts[0].text
    np.testing.assert_allclose(section.charts[0].values.sum(1), 1)
    (covered,) = (score.value for score in section.scores if score.metric == "coverage of label sets")
    table = gv.classify(nb, cells[(nb.split == "test").to_numpy()].copy(), field="type")
    assert covered == np.mean(
        [true in some.split(" | ") for true, some in zip(table["true"], table["set"], strict=True)]
    )


def test_neither_batches_nor_perturbations_are_labels(cells, nb):
    section = labels.evaluate(EvaluationContext({"nb": nb}, cells, Kind.COUNTS))
    assert {score.of for score in section.scores} == {"type"}


def test_a_latent_that_was_not_told_labels_is_read_by_neighbours(cells, nb):
    blind = train(cells, condition=["drug"], batch=None)
    section = labels.evaluate(EvaluationContext({"nb": nb, "blind": blind}, cells, Kind.COUNTS))
    assert accuracies(section)["nearest neighbours on the latent of blind"] > 0.6
    assert len(section.verdicts) == 1  # blind tells no labels itself


def test_cells_whose_label_no_run_knows_are_not_judged(cells, nb):
    odd = cells.copy()
    odd.obs["type"] = odd.obs["type"].astype(object)
    odd.obs.loc[odd.obs_names[::7], "type"] = None
    odd.obs.loc[odd.obs_names[1::7], "type"] = "Z"
    section = labels.evaluate(EvaluationContext({"nb": nb}, odd, Kind.COUNTS))
    assert set(section.charts[0].rows) == {"A", "B", "C"}


def test_cells_of_a_label_that_was_never_seen_are_told_less_surely(cells, make_adata):
    some = cells[(cells.obs["type"] != "C").to_numpy()].copy()
    some.obs["type"] = some.obs["type"].astype(str)
    section = labels.evaluate(EvaluationContext({"nb": train(some)}, cells, Kind.COUNTS))
    found = {score.who: score.value for score in section.scores if score.metric == "AUROC of labels never seen"}
    assert found["nb"] > 0.6
    assert found["commonest label"] == 0.5
    assert set(section.charts[0].rows) == {"A", "B"}


def test_a_field_that_is_a_perturbation_to_one_run_is_a_label_to_none(cells, nb):
    other = train(cells, control=None, epochs=1)
    section = labels.evaluate(EvaluationContext({"nb": nb, "other": other}, cells, Kind.COUNTS))
    assert {score.of for score in section.scores} == {"type"}


def test_the_same_seed_gives_the_same_answer(cells, nb):
    context = EvaluationContext({"nb": nb}, cells, Kind.COUNTS)
    assert labels.evaluate(context).scores == labels.evaluate(context).scores


def test_a_reason_is_given_where_it_cannot_be_asked(cells):
    plain = train(cells, condition=["drug"], epochs=1)
    assert labels.unavailable_reason(EvaluationContext({"plain": plain}, cells, Kind.COUNTS)).startswith(
        "No model is conditioned on a field with 2 to 50 categories"
    )


@pytest.mark.slow
def test_real_cells(shared_data):
    path = shared_data("pbmc68k_reduced_counts.h5ad")
    run = gv.fit(path, genes=200, epochs=5, test=0.2, condition=["cell_type"], progress=False, device="cpu")
    found = accuracies(labels.evaluate(EvaluationContext({"nb": run}, anndata.read_h5ad(path), Kind.COUNTS)))
    assert found["logistic regression on 50 PCs"] > found["commonest label"]
