"""What latents hold, beside principal components."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from anndata import AnnData

import genevae as gv
from genevae.data.value_kind import Kind
from genevae.errors import DataError, GeneError
from genevae.evaluation.context import EvaluationContext
from genevae.evaluation.latent import evaluate as latent
from genevae.plotting import projections
from genevae.report.records import Bars, Map, Section, scores_to_frame

pytestmark = pytest.mark.usefixtures("quick_maps")


@pytest.fixture(scope="module")
def cells(make_adata) -> AnnData:
    return make_adata(500, seed=3)


def train(adata: AnnData, **settings):
    words = {"recipe": "nb", "epochs": 15, "batch_size": 32, "n_latent": 4, "hidden": [32], "learning_rate": 1e-2,
             "test": 0.3, "progress": False, "device": "cpu", "condition": ["drug"],
             "control": {"drug": "ctrl"}, "batch": "lane"}  # fmt: skip
    return gv.fit(adata, **{**words, **settings})


@pytest.fixture(scope="module")
def nb(cells):
    return train(cells)


@pytest.fixture(scope="module")
def section(cells, nb) -> Section:
    context = EvaluationContext({"nb": nb}, cells, Kind.COUNTS, fields=["type", "drug", "lane"])
    assert latent.unavailable_reason(context) is None
    return latent.evaluate(context)


def value(section: Section, metric: str, who: str, of: str = "") -> float:
    (found,) = [s.value for s in section.scores if (s.metric, s.who, s.of) == (metric, who, of)]
    return found


def test_a_field_that_was_not_given_is_told_and_those_that_were_are_put_aside(section):
    assert value(section, "accuracy of 15 neighbours", "nb", "type") > 0.9
    assert value(section, "accuracy of 15 neighbours", "commonest category", "type") < 0.5
    drug = {who: value(section, "leakage", who, "drug") for who in ("nb", "PCA (4 dimensions)")}
    assert drug["nb"] < 0.75 < 0.9 < drug["PCA (4 dimensions)"]
    asked = {(s.metric, s.of) for s in section.scores}
    assert ("silhouette", "type") in asked
    assert ("silhouette", "drug") not in asked
    assert ("leakage", "type") not in asked


def test_batches_are_integrated_better_than_by_components(section):
    assert value(section, "Total", "nb", "scIB") > value(section, "Total", "PCA (4 dimensions)", "scIB")
    assert value(section, "PCR comparison", "PCA (4 dimensions)", "scIB") == 0
    assert any(v.tone == "good" and "nb integrates lane better than PCA" in v.text for v in section.verdicts)


def test_every_score_of_a_run_stands_beside_a_baseline(section):
    frame = scores_to_frame([section])
    roles = frame.groupby(["metric", "of"])["role"].agg(set)
    assert (roles == {"run", "baseline"}).all()
    assert np.isfinite(frame["value"]).all()


def test_intervals_hold_their_numbers(section):
    with_ends = [s for s in section.scores if s.low is not None and s.high is not None]
    assert {s.metric for s in with_ends} == {"silhouette", "accuracy of 15 neighbours", "leakage"}
    assert all(s.low <= s.value <= s.high for s in with_ends)


def test_the_map_shows_all_cells_by_every_field_and_the_bars_every_dimension(section, cells):
    drawn, bars = section.charts
    assert isinstance(drawn, Map)
    assert isinstance(bars, Bars)
    assert set(drawn.fields) == {"type", "drug", "lane", "dose", "part in training"}
    assert drawn.spaces["PCA"].shape == (cells.n_obs, 2)
    assert len(bars.names) == 4
    assert list(bars.series["nb"]) == sorted(bars.series["nb"], reverse=True)


def test_runs_of_other_genes_and_dimensions_stand_side_by_side(cells, nb):
    small = train(cells[:, 5:25].copy(), n_latent=3, condition=["type"], control=None, batch=None, epochs=3)
    context = EvaluationContext({"nb": nb, "small": small}, cells, Kind.COUNTS, fields=["type", "drug"])
    found = latent.evaluate(context)
    told = {s.who for s in found.scores if s.metric == "silhouette" and s.of == "type"}
    assert told == {"nb", "small", "PCA (3 dimensions)", "PCA (4 dimensions)", "labels at random"}
    assert {s.of for s in found.scores if s.metric == "leakage"} == {"type", "drug", "lane"}


def test_maps_are_computed_when_a_page_asks_for_them(cells, nb, monkeypatch):
    asked = []
    for name in projections.MAPS:
        monkeypatch.setitem(projections.MAPS, name, lambda z, seed, name=name: asked.append(name) or z[:, :2])
    found = latent.evaluate(EvaluationContext({"nb": nb}, cells, Kind.COUNTS, fields=["type"]))
    (drawn,) = [chart for chart in found.charts if isinstance(chart, Map)]
    assert not asked
    assert drawn.spaces["t-SNE"] is drawn.spaces["t-SNE"]
    assert asked == ["tsne"]


def test_new_cells_are_judged_and_baselines_learn_from_them(nb, make_adata):
    new = make_adata(120, seed=8)
    new.obs_names = [f"new{i}" for i in range(120)]
    found = latent.evaluate(EvaluationContext({"nb": nb}, new, Kind.COUNTS, fields=["type"]))
    assert any("there are no training cells" in note for note in found.notes)
    assert any("too few cells" in note for note in found.notes)


def test_where_all_cells_were_trained_on_the_question_is_not_asked(cells, nb):
    training = cells[(nb.split.reindex(cells.obs_names) == "training").to_numpy()]
    assert latent.unavailable_reason(EvaluationContext({"nb": nb}, training, Kind.COUNTS)) is not None


def test_gene_vectors_are_compared_with_sets(cells, nb, tmp_path):
    path = tmp_path / "sets.gmt"
    markers = ["\t".join(f"G{i}" for i in range(start, start + 5)) for start in (0, 5, 10, 20, 25)]
    path.write_text("".join(f"set{i}\t\t{genes}\n" for i, genes in enumerate(markers)))
    context = EvaluationContext({"nb": nb}, cells, Kind.COUNTS, fields=["type"])
    found = latent.evaluate(replace(context, gene_sets=path))
    auroc = {s.who: s.value for s in found.scores if s.metric == "gene pairs of one set (AUROC)"}
    assert set(auroc) == {"nb", "PCA (4 dimensions): loadings", "Pearson of expression", "chance"}
    assert auroc["chance"] == 0.5
    assert auroc["PCA (4 dimensions): loadings"] > 0.9
    assert any("Gene vectors of nb" in v.text for v in found.verdicts)


def test_gene_sets_that_cannot_be_used_are_an_error(cells, nb, tmp_path):
    context = EvaluationContext({"nb": nb}, cells, Kind.COUNTS, fields=["type"])
    (tmp_path / "sets.gmt").write_text("human\t\tTP53\tMYC\n")
    with pytest.raises(GeneError, match="0 genes are in both"):
        latent.evaluate(replace(context, gene_sets=tmp_path / "sets.gmt"))
    with pytest.raises(DataError, match="There is no"):
        latent.evaluate(replace(context, gene_sets=tmp_path / "missing.gmt"))
