"""The layer table counts every parameter once, and `genevae show` prints it."""

from __future__ import annotations

import pytest

import genevae as gv
from genevae.cli import main
from genevae.recipes.registry import RECIPES
from genevae.runs.layers import layer_table


@pytest.mark.parametrize("name", ["nb", "cycle", "convolutional"])
def test_the_parameters_add_up(name, make_adata):
    model = gv.fit(make_adata(40), name, condition=["type"], epochs=1, device="cpu", progress=False)
    table = layer_table(model.module)
    assert table["parameters"].sum() == sum(parameter.numel() for parameter in model.module.parameters())
    assert table["layer"].is_unique
    assert set(RECIPES[name].settings()) >= {"n_latent"}


def test_show_describes_a_run(tiny_model, tmp_path, capsys):
    gv.save(tiny_model, tmp_path / "run")
    main(["show", str(tmp_path / "run")])
    shown = capsys.readouterr().out
    total = sum(parameter.numel() for parameter in tiny_model.module.parameters())
    assert f"{total:,} parameters" in shown
    assert "conditions  type, drug, lane" in shown
    assert "n_latent=4" in shown
