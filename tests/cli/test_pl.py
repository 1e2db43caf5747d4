"""`gv.pl`: functions that take axes and return them, with the colours of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import genevae as gv
from genevae.errors import DataError

Picture = tuple[Callable[..., object], tuple[object, ...]]


@pytest.fixture(autouse=True)
def without_windows() -> Iterator[None]:
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def cells() -> AnnData:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"type": pd.Categorical(rng.choice(["a", "b", "c"], 40)), "size": rng.gamma(2, 1, 40)})
    obs.index = [f"c{i}" for i in range(40)]
    adata = AnnData(rng.poisson(2.0, (40, 3)).astype(np.float32), obs=obs)
    adata.obsm["X_genevae"], adata.obsm["X_umap"] = rng.normal(size=(40, 5)), rng.normal(size=(40, 2))
    adata.uns["type_colors"] = ["#ff0000", "#00ff00", "#0000ff"]
    return adata


def effects(**more: object) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    table = {"gene": [f"G{i}" for i in range(30)], "lfc": rng.normal(size=30), "probability": rng.uniform(0, 1, 30)}
    return pd.DataFrame({**more, **table})


def doses() -> pd.DataFrame:
    dose = np.tile([0.0, 0.1, 1.0, 10.0], 2)
    half = np.repeat([0.5, np.nan], 4)
    table = {"dose": dose, "mean": dose, "lower": dose - 1, "upper": dose + 1, "ec50": half, "max_effect": dose}
    return pd.DataFrame(table, index=np.repeat(["G1", "G2"], 4))


HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [3.0, 2.0, 1.5], "validation_loss": [3.0, 2.2, 2.4]})
SHARES = pd.DataFrame({"model": [0.5, 0.9], "one per gene": [0.4, 0.95]}, index=[0.5, 0.9])
INFLUENCE = pd.DataFrame(
    {"category": ["all", "all", "x", "y"], "influence": [0.9, 0.3, 0.2, 0.4]}, index=["base", "drug", "drug", "drug"]
)
ADDED = pd.DataFrame({"category": ["x"] * 3, "gene": list("ABC"), "excess": [3.0, 2.0, -1.0]}, index=["drug"] * 3)
SCORES = AnnData(np.zeros((2, 3)), var=pd.DataFrame({"log_bayes_factor": [2.0, -3.0, 0.5]}, index=["p", "q", "r"]))
PICTURES: dict[str, Picture] = {
    "embedding": (gv.pl.embedding, (cells(), "type")),
    "training": (gv.pl.training, (HISTORY,)),
    "volcano": (gv.pl.volcano, (effects(),)),
    "dose_curves": (gv.pl.dose_curves, (doses(),)),
    "calibration": (gv.pl.calibration, (SHARES,)),
    "program_scores": (gv.pl.program_scores, (SCORES,)),
    "influence": (gv.pl.influence, (INFLUENCE,)),
    "contributions": (gv.pl.contributions, (ADDED,)),
}


def test_every_picture_is_here() -> None:
    from genevae.plotting import pl

    assert set(pl.__all__) == set(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn_on_the_axes_that_are_given_or_on_new_ones(name: str) -> None:
    draw, arguments = PICTURES[name]
    ax = Figure().subplots()
    assert draw(*arguments, ax=ax) is ax
    assert ax.has_data()
    assert not plt.get_fignums(), "nothing else is made"
    made = draw(*arguments)
    assert made.figure.number in plt.get_fignums()
    made.figure.canvas.draw()
    assert np.asarray(made.figure.canvas.buffer_rgba())[..., :3].std() > 5


def test_categories_have_the_colours_of_the_data() -> None:
    ax = gv.pl.embedding(cells(), "type", basis="umap")
    drawn = [tuple(dots.get_facecolor()[0, :3]) for dots in ax.collections if len(dots.get_offsets())]
    assert {to_rgb(colour) for colour in cells().uns["type_colors"]} <= set(drawn)
    with_gene = gv.pl.embedding(cells(), "0")
    assert with_gene.get_title(loc="left") == "0"
    assert gv.pl.embedding(cells(), "size").collections[-1].get_array() is not None
    assert gv.pl.embedding(cells()).get_legend() is None
    many = cells()
    many.obs["guide"] = [f"g{i % 97}" for i in range(many.n_obs)]
    assert gv.pl.embedding(many, "guide").get_legend() is not None


def test_one_comparison_is_drawn_and_the_others_are_named() -> None:
    table = pd.concat([effects(drug="x"), effects(drug="y")])
    assert "y" in gv.pl.volcano(table, "y").get_title()
    with pytest.raises(DataError, match="Give one comparison"):
        gv.pl.volcano(table)
    assert gv.pl.dose_curves(doses(), "G1").get_legend().get_texts()[0].get_text() == "EC50 0.5"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gv.pl.embedding(cells(), "typ"), "'typ' is no column of obs and no gene. .*'type'"),
        (lambda: gv.pl.embedding(cells(), basis="X_umpa"), "obsm has no 'X_umpa'.*X_umap"),
        (lambda: gv.pl.dose_curves(doses(), "G9"), "no gene 'G9'"),
        (lambda: gv.pl.volcano(SHARES), r"no column 'gene': give that of gv\.effect"),
        (lambda: gv.pl.influence(SHARES), r"give that of gv\.influence"),
    ],
)
def test_what_cannot_be_drawn_is_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()


@pytest.mark.parametrize("name", PICTURES)
def test_a_wrong_object_is_answered_with_what_to_give(name: str) -> None:
    with pytest.raises(DataError, match=r"Give .* gv\..*, not an int\."):
        PICTURES[name][0](3)


def test_the_picture_of_a_model_is_that_of_its_history(tiny_model: gv.Trained) -> None:
    ax = gv.pl.training(tiny_model)
    best = tiny_model.facts["best_epoch"]
    assert f"best epoch ({best})" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_shares_of_intervals_rise_with_their_level(tiny_model: gv.Trained, make_adata: Callable[..., AnnData]) -> None:
    table = gv.calibration(tiny_model, make_adata(60, seed=5), cells=40)
    assert table["model"].is_monotonic_increasing
    assert table.to_numpy().min() >= 0
    assert table.to_numpy().max() <= 1
