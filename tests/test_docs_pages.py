"""The code of the documentation runs, and the site names all that is public."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
THEORY = [page for page in sorted((DOCS / "theory").glob("*.md")) if page.name != "index.md"]


def cells_of(page: Path) -> list[str]:
    """Return the code cells of a page, without their options."""
    found = re.findall(
        r"^```\{code-cell\}[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return [re.sub(r"\A(?::[\w-]+:.*\n)+", "", cell) for cell in found]


def test_the_series_has_twelve_lessons() -> None:
    assert len(THEORY) == 12


@pytest.mark.parametrize("page", THEORY, ids=lambda page: page.stem)
def test_formulas_of_a_lesson_are_those_of_the_package(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    monkeypatch.setenv("MPLBACKEND", "Agg")
    text = page.read_text(encoding="utf-8")
    assert "## Check" in text
    assert "**Read next:**" in text
    cells = cells_of(page)
    assert any("plt.subplots" in cell for cell in cells), "a lesson computes its figure"
    assert any("assert" in cell and "genevae" in "".join(cells) for cell in cells), "a lesson checks its formulas"
    names: dict[str, object] = {"__name__": "__main__"}
    with torch.random.fork_rng(), plt.ioff(), warnings.catch_warnings():
        for number, cell in enumerate(cells):
            exec(compile(cell, f"{page.name}, cell {number}", "exec"), names)  # noqa: S102 - our own pages
    plt.close("all")
