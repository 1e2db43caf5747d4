"""The report as a file: what it holds, how light it is, and that no name in the data can run as code."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.metrics.example import CLOSING, EVIL, RUNS, example

from genevae.report.packing import MAX_CATEGORIES, MISSING, MISSING_BYTE, Packer
from genevae.report.page import render, write_page
from genevae.report.records import Bars, Lines, Map, Score, Section, Verdict
from genevae.report.report import metrics_json, write_metrics
from genevae.report.table import score_table


def opened(packer: Packer, place: int) -> np.ndarray[Any, Any]:
    array = packer.arrays[place]
    return np.frombuffer(base64.b64decode(array["content"]), dtype="<" + array["kind"])


class Elements(HTMLParser):
    """Collects the elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def content_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=50))
def test_numbers_of_cells_survive_packing_up_to_a_part_of_their_range(values: list[float]) -> None:
    packer, x = Packer(), np.array(values)
    packed = packer.pack(Map(title="", spaces={"PCA": np.zeros((len(x), 2))}, fields={"f": x}))["fields"][0]
    code_n = opened(packer, packed["values"]).astype(float)
    assert ((code_n == MISSING) == np.isnan(x)).all()
    known = ~np.isnan(x)
    if known.any():
        low, high = x[known].min(), x[known].max()
        back = low + code_n[known] / (MISSING - 1) * (high - low)
        assert np.abs(back - x[known]).max() <= (high - low) / (MISSING - 1) + 1e-9


@given(st.lists(st.sampled_from(["b", "10", "9", EVIL, None]), min_size=1, max_size=40))
def test_categories_survive_packing(values: list[str | None]) -> None:
    packer = Packer()
    fields = {"f": np.array(values, dtype=object)}
    packed = packer.pack(Map(title="", spaces={"PCA": np.zeros((len(values), 2))}, fields=fields))["fields"][0]
    code_n = opened(packer, packed["codes"])
    assert [None if code == MISSING_BYTE else packed["names"][code] for code in code_n] == values
    numbers = [name for name in packed["names"] if name.isdecimal()]
    assert numbers == sorted(numbers, key=int)


def test_of_too_many_categories_the_rarest_become_others() -> None:
    packer = Packer()
    values = np.array([f"c{i}" for i in range(300)] + ["c7"] * 5, dtype=object)
    packed = packer.pack(Map(title="", spaces={"PCA": np.zeros((305, 2))}, fields={"f": values}))["fields"][0]
    assert len(packed["names"]) == MAX_CATEGORIES
    assert {"c7", "other"} <= set(packed["names"])


def test_an_array_is_kept_once() -> None:
    packer, xy = Packer(), np.random.default_rng(0).normal(size=(50, 2))
    same = Map(title="", spaces={"PCA": xy}, fields={"n": xy[:, 0]})
    assert packer.pack(same) == packer.pack(same)
    assert len(packer.arrays) == 2


def test_what_is_not_finite_becomes_null() -> None:
    packed = Packer().pack(Lines(title="", series={"a": ([0, 1], [float("nan"), float("inf")])}))
    assert packed["series"][0]["y"] == [None, None]


def test_the_table_puts_runs_first_and_marks_the_best() -> None:
    scores = [
        Score(metric="error", who="mean", value=2.0, role="baseline", better="lower"),
        Score(metric="error", who="run", value=1.0, better="lower"),
        Score(metric="error", who="halves", value=0.5, role="ceiling", better="lower"),
        Score(metric="coverage", who="run", value=0.7, better="closer", ideal=0.9),
        Score(metric="coverage", who="mean", value=0.95, role="baseline", better="closer", ideal=0.9),
        Score(metric="share", who="run", of="B", value=float("nan"), better="lower"),
    ]
    table = score_table(scores)
    assert [column.who for column in table.columns] == ["run", "mean", "halves"]
    error, coverage, part = table.rows
    assert [cell and cell.best for cell in error.cells] == [True, False, False]
    assert [cell and cell.best for cell in coverage.cells] == [False, True, None]
    assert coverage.aim == "closest to 0.900"
    assert part.of == "B"
    assert part.cells[0] is not None
    assert part.cells[0].text == "–"


def test_only_what_can_be_compared_competes() -> None:
    numbers = {"nb": (1.0, "counts"), "mean": (2.0, "counts"), "gaussian": (9.0, "logs"), "normal": (8.0, "logs")}
    scores = [Score(metric="m", who=who, value=value, scale=scale) for who, (value, scale) in numbers.items()]
    (row,) = score_table(scores).rows
    assert [cell and cell.best for cell in row.cells] == [False, True, True, False]


def test_the_first_screen_has_what_each_section_says_of_each_run() -> None:
    told = [
        Verdict("Both are alike."),
        Verdict("nb is good.", "good", "nb", "9 (PCA 8)"),
        Verdict("nb is large.", who="nb"),
    ]
    told += [Verdict("nb2 loses.", "bad", "nb2", "7 (PCA 8)", "train it longer")]
    section = Section(name="s", title="?", verdicts=told)
    report = replace(example(10), runs={"nb": {}, "nb2": {}}, sections=[section])
    short = render(report).split('id="short"', 1)[1].split("</section>", 1)[0]
    assert [
        text for text in ("9 (PCA 8)", "7 (PCA 8)", "Train it longer.", "Nothing needs to change.") if text in short
    ]
    assert report.summary.loc["s"].to_dict() == {"nb": "+ 9 (PCA 8)", "nb2": "− 7 (PCA 8)"}
    assert report.advice("nb2") == "Train it longer."
    assert report.advice("nb") == "Nothing needs to change."


def test_the_paragraph_of_a_run_has_its_own_findings() -> None:
    told = [
        Verdict("nb is good.", "good", "nb", "9 (PCA 8)"),
        Verdict("nb2 loses.", "bad", "nb2", "7 (PCA 8)", "train it longer"),
    ]
    report = replace(
        example(10), runs={"nb": {"Recipe": "nb", "Genes": "2,000"}, "nb2": {}},
        sections=[Section(name="s", title="?", verdicts=told)],
    )  # fmt: skip
    assert report.paragraph("nb") == (
        "nb (recipe nb, 2,000 genes) was evaluated on kang_merged.h5ad: good in s, training. nb is good."
    )
    assert report.paragraph("nb2") == "nb2 was evaluated on kang_merged.h5ad: poor in s. nb2 loses."
    assert report.paragraph("nb2") in render(report)
    assert metrics_json(report)["summary"]["nb2"] == report.paragraph("nb2")


def test_every_number_of_a_table_has_the_definition_of_its_score() -> None:
    score = Score(metric="accuracy", who="nb", value=0.9)
    page = render(replace(example(10), sections=[Section(name="s", title="?", scores=[score])]))
    cells = [each for each in Elements(page).of("td") if "number" in (each.get("class") or "")]
    assert "Share of the cells whose label is predicted right." in {cell.get("title") for cell in cells}


def test_cards_and_methods_are_text() -> None:
    page = render(replace(example(10), cards={"nb": {"Limits": EVIL}}, methods={"nb": f"We trained {EVIL}."}))
    assert EVIL not in page
    assert page.count("&lt;script&gt;window.harmed") >= 2


def test_nothing_that_was_found_is_missing_on_the_page() -> None:
    told = [Verdict(f"Finding {i}.", who="nb", short=str(i) if i == 7 else "") for i in range(20)]
    charts = [Bars(title=f"chart {i}", names=["a"], series={"x": [1.0]}) for i in range(9)]
    report = replace(example(10), sections=[Section(name="s", title="?", verdicts=told, charts=charts)])
    page = render(report).split('id="s"', 1)[1]
    assert [page.count(f">{verdict.text}<") for verdict in told] == [1] * 20
    assert [page.count(f"<h3>{chart.title}</h3>") for chart in charts] == [1] * 9
    assert page.index("Finding 7.") < page.index("<details") < page.index("Finding 19.")


@pytest.mark.parametrize("n_runs", [1, 2, 9])
def test_the_representation_fits_a_screen(n_runs: int) -> None:
    runs = {f"run {i} of a long name": {} for i in range(n_runs)}
    told = [Verdict("text " * 99, "good", run, "words " * 20, "do this") for run in runs]
    sections = [Section(name=f"section{i}", title="?", verdicts=told) for i in range(5)]
    report = replace(example(10), runs=runs, sections=sections)
    lines = repr(report).splitlines()
    assert lines[1] == "2,500 cells that no run was trained on (new)."
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 160
    assert EVIL not in replace(report, data=EVIL)._repr_html_()


def test_a_row_of_equals_or_of_one_has_no_best() -> None:
    alone = score_table([Score(metric="m", who="run", value=1.0)])
    equal = score_table([Score(metric="m", who=who, value=1.0) for who in ("run", "other")])
    assert not any(cell.best for table in (alone, equal) for row in table.rows for cell in row.cells if cell)


def test_names_are_text_and_never_code() -> None:
    page = render(example(200))
    elements = Elements(page)
    assert len(elements.of("script")) == 2
    assert len(elements.of("img")) == 0
    assert EVIL not in page
    content = content_of(page)
    names = [
        name
        for chart in content["charts"]
        if chart["type"] == "map"
        for f in chart["fields"]
        for name in f.get("names", ())
    ]
    assert {EVIL, CLOSING} <= set(names)


def test_nothing_is_asked_of_a_network() -> None:
    elements = Elements(render(example(200)))
    places = [
        value for _, attributes in elements.found for name, value in attributes.items() if name in {"src", "href"}
    ]
    assert places
    assert all(place is not None and place.startswith(("#", "data:")) for place in places)
    assert not elements.of("iframe")


def test_the_policy_admits_the_pages_own_script_and_style_alone() -> None:
    page = render(example(50))
    policy = next(m["content"] for m in Elements(page).of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for kind, tag in (("script", "<script>"), ("style", "<style>")):
        text = page.split(tag, 1)[1].split(f"</{kind}>", 1)[0]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_every_figure_has_its_chart_and_every_link_its_target() -> None:
    page = render(example(50))
    elements = Elements(page)
    content = content_of(page)
    figures = [int(figure["data-chart"] or -1) for figure in elements.of("figure")]
    assert sorted(figures) == list(range(len(content["charts"])))
    titles = re.findall(r'data-chart="(\d+)">\s*<figcaption><h3>(.*?)</h3>', page)
    assert {int(at): title for at, title in titles} == {i: chart["title"] for i, chart in enumerate(content["charts"])}
    ids = {attributes["id"] for _, attributes in elements.found if "id" in attributes}
    assert {(link["href"] or "")[1:] for link in elements.of("a")} <= ids


def test_fifty_thousand_cells_take_less_than_five_megabytes(tmp_path) -> None:
    write_page(example(50_000), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


def test_the_metrics_are_json_and_a_table(tmp_path) -> None:
    report = example(50)
    write_metrics(report, tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert written == json.loads(json.dumps(metrics_json(report)))
    assert written["sections"][-1]["scores"][0]["value"] is None
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert len(table) == sum(len(section["scores"]) for section in written["sections"])
    assert set(table["who"]) >= set(RUNS)


def test_a_chart_of_bars_has_its_numbers_as_a_table() -> None:
    page = render(example(50))
    bars = next(chart for section in example(50).sections for chart in section.charts if isinstance(chart, Bars))
    assert page.count('<details class="numbers">') >= 1
    assert all(f'<th scope="row">{name}</th>' in page for name in bars.names)
