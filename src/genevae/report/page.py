"""The report as one HTML file that works from disk, without a network.

The charts are drawn by the scripts beside this file, some 45 kB; plotly's bundle alone would be 4.5 MB. The page's
security policy admits only this very script and style, by their hashes, so that no name in the data can run as code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from genevae.errors import DataError
from genevae.metrics.metric import Metric
from genevae.plotting.training import PALETTE
from genevae.report.glossary import glossary
from genevae.report.numbers import brief
from genevae.report.packing import Packer
from genevae.report.records import Map, Section, Verdict
from genevae.report.report import Report
from genevae.report.table import score_table

__all__ = ["render", "require_jinja", "write_page"]

SCRIPTS = ("draw", "chart", "lines", "points", "bars", "heat", "map", "start")
"""In the order in which they stand in the page."""
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
    packer = Packer()
    sections = [_shown(section, packer) for section in (report.training, *report.sections)]
    style, script = _part("report.css"), _script()
    content = {"runs": list(report.runs), "palette": PALETTE, "arrays": packer.arrays, **_charts(report, sections)}
    return environment.from_string(_part("report.html.jinja")).render(
        report=report,
        sections=sections,
        short=_in_short(report),
        facts=list(dict.fromkeys(name for facts in report.runs.values() for name in facts)),
        tones=TONES,
        glossary=_glossary([report.training, *report.sections]),
        # what is marked as safe here is the package's own, or JSON in which no tag can begin
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        content=Markup(_embedded(content)),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _shown(section: Section, packer: Packer) -> dict[str, Any]:
    """Return what the template needs of a section."""
    return {
        "section": section,
        "overall": score_table([score for score in section.scores if not score.of]),
        "parts": score_table([score for score in section.scores if score.of]),
        "columns": _columns(section),
        "maps": _maps(section),
        "charts": [{"chart": chart, "packed": packer.pack(chart)} for chart in section.charts],
    }


def _columns(section: Section) -> int:
    """Return how many charts stand side by side: as many as fill the rows."""
    n = sum(not isinstance(chart, Map) for chart in section.charts)
    return 3 if (n > 4 or n == 3) and _maps(section) < 2 else 2


def _maps(section: Section) -> int:
    return sum(isinstance(chart, Map) for chart in section.charts)


def _charts(report: Report, sections: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the charts in the order of their figures, and the role of each name, for their colours."""
    roles = {score.who: score.role for section in report.sections for score in section.scores}
    return {"charts": [chart["packed"] for shown in sections for chart in shown["charts"]], "roles": roles}


def _in_short(report: Report) -> list[tuple[Section, Sequence[Verdict]]]:
    """Return the first two verdicts of each section or, of several runs, the first that is about each."""
    runs = list(report.runs)
    return [(s, _foremost(s.verdicts, runs)) for s in (*report.sections, report.training) if s.verdicts]


def _foremost(verdicts: Sequence[Verdict], runs: Sequence[str]) -> Sequence[Verdict]:
    first: dict[str, Verdict] = {}
    for verdict in verdicts:
        if named := re.search("|".join(rf"(?<!\w){re.escape(run)}(?!\w)" for run in runs), verdict.text):
            first.setdefault(named[0], verdict)
    return verdicts[:2] if len(runs) < 2 or not first else list(first.values())


def _glossary(sections: Sequence[Section]) -> list[Metric]:
    """Return the metrics that the report holds, as far as the glossary knows them."""
    names = dict.fromkeys(score.metric for section in sections for score in section.scores)
    return [known for name in names if (known := glossary().get(name)) is not None]


def _embedded(content: object) -> str:
    """Return JSON that can stand inside a script element: no tag or comment can begin in it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _part(name: str) -> str:
    return (files("genevae.report") / name).read_text(encoding="utf-8")


def _script() -> str:
    return "(() => {\n'use strict';\n" + "\n".join(_part(f"{name}.js") for name in SCRIPTS) + "\n})();"


def _hash(text: str) -> str:
    """Return what the security policy calls this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
