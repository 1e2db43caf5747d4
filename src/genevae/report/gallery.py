"""A page that links other pages and shows pictures: what a folder holds, made to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from importlib.resources import files

from genevae.report.packing import policy_hash

__all__ = ["Gallery", "Link", "Picture", "gallery_page"]


@dataclass(frozen=True)
class Link:
    """A page: its file, its title and what it is for."""

    file: str
    title: str
    text: str


@dataclass(frozen=True)
class Picture(Link):
    """A picture; ``broad`` ones take the whole width."""

    broad: bool = False


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """What the page has.

    Parameters
    ----------
    title, lead
        The title, and a paragraph under it.
    links
        Pages in the same folder.
    columns, rows
        A table of scores.
    pictures
        Pictures in the same folder.
    heading
        Of the table.
    """

    title: str
    lead: str
    links: Sequence[Link]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    pictures: Sequence[Picture]
    heading: str = "What the models reach"


def gallery_page(gallery: Gallery) -> str:
    """Return the page as HTML."""
    parts = (files("genevae.report") / name for name in ("report.css", "gallery.css"))
    style = "".join(part.read_text(encoding="utf-8") for part in parts)
    links = "".join(
        f'<a href="{escape(link.file)}"><b>{escape(link.title)}</b><span>{escape(link.text)}</span></a>\n'
        for link in gallery.links
    )
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in gallery.columns)
    rows = "".join(f"<tr>{''.join(_cell(at, text) for at, text in enumerate(row))}</tr>\n" for row in gallery.rows)
    pictures = "".join(
        f'<figure class="{"broad" if each.broad else ""}"><img src="{escape(each.file)}" alt="{escape(each.text)}">'
        f"<figcaption><b>{escape(each.title)}</b>{escape(each.text)}</figcaption></figure>\n"
        for each in gallery.pictures
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src '{policy_hash(style)}'; \
img-src 'self' file: data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(gallery.title)} · genevae</title>
<style>{style}</style>
</head>
<body>
<header><p class="brand">genevae</p><h1>{escape(gallery.title)}</h1><p class="sub">{escape(gallery.lead)}</p></header>
<main>
<nav class="cards" aria-label="Pages">{links}</nav>
<section><h2>{escape(gallery.heading)}</h2><div class="scroll" tabindex="0" role="region" aria-label="Scores"><table>
<thead><tr>{head}</tr></thead><tbody>
{rows}</tbody></table></div></section>
<section><h2>Pictures</h2><div class="pictures">
{pictures}</div></section>
</main>
<footer>Made by genevae {escape(version("genevae"))}. These files need no network.</footer>
</body>
</html>
"""


def _cell(at: int, text: str) -> str:
    if at == 0:
        return f'<th scope="row">{escape(text)}</th>'
    return f"<td>{f'<b>{escape(text)}</b>' if at == 1 else escape(text)}</td>"
