"""Numbers of a latent, and its pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.metrics import calinski_harabasz_score, silhouette_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from genevae.metrics.latent import (
    categories_of,
    correlation_of_dimensions,
    dead_dimensions,
    latent_scores,
    right_n,
    shown_fields,
    silhouette_n,
)
from genevae.plotting.embedding import effect_picture, field_picture, map_picture
from genevae.plotting.projections import project_2d
from genevae.plotting.training import gene_picture, sweep_picture

RNG = np.random.default_rng(0)
KIND = np.repeat(["A", "B", "C"], 40)
APART = RNG.normal(size=(120, 4)) + 8 * (KIND[:, None] == np.array(["A", "B", "C", "D"]))
NOISE = RNG.normal(size=(120, 4))
OBS = pd.DataFrame({"type": KIND, "depth": RNG.normal(size=120), "name": [f"c{i}" for i in range(120)]})


def test_only_fields_of_2_to_50_categories_are_scored():
    scores = latent_scores({"z": NOISE}, OBS.assign(one="x", flag=KIND == "A", level=pd.Categorical(KIND)))
    assert scores["field"].unique().tolist() == ["type", "flag", "level"]


def test_the_scores_are_those_of_scikit_learn_and_tell_order_from_noise():
    scores = latent_scores({"apart": APART, "noise": NOISE}, OBS).set_index("score")
    for name, z in (("apart", APART), ("noise", NOISE)):
        assert scores.loc["silhouette", name] == pytest.approx(silhouette_score(z, KIND))
        assert scores.loc["Calinski-Harabasz", name] == pytest.approx(calinski_harabasz_score(z, KIND))
    assert scores.loc["accuracy of 15 neighbours", "apart"] == 1
    assert scores.loc["accuracy of 15 neighbours", "noise"] == pytest.approx(1 / 3, abs=0.15)
    assert scores.loc["accuracy of 15 neighbours", "baseline"] == pytest.approx(1 / 3)


def test_cells_without_a_value_do_not_count_nor_do_categories_of_one_cell():
    labels = pd.Series(KIND).astype(object)
    labels[:10], labels[119] = None, "alone"
    one = latent_scores({"z": APART}, pd.DataFrame({"type": labels}))
    other = latent_scores({"z": APART[10:119]}, OBS[["type"]].iloc[10:119])
    pd.testing.assert_frame_equal(one, other)


def test_a_field_whose_categories_all_come_once_has_no_scores():
    assert latent_scores({"z": NOISE[:3]}, pd.DataFrame({"type": ["A", "B", None]})).empty


def test_categories_keep_what_is_missing_and_leave_numbers_alone():
    assert categories_of(pd.Series(["a", None, "b"])).tolist() == ["a", None, "b"]
    assert categories_of(pd.Series(pd.Categorical(["1", "2", None]))).tolist() == ["1", "2", None]
    assert categories_of(pd.Series([1, 2, 3])) is None
    assert categories_of(pd.Series([str(i) for i in range(51)])) is None


def test_a_dimension_is_dead_where_means_hardly_vary():
    z = np.column_stack([APART, np.full(120, 3.0), 0.05 * NOISE[:, 0]])
    assert dead_dimensions(z) == 2


@pytest.mark.parametrize("n_fields", [1, 2, 5])
def test_a_map_is_drawn_with_any_kind_of_field(n_fields, tmp_path):
    many = np.array([f"category {i % 50} with a name that is far too long for any legend" for i in range(120)], object)
    gaps = np.where(NOISE[:, 0] > 0, NOISE[:, 0], np.nan)
    fields = {"type": KIND.astype(object), "depth": gaps, "many": many, "some": np.where(KIND == "A", None, KIND),
              "nothing": np.full(120, np.nan)}  # fmt: skip
    path = tmp_path / "map.png"
    field_picture(NOISE[:, :2], dict(list(fields.items())[:n_fields]), "PCA", path)
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_effects_are_drawn_also_where_there_are_none(tmp_path):
    for name, lfc in (("some", NOISE[:6]), ("none", np.zeros((1, 1)))):
        effect_picture(pd.DataFrame(lfc), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_accuracy_of_neighbours_is_that_of_scikit_learns_folds():
    folds = KFold(5, shuffle=True, random_state=3)
    expected = cross_val_score(KNeighborsClassifier(15), NOISE, KIND, cv=folds)
    assert right_n(NOISE, KIND, seed=3).mean() == pytest.approx(expected.mean())
    assert silhouette_n(NOISE, KIND).mean() == pytest.approx(silhouette_score(NOISE, KIND))


def test_dimensions_correlate_as_pandas_says_and_constant_ones_do_not_count():
    found = pd.DataFrame(APART).corr().abs().to_numpy()
    expected = found[np.triu_indices(4, 1)].mean()
    assert correlation_of_dimensions(APART) == pytest.approx(expected)
    assert correlation_of_dimensions(np.column_stack([APART, np.ones(120)])) == pytest.approx(expected)
    assert correlation_of_dimensions(APART[:, :1]) == 0


def test_fields_are_shown_that_vary():
    obs = OBS.assign(same=1.0, gap=[np.nan, *range(119)], one="x")
    assert list(shown_fields(obs)) == ["type", "depth", "gap"]


@pytest.mark.parametrize("name", ["pca", "tsne"])
def test_maps_keep_clouds_apart_also_where_cells_are_put_beside_others(name):
    xy = project_2d(name, APART, 0, at_most=60)
    assert xy.shape == (120, 2)
    assert right_n(xy, KIND).mean() > 0.95


@pytest.mark.parametrize("name", ["pca", "tsne"])
def test_one_dimension_is_drawn_too(name):
    assert project_2d(name, APART[:20, :1], 0).shape == (20, 2)


@pytest.mark.parametrize("name", [r"$\frac{a}{$", "a $x$ b", "_hidden", "<b>[/x]</b>", "100 %", r"\$", "x$"])
def test_names_in_pictures_are_shown_as_they_are(tmp_path, monkeypatch, name):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    labels = np.array([name, "other"] * 10)
    xy = np.arange(40.0).reshape(20, 2)
    field_picture(xy, {name: labels}, name, tmp_path / "a.png")
    effect_picture(pd.DataFrame([[1.0, 2.0]], index=[name], columns=[name, "b"]), tmp_path / "b.png")
    map_picture({name: xy}, labels, tmp_path / "c.png")
    gene_picture({name: {name: np.ones(20)}}, labels, tmp_path / "d.png")
    table = pd.DataFrame({name: [name, "b"], "bound": [1.0, 2.0], "low": -0.1, "high": 0.1, "reconstruction": 0.0})
    sweep_picture(table, [name], 0, tmp_path / "e.png")
    assert len(figures) == 5
    for figure in figures:
        shown = [text.get_text().removeprefix("\N{ZERO WIDTH SPACE}") for text in figure.findobj(Text)]
        assert shown.count(name.replace("$", r"\$")) >= 2  # a title or an axis, and a legend or a tick
        assert not any(map(is_math_text, shown))
