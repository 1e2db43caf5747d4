"""The report in a real browser: charts are drawn, answer the pointer, fit the screen, and nothing harms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.metrics.example import TYPES, example

from genevae.report.page import write_page

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    write_page(example(2000), path)
    return path


@pytest.fixture
def opened(open_page: Open, report: Path) -> Open:
    """Open the report."""

    def open_report(width: int = 1280, path: Path = report, **given: Any) -> Any:
        return open_page(path, width, **given)

    return open_report


def pixels(page: Any, figure: str = "#latent figure.map") -> str:
    return str(page.eval_on_selector(f"{figure} .stage canvas", "canvas => canvas.toDataURL()"))


def settled(page: Any) -> None:
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_every_chart_is_drawn(opened: Open) -> None:
    page = opened()
    n = page.locator("figure[data-chart]").count()
    assert int(page.evaluate("document.documentElement.dataset.drawn")) == n
    for figure in page.locator("figure[data-chart]").all():
        box = figure.locator(".stage").bounding_box()
        assert box["height"] > 150
        if "map" not in figure.get_attribute("class"):
            assert figure.locator("svg text").count() > 2
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    assert page.eval_on_selector("figure.map .stage canvas", drawn)


def test_the_first_screen_has_what_was_found_beside_a_map(opened: Open) -> None:
    page = opened()
    table, stage = (page.locator(f"#short {each}").bounding_box() for each in ("table.answers", "figure.map .stage"))
    assert table["y"] + table["height"] < 900
    assert stage["y"] + stage["height"] < 900
    assert table["x"] + table["width"] <= stage["x"]
    assert page.locator("#short figure.map select").input_value() == "0"


def test_a_report_of_many_charts_is_short_until_it_is_unfolded(opened: Open, tmp_path: Path) -> None:
    plain = example(500)
    charts = [chart for section in plain.sections for chart in section.charts]
    sections = [replace(section, charts=[*section.charts, *charts]) for section in plain.sections]
    write_page(replace(plain, sections=sections), tmp_path / "many.html")
    page = opened(path=tmp_path / "many.html")
    assert page.evaluate("document.documentElement.scrollHeight") < 8000
    folded = page.locator("#labels details figure.bars")
    assert folded.locator("svg text").count() == 0
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    settled(page)
    assert folded.locator("svg text").count() > 2


def test_a_wide_table_scrolls_in_its_place_and_shows_it(opened: Open, tmp_path: Path) -> None:
    plain = example(50)
    write_page(replace(plain, runs={f"run {i}": {"Recipe": "nb"} for i in range(30)}), tmp_path / "wide.html")
    page = opened(path=tmp_path / "wide.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    table = "document.querySelector('#short .scroll')"
    assert page.evaluate(f"{table}.scrollWidth > {table}.clientWidth")
    place = page.locator("#short .scroll").bounding_box()
    clip = {"x": place["x"] + place["width"] - 20, "y": place["y"], "width": 20, "height": 60}
    before = page.screenshot(clip=clip)
    page.evaluate(f"{table}.scrollLeft = {table}.scrollWidth")
    settled(page)
    assert page.screenshot(clip=clip) != before, "the shadow of what is hidden is gone"


def test_names_in_the_data_do_not_run(opened: Open) -> None:
    page = opened()
    assert page.evaluate("window.harmed") is None
    assert "<script>" in page.locator("#latent figure.map .legend button").first.text_content()
    page.locator("#latent figure.map select").select_option(label="doublet")
    assert page.evaluate("window.harmed") is None


@pytest.mark.parametrize("width", [1280, 768, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_never_scrolls_sideways(opened: Open, width: int, scheme: str) -> None:
    page = opened(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_another_field_recolours_the_map(opened: Open) -> None:
    page = opened()
    seen = {pixels(page)}
    for field in ("condition", "donor", "n_counts"):
        page.locator("#latent figure.map select").select_option(label=field)
        seen.add(pixels(page))
    assert len(seen) == 4
    assert page.locator("#latent figure.map .legend .scale span").count() == 2


def test_another_space_moves_the_cells(opened: Open) -> None:
    page = opened()
    before = pixels(page)
    page.locator("#latent").get_by_role("button", name="PCA of nb").click()
    assert pixels(page) != before
    assert page.locator("#latent").get_by_role("button", name="PCA of nb").get_attribute("aria-pressed") == "true"


def test_the_legend_hides_and_shows(opened: Open) -> None:
    page = opened()
    entry = page.locator("#latent figure.map .legend button").nth(1)
    page.mouse.move(0, 0)
    before = pixels(page)
    entry.click()
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    settled(page)
    assert pixels(page) != before
    assert page.locator("#latent figure.map .legend button").nth(1).get_attribute("aria-pressed") == "false"
    page.locator("#latent figure.map .legend button").nth(1).click()
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    settled(page)
    assert pixels(page) == before


def hovered(page: Any, figure: str) -> str:
    """Move over a chart, from its middle outwards, until something is under the pointer."""
    stage = page.locator(figure).first.locator(".stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    steps = sorted(range(1, 24), key=lambda i: abs(i - 12))
    for i, j in sorted(((i, j) for i in steps for j in steps), key=lambda at: abs(at[0] - 12) + abs(at[1] - 12)):
        page.mouse.move(box["x"] + box["width"] * i / 24, box["y"] + box["height"] * j / 24)
        if page.locator("#tip").is_visible():
            return str(page.locator("#tip").inner_text())
    return ""


def test_the_pointer_is_told_what_is_under_it(opened: Open) -> None:
    page = opened()
    assert "cell_type: " in hovered(page, "#latent figure.map")
    assert "donor" in hovered(page, "#latent figure.map")
    assert any(kind in hovered(page, "figure.bars") for kind in TYPES)
    assert "GENE" in hovered(page, "figure.points")
    assert "epoch" in hovered(page, "#training figure.lines")
    assert "told" in hovered(page, "figure.heat")
    page.mouse.move(2, 2)
    assert not page.locator("#tip").is_visible()


def test_the_keyboard_goes_from_item_to_item(opened: Open) -> None:
    page = opened()
    page.locator("figure.bars .stage").focus()
    page.keyboard.press("ArrowDown")
    first = page.locator("#tip").inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator("#tip").inner_text() != first
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()


def test_zoom_by_wheel_waits_for_a_click(opened: Open) -> None:
    page = opened()
    stage = page.locator("#latent figure.map .stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    before = pixels(page)
    page.mouse.wheel(0, 30)
    settled(page)
    assert pixels(page) == before
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 200)
    page.mouse.down()
    page.mouse.up()
    page.mouse.wheel(0, -400)
    settled(page)
    zoomed = pixels(page)
    assert zoomed != before
    page.locator("#latent").get_by_role("button", name="Show all").click()
    settled(page)
    page.mouse.move(2, 2)
    assert pixels(page) == before


def test_a_drag_moves_the_map(opened: Open) -> None:
    page = opened()
    stage = page.locator("#latent figure.map .stage")
    stage.scroll_into_view_if_needed()
    box, before = stage.bounding_box(), pixels(page)
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 260, steps=4)
    page.mouse.up()
    settled(page)
    assert pixels(page) != before


def test_a_gene_can_be_found_by_name(opened: Open) -> None:
    page = opened()
    page.locator(".search input").fill("gene123")
    assert page.locator("figure.points svg text", has_text="GENE123").count() == 1
    assert page.locator("figure.points svg .found").count() == 1


def test_it_prints_in_light_colours(opened: Open) -> None:
    page = opened(color_scheme="dark")
    dark = pixels(page)
    assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")
    page.emulate_media(media="print")
    settled(page)
    assert pixels(page) != dark
    page.emulate_media(media="screen")
    settled(page)
    assert pixels(page) == dark


def test_fifty_thousand_cells_open_and_answer(opened: Open, tmp_path: Path) -> None:
    write_page(example(50_000), tmp_path / "large.html")
    page = opened(path=tmp_path / "large.html")
    assert "cell_type: " in hovered(page, "#latent figure.map")
