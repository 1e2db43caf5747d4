"""The demo, and the counts that it is made of."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pytest

import genevae as gv
from genevae.cli import main
from genevae.preprocessing.example import example


def test_the_counts_are_integers_and_come_back_exactly() -> None:
    import importlib.util

    folder = Path(importlib.util.find_spec("scanpy").origin).parent
    shipped = gv.read(folder / "datasets" / "10x_pbmc68k_reduced.h5ad").raw.to_adata()
    logged, size = shipped.X.toarray(), shipped.obs["n_counts"].to_numpy()[:, None]
    undone = np.expm1(logged) * size / 1e4
    counts = example("pbmc").X.toarray()
    tolerance = 0.0006 * np.exp(logged) * size / 1e4  # the file keeps three decimals of the logarithm
    assert (np.abs(undone - counts) <= tolerance).all(), "no count lies further from an integer than rounding explains"
    assert np.abs(undone - counts).max() < 0.5
    assert np.abs(np.log1p(counts * 1e4 / size) - logged).max() < 6e-4


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    short = functools.partial(gv.fit, epochs=3)
    with pytest.MonkeyPatch.context() as patch:  # UMAP is compiled for a quarter of a minute
        patch.setattr("genevae.evaluation.latent.evaluate.has_umap", lambda: False)
        patch.setattr(gv, "fit", short)
        main(["demo", "--out", str(folder)])
    return folder


def test_it_leaves_what_the_summary_promises(left: Path) -> None:
    promised = {
        "summary.md", "model", "model_by_cell_type", "model_what_if", "what_if.h5ad", "what_if.png",
        "latent.h5ad", "generated.h5ad", "denoised.h5ad", "labels.csv",
        "training.png", "latent.png", "generated.png", "denoised.png",
        "index.html", "explorer.html", "report",
    }  # fmt: skip
    assert {path.name for path in left.iterdir()} == promised
    assert [path.name for path in left.parent.iterdir()] == ["out"], "no draft is left beside it"


def test_its_page_links_what_is_there(left: Path) -> None:
    page = (left / "index.html").read_text(encoding="utf-8")
    linked = re.findall(r'(?:href|src)="([^"#:]+)"', page)
    assert {"explorer.html", "report/report.html", "latent.png", "what_if.png"} <= set(linked)
    assert all((left / place).is_file() for place in linked)
    rows = [line for line in (left / "summary.md").read_text().splitlines() if line.startswith("| What if")]
    assert rows[0].split("|")[2].strip() in page


def test_every_number_stands_beside_a_baseline(left: Path) -> None:
    rows = [line.split("|")[1:4] for line in (left / "summary.md").read_text().splitlines() if line.startswith("| ")]
    scores = [
        row for row in rows if any(word in row[0] for word in ("What if", "Embed", "Classify", "Generate", "Denoise"))
    ]
    assert len(scores) == 6
    for _, ours, others in scores:
        assert float(ours) >= 0
        assert any(character.isdigit() for character in others)


def test_pictures_are_not_blank(left: Path) -> None:
    from matplotlib.image import imread

    for picture in left.glob("*.png"):
        assert imread(picture)[..., :3].std() > 0.05, picture.name
