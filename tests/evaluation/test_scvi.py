"""A trained model of scvi-tools beside one of ours, in one report."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from anndata import AnnData

import genevae as gv
from genevae.errors import DataError
from genevae.evaluation.model import EvaluatedModel


def test_without_scvi_tools_the_adapter_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scvi.model", None)
    with pytest.raises(DataError, match="genevae\\[scvi\\]"):
        gv.adapters.scvi(object())


@pytest.fixture(scope="module")
def cells(make_adata) -> AnnData:
    return make_adata(500, seed=3)


@pytest.fixture(scope="module")
def scvi_model():
    return pytest.importorskip("scvi.model", reason="scvi-tools is not installed: pip install 'genevae[scvi]'")


@pytest.fixture(scope="module")
def trained(scvi_model, cells):
    """SCVI and SCANVI, each trained for a few epochs on the first 350 cells; SCVI knows drug and type."""
    given = cells[:350].copy()
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "train_size": 0.9,
             "validation_size": 0.1, "check_val_every_n_epoch": 1}  # fmt: skip
    scvi_model.SCVI.setup_anndata(given, batch_key="drug", categorical_covariate_keys=["type"])
    first = scvi_model.SCVI(given, n_latent=4, gene_likelihood="nb", encode_covariates=True)
    first.train(max_epochs=40, **quiet)
    labelled = cells[:350].copy()
    scvi_model.SCANVI.setup_anndata(labelled, labels_key="type", unlabeled_category="unknown", batch_key="lane")
    second = scvi_model.SCANVI(labelled, n_latent=4)
    second.train(max_epochs=40, **quiet)
    return first, second


pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of scvi-tools and what it imports
    pytest.mark.usefixtures("quick_maps"),
]


def test_scvi_stands_beside_ours_in_every_section_that_it_can(trained, cells):
    first, _ = trained
    peer = gv.adapters.scvi(first, control={"drug": "ctrl"})
    assert isinstance(peer, EvaluatedModel)
    ours = gv.fit(cells[:350].copy(), condition=["type", "drug"], control={"drug": "ctrl"}, epochs=20, n_latent=4,
                  hidden=[32], learning_rate=5e-3, progress=False, device="cpu")  # fmt: skip
    report = gv.evaluate({"nb": ours, "SCVI": peer}, cells, progress=False)
    who = report.scores.query("role == 'run'").groupby("section")["who"].agg(set)
    assert who["fit"] == who["latent"] == who["response"] == who["simulation"] == {"nb", "SCVI"}
    assert who["labels"] == {"nb"}
    assert "SCVI has no classify, and is left out." in report.sections[-1].notes
    assert report.runs["SCVI"]["Recipe"].startswith("SCVI (scvi-tools ")
    shift = report.scores.query("metric == 'Pearson of the shift' and who == 'SCVI'")["value"]
    assert shift.max() > 0.5
    assert len(report.training.charts) == 2


def test_bounds_are_those_of_its_own_estimator(trained, cells):
    first, _ = trained
    log_weight_sn = gv.adapters.scvi(first).log_weights(cells[:100], 200, 0)
    assert log_weight_sn.shape == (200, 100)
    theirs = first.get_elbo(first.adata[:100].copy())
    assert log_weight_sn.mean() == pytest.approx(float(theirs), rel=0.02)


def test_likelihoods_agree_with_its_own_distribution(trained, cells):
    first, _ = trained
    (decoded,) = list(gv.adapters.scvi(first).likelihoods(cells[:50], 5, 0))
    assert decoded.p.mean.shape == (5, 50, 30)
    x_ng = cells[:50].X.toarray()
    np.testing.assert_array_equal(decoded.x.dense().numpy(), x_ng)
    np.testing.assert_allclose(decoded.p.mean.sum(-1).numpy(), np.tile(x_ng.sum(1), (5, 1)), rtol=1e-3)


def test_the_same_seed_gives_the_same_counterfactual_and_control_cells_stay(trained, cells):
    first, _ = trained
    peer = gv.adapters.scvi(first)
    control = cells[(cells.obs["drug"] == "ctrl").to_numpy() & (cells.obs["type"] != "C").to_numpy()][:60]
    moved, again = (peer.counterfactual(control, {"drug": "stim"}, 1) for _ in range(2))
    np.testing.assert_array_equal(moved, again)
    assert moved[:, 20:25].mean() > 2 * control.X.toarray()[:, 20:25].mean()
    np.testing.assert_array_equal(peer.counterfactual(control, {"drug": "ctrl"}, 1), control.X.toarray())


def test_scanvi_classifies_and_has_no_bound(trained, cells):
    _, second = trained
    peer = gv.adapters.scvi(second)
    assert peer.log_weights is None
    table = peer.classify(cells[:100], "type", 0)
    assert (table["label"] == cells.obs["type"].astype(str)[:100]).mean() > 0.6
    report = gv.evaluate({"SCANVI": peer}, cells, sections=["labels", "latent"], progress=False)
    assert "Total" in set(report.scores["metric"])  # lane is its batch
    assert [section.name for section in report.sections] == ["latent", "labels"]


def test_another_kind_of_model_is_an_error(scvi_model):
    with pytest.raises(DataError, match="takes a trained SCVI or SCANVI"):
        gv.adapters.scvi(object())
