"""Any object with genes and a verb or two can be evaluated; what it lacks is said."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

import genevae as gv
from genevae.errors import DataError
from genevae.evaluation.adapters import as_evaluated
from genevae.evaluation.model import VERBS

pytestmark = pytest.mark.usefixtures("quick_maps")


class PoissonRates:
    """A model by hand: the first genes as a latent, and a Poisson with the means of the training cells, without z."""

    n_latent = 3

    def __init__(self, train: AnnData, fields: dict[str, list[str]] | None = None) -> None:
        self.genes = list(train.var_names)[::-1]
        self.fields = fields or {}
        self.split = dict.fromkeys(train.obs_names, "training")
        x = train[:, self.genes].X.toarray()
        self.share_g = (x.sum(0) + 0.5) / (x.sum() + 0.5 * x.shape[1])

    def embed(self, cells: AnnData) -> np.ndarray:
        return np.log1p(cells.X.toarray())[:, : self.n_latent]

    def log_weights(self, cells: AnnData, n_draws: int, seed: int) -> np.ndarray:
        from scipy.stats import poisson

        x = cells.X.toarray()
        log_p_n = poisson.logpmf(x, x.sum(1, keepdims=True) * self.share_g).sum(1)
        return np.tile(log_p_n, (n_draws, 1))


@pytest.fixture(scope="module")
def cells(make_adata) -> AnnData:
    return make_adata(400, seed=3)


@pytest.fixture(scope="module")
def report(cells, tmp_path_factory):
    import pandas as pd

    model = PoissonRates(cells[:200], {"type": ["A", "B", "C"]})
    model.split = pd.Series(model.split)
    out = tmp_path_factory.mktemp("model") / "report"
    return gv.evaluate({"rates": model}, cells, out=out, progress=False)


def test_sections_that_its_verbs_allow_are_computed_and_the_others_say_what_is_missing(report):
    assert [section.name for section in report.sections] == ["fit", "latent"]
    assert report.skipped["simulation"] == "No model has the method generate."
    assert report.skipped["labels"] == "No model has the method classify."
    assert report.skipped["response"].startswith("No model that has counterfactuals")
    assert "Skipped: labels." in str(report)


def test_its_bound_stands_beside_the_baseline(report):
    scores = report.scores.query("metric == 'importance-weighted bound, nats per cell'").set_index("who")["value"]
    assert scores["rates"] < scores["gene-wise negative binomial"]  # which knows how counts scatter
    assert any("rates has no likelihoods" in note for note in report.sections[0].notes)


def test_its_cells_are_read_with_its_genes_in_its_order(report, cells):
    leakage = report.scores.query("metric == 'leakage' and who == 'rates'")["value"]
    assert 0 <= leakage.item() <= 1
    assert report.runs["rates"] == {"Recipe": "PoissonRates", "Genes": "30"}


def test_a_model_of_ours_stands_beside_it(cells, tiny_model):
    model = as_evaluated(tiny_model)
    assert model.verbs == VERBS
    other = PoissonRates(cells[:200])
    other.split = model.split
    report = gv.evaluate({"nb": tiny_model, "rates": other}, cells, sections=["latent", "simulation"], progress=False)
    latent, simulation = report.sections
    assert {"nb", "rates"} <= {score.who for score in latent.scores}
    assert "rates has no generate, and is left out." in simulation.notes


def test_a_model_that_does_not_know_its_training_cells_says_so(cells):
    model = PoissonRates(cells[:200])
    del model.split
    report = gv.evaluate({"rates": model}, cells, sections=["fit"], progress=False)
    assert any("rates does not say which cells it was trained on" in line for line in report.sampling)


def test_what_is_no_model_is_an_error_that_says_what_one_needs(cells):
    with pytest.raises(DataError, match="An object of type dict cannot be evaluated: a model needs `genes`"):
        gv.evaluate({"no": {}}, cells, progress=False)


def test_the_former_name_of_sections_works_and_warns():
    with pytest.warns(DeprecationWarning, match="sections"), pytest.raises(DataError, match="no section 'fitt'"):
        gv.evaluate({}, "cells.h5ad", questions=["fitt"])
