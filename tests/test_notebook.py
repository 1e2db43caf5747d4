"""In a notebook, training shows its bar, and a model its table."""

from __future__ import annotations

import pytest

CELLS = (
    "import numpy as np, anndata as ad, genevae as gv",
    "x = np.random.default_rng(0).poisson(2.0, (60, 20)).astype('float32')",
    "model = gv.fit(ad.AnnData(x), epochs=3)",
    "model",
)


def test_a_notebook_shows_the_bar_and_the_model():
    pytest.importorskip("ipykernel")
    nbclient = pytest.importorskip("nbclient")
    from nbformat.v4 import new_code_cell, new_notebook

    notebook = new_notebook(cells=[new_code_cell(text) for text in CELLS])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    bar, table = (notebook.cells[at].outputs[0]["data"]["text/html"] for at in (2, 3))
    assert "<progress value='3' max='3'>" in bar
    assert "cells/s" in bar
    assert table.startswith("<table>")
    assert len(notebook.cells[2].outputs) == 1, "one element, which is updated"
