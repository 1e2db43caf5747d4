"""What pages take from the package, without Sphinx: commands, defaults, graphs, and which data a page needs."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import Any

__all__ = ["COMMANDS_HERE", "commands", "defaults", "missing_data", "pages_without_data", "shown", "svg_of"]

NEEDS = re.compile(r"^genevae_data: (.+)$", re.MULTILINE)
"""A line of a page's head that names the files of GENEVAE_DATA that its cells read."""


def missing_data(text: str) -> list[str]:
    """Return the files that a page needs and that are not in the folder GENEVAE_DATA."""
    found = NEEDS.search(text.split("\n---", 1)[0])
    root = os.environ.get("GENEVAE_DATA")
    names = re.split(r",\s*", found[1].strip()) if found else []
    return [name for name in names if root is None or not (Path(root) / name).exists()]


def pages_without_data(folder: Path) -> list[str]:
    """Return the pages whose cells cannot run, because their data are not here."""
    pages = sorted(folder.rglob("*.md"))
    return [page.relative_to(folder).as_posix() for page in pages if missing_data(page.read_text(encoding="utf-8"))]


COMMANDS_HERE = "<!-- all commands -->"
SHARED = "How the data are read"
"""The group of options that most commands have; the page lists them once."""


def commands() -> str:
    """Return every command as Markdown, as the command line describes itself."""
    from genevae.cli import app

    text = app.generate_docs(output_format="markdown")
    sections = re.split(r"^(?=#+ genevae )", text, flags=re.MULTILINE)[1:]
    shared, pages = "", []
    for section in sections:
        title = re.match(r"(#+) (genevae .*)", section)
        if title is None or title[2] == "genevae":
            continue
        part, found = _without_shared(section)
        shared = shared or found
        part = re.sub(r"^\*\*Commands\*\*:\n\n(?:\* .*\n)+", "", part, flags=re.MULTILINE)
        part = re.sub(r"\*\*(?:Parameters|Arguments|Options)\*\*:\n", "", part)
        pages.append(f"({title[2].replace(' ', '-')})=\n{_escaped(part)}")
    heading = f"(options-of-data)=\n## {SHARED}\n\nCommands that read cells also have these options.\n\n"
    return "\n".join([*pages, heading + _escaped(shared)])


def _without_shared(section: str) -> tuple[str, str]:
    """Split the options of how data are read from a section, and link to them instead."""
    before, marked, after = section.partition(f"**{SHARED}**:\n")
    if not marked:
        return section, ""
    options = re.match(r"\s*((?:\* .*\n|    .*\n|\n)+)", after)
    listed = options[1] if options else ""
    link = "And the options of [how the data are read](#options-of-data).\n\n"
    return before + link + after[len(options[0]) if options else 0 :], listed


def _escaped(text: str) -> str:
    """Return the text with asterisks of file patterns as they are, and with double backquotes as single ones."""
    pieces = re.split(r"(`[^`\n]*`)", re.sub(r"(?<!`)``(?!`)", "`", text))
    pattern = re.compile(r"(?<=[\w\"., /])\*(?=[\w.,\"])(?!\[)")
    return "".join(
        each if each.startswith("`") else re.sub(r"(?<![\w-])--[a-z][\w-]*", r"`\g<0>`", pattern.sub(r"\\*", each))
        for each in pieces
    )


def shown(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool | None) else str(value)


def defaults(recipe: str) -> dict[str, Any]:
    """Return the settings of a recipe with their defaults."""
    from genevae.recipes.describe import settings_of
    from genevae.recipes.registry import recipe_named

    return {each.name: each for each in settings_of(recipe_named(recipe))}


def svg_of(places: dict[str, tuple[float, float, str, bool]], arrows: list[tuple[str, str, bool]], alt: str) -> str:
    """Return a graph as SVG that takes its colours from the page."""
    wide, high, radius_x, radius_y = 150, 78, 58, 21
    centre = {name: ((x + 0.5) * wide, (y + 0.5) * high) for name, (x, y, _, _) in places.items()}
    width = max(x for x, _ in centre.values()) + wide / 2
    height = max(y for _, y in centre.values()) + high / 2
    parts = []
    for start, end, dashed in arrows:
        (x0, y0), (x1, y1) = centre[start], centre[end]
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        leave = 1 / ((ux / radius_x) ** 2 + (uy / radius_y) ** 2) ** 0.5
        style = ' stroke-dasharray="5 4"' if dashed else ""
        parts.append(
            f'<line x1="{x0 + ux * leave:.0f}" y1="{y0 + uy * leave:.0f}" x2="{x1 - ux * (leave + 7):.0f}" '
            f'y2="{y1 - uy * (leave + 7):.0f}" stroke="currentColor" stroke-width="1.4"{style} '
            'marker-end="url(#genevae-arrow)"/>'
        )
    for name, (_, _, label, observed) in places.items():
        x, y = centre[name]
        kind = ' class="observed"' if observed else ' fill="none"'
        parts.append(
            f'<ellipse cx="{x:.0f}" cy="{y:.0f}" rx="{radius_x}" ry="{radius_y}" stroke="currentColor" '
            f'stroke-width="1.4"{kind}/><text x="{x:.0f}" y="{y + 4.5:.0f}" text-anchor="middle" font-size="13" '
            f'fill="currentColor">{html.escape(label)}</text>'
        )
    return (
        f'<svg class="genevae-graph" role="img" aria-label="{html.escape(alt)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}"><defs><marker id="genevae-arrow" viewBox="0 0 10 10" refX="3" refY="5" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 10 5 0 10z" fill="currentColor"/></marker></defs>'
        f"{''.join(parts)}</svg>"
    )
