"""The report as one HTML file that works from disk, without a network.

The charts are drawn by the scripts beside this file, some 45 kB; plotly's bundle alone would be 4.5 MB. The page's
security policy admits only this very script and style, by their hashes, so that no name in the data can run as code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from genevae.errors import DataError
from genevae.metrics.metric import Metric
from genevae.plotting.training import PALETTE
from genevae.report.glossary import glossary
from genevae.report.numbers import brief
from genevae.report.packing import Packer, embedded, policy_hash
from genevae.report.records import Chart, Map, Section, Verdict
from genevae.report.report import Report
from genevae.report.table import score_table

__all__ = ["render", "require_jinja", "write_page"]

SCRIPTS = ("draw", "chart", "lines", "points", "bars", "heat", "map", "start")
"""In the order in which they stand in the page."""
OPEN, MOST_OPEN = 3, 4
"""Verdicts of a section that are not folded: so many, or one for each of more runs, up to a limit."""
TONES = {"good": ("✓", "Good"), "bad": ("✕", "Poor"), "mixed": ("◐", "Mixed"), "plain": ("i", "Note")}


def require_jinja() -> None:
    """Make sure that the page can be made, before the work that fills it.

    Raises
    ------
    DataError
        If jinja2 is not installed.
    """
    try:
        import jinja2  # noqa: F401 - only whether it is installed
    except ImportError as error:
        raise DataError("The report needs jinja2, which is not installed: pip install 'genevae[report]'.") from error


def write_page(report: Report, path: Path) -> None:
    """Write the report as one HTML file."""
    path.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """Return the report as HTML."""
    require_jinja()
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["brief"] = brief
    figures = Figures()
    overview = [figures.add(chart) for chart in _map_of_all(report)]
    sections = [_shown(section, report, figures) for section in (report.training, *report.sections)]
    style, script = _part("report.css"), _script()
    known = _glossary([report.training, *report.sections])
    roles = {score.who: score.role for section in report.sections for score in section.scores}
    content = {"runs": list(report.runs), "palette": PALETTE, "roles": roles, **figures.content}
    return environment.from_string(_part("report.html.jinja")).render(
        report=report,
        sections=sections,
        overview=overview,
        answers={run: report.answers(run) for run in report.runs},
        facts=list(dict.fromkeys(name for facts in report.runs.values() for name in facts)),
        tones=TONES,
        glossary=known,
        meanings={metric.name: metric.meaning for metric in known},
        # what is marked as safe here is the package's own, or JSON in which no tag can begin
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        content=Markup(embedded(content)),  # noqa: S704
        style_hash=policy_hash(style),
        script_hash=policy_hash(script),
    )


class Figures:
    """The charts of a page, numbered in the order in which they were added."""

    def __init__(self) -> None:
        self._packer = Packer()
        self._charts: list[dict[str, Any]] = []

    @property
    def content(self) -> dict[str, Any]:
        """The charts and their arrays as JSON."""
        return {"charts": self._charts, "arrays": self._packer.arrays}

    def add(self, chart: Chart) -> dict[str, Any]:
        """Keep a chart, and return what the template needs of it."""
        self._charts.append(self._packer.pack(chart))
        return {"chart": chart, "packed": self._charts[-1], "number": len(self._charts) - 1}


def _map_of_all(report: Report) -> Iterator[Map]:
    """Yield one map of cells for the top of the page: the first of every run, coloured by the first field."""
    maps = [chart for section in report.sections for chart in section.charts if isinstance(chart, Map)]
    if not maps:
        return
    several = len(maps) > 1
    spaces = [(chart.who, *next(iter(chart.spaces.items()))) for chart in maps if chart.spaces]
    named = {f"{name} of {run}" if several else name: xy for run, name, xy in spaces}
    n = len(next(iter(named.values()), ()))
    yield replace(
        maps[0],
        title="Cells in the latent",
        spaces={name: xy for name, xy in named.items() if len(xy) == n} if several else maps[0].spaces,
        caption="",
    )


def _shown(section: Section, report: Report, figures: Figures) -> dict[str, Any]:
    """Return what the template needs of a section: what is open, and what is folded."""
    charts = [figures.add(chart) for chart in section.charts]
    n_maps = sum(isinstance(chart, Map) for chart in section.charts)
    n_others = len(charts) - n_maps
    columns = 3 if (n_others > 4 or n_others == 3) and n_maps < 2 else 2
    n_first = 1 if n_maps == 1 and isinstance(section.charts[0], Map) else columns
    first = _foremost(section, report)
    return {
        "section": section,
        "verdicts": first,
        "further": [verdict for verdict in section.verdicts if verdict not in first],
        "tables": [
            (title, table, by_part)
            for title, of, by_part in (("Scores", False, False), ("Scores part by part", True, True))
            if (table := score_table([score for score in section.scores if bool(score.of) is of])).rows
        ],
        "columns": columns,
        "maps": n_maps,
        "charts": [each for each in (charts[:n_first], charts[n_first:]) if each],
    }


def _foremost(section: Section, report: Report) -> list[Verdict]:
    """Return the verdicts that are not folded: the answers of some runs, or the first ones."""
    answers = [found[section.name] for run in report.runs if section.name in (found := report.answers(run))]
    rest = [verdict for verdict in section.verdicts if verdict not in answers]
    return [*answers, *rest[: max(0, OPEN - len(answers))]][: max(OPEN, len(report.runs))][:MOST_OPEN]


def _glossary(sections: Sequence[Section]) -> list[Metric]:
    """Return the metrics that the report holds, as far as the glossary knows them."""
    names = dict.fromkeys(score.metric for section in sections for score in section.scores)
    return [known for name in names if (known := glossary().get(name)) is not None]


def _part(name: str) -> str:
    return (files("genevae.report") / name).read_text(encoding="utf-8")


def _script() -> str:
    return "(() => {\n'use strict';\n" + "\n".join(_part(f"{name}.js") for name in SCRIPTS) + "\n})();"
