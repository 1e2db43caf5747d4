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

import re
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from from_package import COMMANDS_HERE, commands, defaults, missing_data, shown, svg_of
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

__all__ = ["setup"]


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
    head = head.replace("  name: python3\n", "  name: python3\n  language: python\n", 1)  # which a run would have found
    source[0] = head + title + note + rest


def list_commands(app: Sphinx, name: str, source: list[str]) -> None:  # noqa: ARG001 - the event's signature
    """Put every command where a page wants them."""
    if COMMANDS_HERE in source[0]:
        source[0] = source[0].replace(COMMANDS_HERE, commands())


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


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_role("default", Default())
    app.add_directive("settings", Settings)
    app.add_directive("graph", Graph)
    app.connect("source-read", say_what_is_missing)
    app.connect("source-read", list_commands)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
