"""Directives that take numbers, names and graphs from the package, so that no page can disagree with the code.

``{default}`NAME.SETTING```
    The default of a setting of a recipe, in a sentence.
``{settings} NAME``
    A table of settings with their reasons; each line is ``setting: reason``, and the default comes from the code. All
    other settings follow, folded.
``{graph}``
    A small drawing of which quantity depends on which.
``<!-- all commands -->``
    Every command with its arguments and options.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

__all__ = ["pages_without_data", "setup"]

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


def say_what_is_missing(app: Sphinx, name: str, source: list[str]) -> None:  # noqa: ARG001 - the event's signature
    """Write at the top of a page that its cells were not run, and why."""
    missing = missing_data(source[0])
    if not missing:
        return
    note = (
        "\n:::{attention}\n**The code of this page was not run when the site was built**: "
        f"the folder `GENEVAE_DATA` has no {', '.join(f'`{each}`' for each in missing)}. "
        "So there are no results below.\n:::\n"
    )
    head, title, rest = re.split(r"(^# .+$)", source[0], maxsplit=1, flags=re.MULTILINE)
    source[0] = head + title + note + rest


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
    return "".join(each if each.startswith("`") else pattern.sub(r"\\*", each) for each in pieces)


def list_commands(app: Sphinx, name: str, source: list[str]) -> None:  # noqa: ARG001 - the event's signature
    """Put every command where a page wants them."""
    if COMMANDS_HERE in source[0]:
        source[0] = source[0].replace(COMMANDS_HERE, commands())


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


class Default(SphinxRole):
    """The default of a setting."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the value as literal text."""
        recipe, _, name = self.text.partition(".")
        return [nodes.literal(self.text, shown(defaults(recipe)[name].default))], []


class Settings(SphinxDirective):
    """Settings of a recipe, with reasons for some of them."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a table of the settings with reasons, and one of all others, folded."""
        known = defaults(self.arguments[0])
        reasons: dict[str, str] = {}
        for line in self.content:
            if line.strip():
                name, _, reason = line.partition(":")
                reasons[name.strip()] = reason.strip()
        unknown = sorted(reasons.keys() - known.keys())
        if unknown:
            raise self.error(f"the recipe {self.arguments[0]} has no setting {', '.join(unknown)}")
        chosen = [f"| `{name}` | `{shown(known[name].default)}` | {reason} |" for name, reason in reasons.items()]
        rest = [
            f"| `{name}` | `{shown(each.default)}` | {each.valid} | {_cell(each.meaning)} |"
            for name, each in known.items()
            if name not in reasons
        ]
        text = ["| setting | default | why |", "|---|---|---|", *chosen, "", ":::{dropdown} All other settings", ""]
        text += ["| setting | default | valid | meaning |", "|---|---|---|---|", *rest, "", ":::"]
        return self.parse_text_to_nodes("\n".join(text))


def _cell(text: str) -> str:
    """Return a text that fits in a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


class Graph(SphinxDirective):
    """A drawing of a graphical model.

    Lines ``name: label @ column, row`` place a node, with ``*`` after the name where it is observed;
    ``a -> b`` is an arrow, ``a ~> b`` a dashed one, which is inference.
    """

    has_content = True
    option_spec: ClassVar = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Return the drawing, as SVG in the page."""
        places: dict[str, tuple[float, float, str, bool]] = {}
        arrows: list[tuple[str, str, bool]] = []
        for line in filter(str.strip, self.content):
            if node := re.fullmatch(r"(\w+)(\*?): (.+) @ ([\d.]+), ([\d.]+)", line.strip()):
                places[node[1]] = (float(node[4]), float(node[5]), node[3], bool(node[2]))
            elif arrow := re.fullmatch(r"(\w+) ([-~])> (\w+)", line.strip()):
                arrows.append((arrow[1], arrow[3], arrow[2] == "~"))
            else:
                raise self.error(f"the graph has a line that is neither a node nor an arrow: {line}")
        if "alt" not in self.options:
            raise self.error("the graph has no :alt: text")
        return [nodes.raw("", svg_of(places, arrows, self.options["alt"]), format="html")]


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


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_role("default", Default())
    app.add_directive("settings", Settings)
    app.add_directive("graph", Graph)
    app.connect("source-read", say_what_is_missing)
    app.connect("source-read", list_commands)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
