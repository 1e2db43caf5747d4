"""The pictures of a run from the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

import genevae as gv
from genevae.cli import main
from genevae.plotting.bars import contribution_picture
from genevae.plotting.embedding import map_picture


@pytest.fixture(scope="module")
def folder(tiny_model: gv.Trained, make_adata: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plot")
    tiny_model.save(folder / "run")
    make_adata(80, seed=3).write_h5ad(folder / "cells.h5ad")
    return folder


@pytest.mark.parametrize("kind", ["latent", "training", "effect", "calibration"])
def test_each_kind_draws_a_picture(folder: Path, kind: str, capsys) -> None:
    data = [] if kind in {"latent", "training"} else [str(folder / "cells.h5ad")]
    main(["plot", str(folder / "run"), kind, *data, "--out", str(folder / f"{kind}.png")])
    assert imread(folder / f"{kind}.png")[..., :3].std() > 0.02
    assert f"Wrote {folder / f'{kind}.png'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["effect"], r"needs cells: genevae plot .*run effect DATA"),
        (["contributions", "cells.h5ad"], "not a sum of heads"),
        (["dose", "cells.h5ad"], "continuous"),
        (["umap"], "latent"),
    ],
)
def test_what_a_run_has_no_picture_of_is_an_error(folder: Path, arguments: list[str], said: str, capsys) -> None:
    data = [str(folder / name) for name in arguments[1:]]
    with pytest.raises(SystemExit):
        main(["plot", str(folder / "run"), arguments[0], *data, "--out", str(folder / "none.png")])
    assert re.search(said, " ".join(capsys.readouterr().err.split()))
    assert not (folder / "none.png").exists()


def test_contributions_have_a_panel_for_each_category(tmp_path: Path) -> None:
    rows = [("base", "all", "G0", 1.0), *(("$x$", name, f"G{g}", g / 9) for name in "ab" for g in range(12))]
    table = pd.DataFrame(rows, columns=["field", "category", "gene", "excess"]).set_index("field")
    contribution_picture(table, tmp_path / "c.png")
    height, width = imread(tmp_path / "c.png").shape[:2]
    assert width > 1.5 * height, "two panels side by side"


def test_a_map_with_names_is_not_the_one_without(tmp_path: Path) -> None:
    xy = np.random.default_rng(0).normal(size=(60, 2))
    for name, labels in (("named", ["a", "b"] * 30), ("one", ["a"] * 60)):
        map_picture({"PCA": xy}, labels, tmp_path / f"{name}.png")
        assert imread(tmp_path / f"{name}.png")[..., :3].std() > 0.02
    assert (tmp_path / "named.png").read_bytes() != (tmp_path / "one.png").read_bytes()
