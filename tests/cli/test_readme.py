"""The README, typed from top to bottom in a new folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from genevae.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
EPOCHS = 2
"""Instead of the default, so that the test is quick."""


def blocks() -> list[tuple[str, str]]:
    """Return the language and the text of each block of code, but for those of make."""
    found = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
    return [(language, text) for language, text in found if "make " not in text]


def with_quick_scanpy(monkeypatch) -> list[str]:
    """Replace what scanpy compiles for a minute; return the list of what the page called, on cells that have it all."""
    pytest.importorskip("scanpy")
    called = []

    def neighbors(adata, use_rep):
        assert adata.obsm[use_rep].shape == (adata.n_obs, 10)
        called.append("neighbors")

    def plot(adata, color):
        assert set(color) <= set(adata.obs)
        called.append("plot")

    monkeypatch.setattr("scanpy.pp.neighbors", neighbors)
    monkeypatch.setattr("scanpy.tl.umap", lambda _: called.append("umap"))
    monkeypatch.setattr("scanpy.pl.umap", plot)
    return called


def test_the_readme_can_be_typed_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    seen = with_quick_scanpy(monkeypatch)
    typed = blocks()
    assert len(typed) >= 5
    for language, text in typed:
        if language == "python":
            exec(text.replace("gv.fit(adata,", f"gv.fit(adata, epochs={EPOCHS}, recipe="), {})  # noqa: S102 - our own page
            continue
        for line in text.strip().splitlines():
            command = shlex.split(line, comments=True)
            assert command[0] == "genevae"
            short = ["--epochs", str(EPOCHS), "--folds", "1"] if command[1] == "fit" else []
            main([*command[1:], *short, *(["--sections", "labels"] if command[1] == "evaluate" else [])])
    assert seen == ["neighbors", "umap", "plot"]
    assert {path.name for path in tmp_path.iterdir()} >= {
        "cells.h5ad", "run", "what_if", "stimulated.h5ad", "by_type", "new_cells.h5ad", "labels.csv", "report",
    }  # fmt: skip
