"""The explorer as a page: what it shows is what Python says, the keyboard suffices, and no name runs as code."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.explorer.test_decoder import untrained
from tests.metrics.example import CLOSING, EVIL

import genevae as gv
from genevae.cells import Condition
from genevae.cli import main
from genevae.errors import DataError, RunError
from genevae.models.reference import Reference

Open = Callable[..., Any]
RESULT = "(name) => Array.from(genevae.result[name])"


class Made:
    """A run, its data and its page."""

    def __init__(self, folder: Path, make_adata: Any) -> None:
        self.adata = make_adata(160)
        self.adata.obs["type"] = self.adata.obs["type"].cat.rename_categories({"A": EVIL, "B": CLOSING, "C": "C"})
        self.adata.var_names = [EVIL, *self.adata.var_names[1:]]
        self.adata.obs_names = [CLOSING, *self.adata.obs_names[1:]]
        self.folder, self.data, self.run, self.page = (
            folder,
            *(folder / n for n in ("cells.h5ad", "run", "page.html")),
        )
        self.adata.write_h5ad(self.data)
        sets = folder / "sets.gmt"
        sets.write_text(f"{EVIL}\t\t{EVIL}\tG1\tG2\nstimulated\t\tG20\tG21\tG22\tG23\tG24\nelsewhere\t\tX\tY\tZ\n")
        self.model = gv.fit(
            self.adata, condition=["type", "drug"], control={"drug": "ctrl"}, continuous="dose", batch="lane",
            epochs=8, folds=0, n_latent=4, hidden=[16], progress=False, device="cpu",
        )  # fmt: skip
        self.model.save(self.run)
        main(["explore", str(self.run), str(self.data), "--out", str(self.page), "--gene-sets", str(sets)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_adata: Any) -> Made:
    return Made(tmp_path_factory.mktemp("explorer"), make_adata)


def choose(page: Any, group: str) -> None:
    label = page.eval_on_selector(
        "#group", "(menu, name) => [...menu.options].find((o) => o.text.startsWith(name)).text", group
    )
    page.select_option("#group", label=label)


def set_to(page: Any, which: str, field: str, label: str) -> None:
    page.get_by_label(f"{field} in {which}", exact=True).select_option(label=label)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_the_page_fits_every_screen(made: Made, open_page: Open) -> None:
    page = open_page(made.page)
    for width in (360, 768, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.locator("#genes tr").count() == 12


def test_its_decoder_is_that_of_python(made: Made, open_page: Open) -> None:
    page = open_page(made.page)
    z_nk = made.model.reference.mean_nk.numpy()[:20]
    given = {"type": EVIL, "drug": "stim", "lane": "l2", "dose": 1.5}
    theirs = page.evaluate(
        "([z, given]) => z.map((one) => Array.from(genevae.decode(one, given)))", [z_nk.tolist(), given]
    )
    np.testing.assert_allclose(theirs, gv.decode(made.model, z_nk, given), rtol=1e-3)


def test_answers_and_their_intervals_are_those_of_counterfactual(made: Made, open_page: Open) -> None:
    page = open_page(made.page)
    choose(page, f"{EVIL} (ctrl")
    set_to(page, "B", "drug", "stim")
    answer = gv.counterfactual(made.model, made.adata, {"drug": "stim"})
    (name,) = [each for each in answer.varm["shift"] if each.startswith(EVIL) and each.endswith("(ctrl)")]
    shift_g, lower_g = answer.varm["shift"][name], answer.varm["shift_lower"][name]
    largest = np.abs(shift_g).max()
    np.testing.assert_allclose(page.evaluate(RESULT, "shift"), shift_g, rtol=1e-3, atol=1e-4 * largest)
    np.testing.assert_allclose(page.evaluate(RESULT, "half"), shift_g - lower_g, rtol=1e-3)
    assert re.search(r"\d+ of 30 genes change, by intervals of 90 %", page.text_content("#answer-note"))


def test_the_lines_of_python_give_the_numbers_of_the_page(made: Made, open_page: Open, monkeypatch, capsys) -> None:
    page = open_page(made.page)
    choose(page, f"{CLOSING} (ctrl")
    set_to(page, "B", "drug", "stim")
    monkeypatch.chdir(made.folder)
    found: dict[str, Any] = {}
    exec(page.text_content("#python"), found)  # noqa: S102 - the lines that the page offers
    capsys.readouterr()
    theirs = np.log1p(found["b"]) - np.log1p(found["a"])
    np.testing.assert_allclose(page.evaluate(RESULT, "change"), theirs, rtol=2e-3, atol=1e-3)
    command = page.text_content("#command").splitlines()[0]
    assert command == "genevae counterfactual run cells.h5ad --set drug=stim --out answer.h5ad"


def test_what_was_never_seen_is_grey_and_says_so(made: Made, open_page: Open) -> None:
    page = open_page(made.page)
    choose(page, "C (ctrl")
    set_to(page, "B", "drug", "stim")
    assert page.locator("#support").is_visible()
    assert page.text_content("#support").startswith("Never seen: B")
    assert "grayscale" in page.eval_on_selector(".result", "(node) => getComputedStyle(node).filter")
    choose(page, f"{EVIL} (ctrl")
    set_to(page, "B", "drug", "ctrl")
    assert not page.locator("#support").is_visible()
    assert page.eval_on_selector(".result", "(node) => getComputedStyle(node).filter") == "none"


def test_no_name_runs_as_code(made: Made, open_page: Open) -> None:
    assert EVIL not in made.page.read_text(encoding="utf-8")
    page = open_page(made.page)
    choose(page, f"{EVIL} (ctrl")
    page.fill("#gene", EVIL)
    page.press("#gene", "Tab")
    page.fill("#cell", CLOSING)
    page.press("#cell", "Tab")
    assert page.text_content("#chosen") == f"Chosen: {CLOSING}."
    assert page.locator("#sets button").first.text_content() in {EVIL, "stimulated"}
    assert page.locator("script").count() == 2
    assert page.evaluate("document.querySelectorAll('img, iframe, b script').length") == 0


def test_the_keyboard_suffices(made: Made, open_page: Open) -> None:
    """Choose cells, set both conditions and a dose, read the table, and copy it, without a pointer."""
    page = open_page(made.page)

    def go_to(selector: str) -> None:
        for _ in range(80):
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{selector} cannot be reached with the Tab key")

    go_to("#group")
    page.keyboard.press("End")
    group = page.text_content("#chosen")
    go_to("figure.map .stage")
    page.keyboard.press("+")
    page.keyboard.press("Enter")
    assert page.text_content("#chosen") != group
    go_to("[aria-label='dose in B']")
    page.keyboard.press("End")
    assert page.get_by_label("dose in B").get_attribute("aria-valuetext") != "as observed"
    go_to("#order")
    page.keyboard.press("End")
    go_to("#genes button")
    page.keyboard.press("Enter")
    assert page.input_value("#gene") == page.text_content("#genes button >> nth=0")
    go_to("figure.volcano .stage")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    second = np.argsort(-np.abs(page.evaluate(RESULT, "shift")))[1]
    assert page.input_value("#gene") == made.adata.var_names[second]
    go_to("#over")
    page.keyboard.press("ArrowDown")
    go_to("#colour-gene")
    page.keyboard.press("Enter")
    assert page.locator("figure.map select option").last.text_content().endswith("(predicted)")


def test_a_lasso_a_cell_and_a_place_can_be_chosen_on_the_map(made: Made, open_page: Open) -> None:
    page = open_page(made.page)
    stage = page.locator("figure.map .stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.get_by_role("button", name="Lasso").click()
    page.mouse.move(box["x"] + 4, box["y"] + 40)
    page.mouse.down()
    for x, y in ((box["width"] - 4, 40), (box["width"] - 4, box["height"] - 4), (4, box["height"] - 4)):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    page.mouse.up()
    assert re.fullmatch(r"Chosen: \d+ cells of a lasso.", page.text_content("#chosen"))
    page.mouse.click(box["x"] + 3, box["y"] + box["height"] - 3)
    assert page.text_content("#chosen") in {
        "Chosen: a place on the map.",
        *(f"Chosen: {n}." for n in made.adata.obs_names),
    }
    assert np.isfinite(page.evaluate(RESULT, "change")).all()


def test_a_table_can_be_copied(made: Made, open_page: Open, browser: Any) -> None:
    page = open_page(made.page)
    page.evaluate(
        "() => { window.kept = []; navigator.clipboard.writeText = async (text) => { window.kept.push(text); }; }"
    )
    for button in ("copy-csv", "copy-volcano", "copy-gene"):
        page.click(f"#{button}")
    csv, *pictures = page.evaluate("window.kept")
    table = pd.read_csv(io.StringIO(csv))
    assert list(table["gene"]) == list(made.adata.var_names)
    np.testing.assert_allclose(table["decoder_change"], page.evaluate(RESULT, "change"), rtol=1e-5, atol=1e-7)
    assert all(picture.startswith("<svg") and EVIL not in picture for picture in pictures)


def test_a_page_of_two_thousand_genes_and_twenty_thousand_cells_can_be_mailed(tmp_path: Path) -> None:
    model = untrained("conditional", {}, n_genes=2000)
    n, schema = 20_000, model.schema
    codes = {c.name: torch.arange(n) % len(c.categories) for c in schema.categorical}
    condition = Condition(torch.ones(n, 1), codes, {c.name: torch.zeros(n) for c in schema.continuous})
    z_nk = torch.randn(n, 128)
    full = SimpleNamespace(
        module=model.module, schema=schema, reference=Reference(z_nk, z_nk, condition), responses=None,
        recipe=SimpleNamespace(name="conditional"),
    )  # fmt: skip
    page = gv.explore(full, out=tmp_path / "large.html")
    assert page.stat().st_size < 5_000_000


def test_mistakes_are_answered_before_the_work(made: Made, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ends in \.html, not page.pdf"):
        gv.explore(made.model, made.adata, out=tmp_path / "page.pdf")
    with pytest.raises(RunError, match="already exists"):
        gv.explore(made.model, made.adata, out=made.page)
    sets = tmp_path / "mouse.gmt"
    sets.write_text("set\t\tXkr4\tRp1\tSox17\n")
    with pytest.raises(DataError, match=r"mouse.gmt has 3 genes of the model.*Xkr4"):
        gv.explore(made.model, made.adata, out=tmp_path / "page.html", gene_sets=sets)
    with pytest.raises(DataError, match="no projection 'map'"):
        gv.explore(made.model, made.adata, out=tmp_path / "page.html", projection="map")
    assert [path.name for path in tmp_path.iterdir()] == ["mouse.gmt"]


def test_without_data_the_map_has_training_cells_and_says_what_is_missing(
    made: Made, open_page: Open, tmp_path: Path
) -> None:
    page = open_page(made.model.explore(out=tmp_path / "page.html"))
    assert "without data" in page.text_content("#answer-note")
    assert page.evaluate("genevae.result.half") is None
    assert np.abs(page.evaluate(RESULT, "change")).max() > 0


def test_a_model_without_conditions_has_a_map_and_its_genes(open_page: Open, tmp_path: Path) -> None:
    model = untrained("nb", {}, conditions=())
    condition = Condition(torch.ones(40, 1))
    z_nk = torch.randn(40, 10)
    full = SimpleNamespace(
        module=model.module, schema=model.schema, reference=Reference(z_nk, z_nk, condition), responses=None,
        recipe=SimpleNamespace(name="nb"),
    )  # fmt: skip
    page = open_page(gv.explore(full, out=tmp_path / "page.html"))
    assert "no condition" in page.text_content("#answer-note")
    assert not page.locator("#over").is_visible()
    expected = gv.decode(model, z_nk.numpy()).mean()
    np.testing.assert_allclose(page.evaluate(RESULT, "inA"), expected, rtol=1e-3)
    assert page.text_content("#genes button >> nth=0") == expected.idxmax()
