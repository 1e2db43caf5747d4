"""Private words that the field has better words for do not come back: identifiers and texts are read for them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import genevae

ROOT = Path(genevae.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

IN_NAMES = frozenset(
    """
    told tell tells asked ask asks bench judged judge judges placed guesses guess rivals strangers moved carry carried
    carries shelf shelve hiding journey inwards outwards watch watched pointmass rise remember remembered remembers
    lowered own together drafted origin traces words look looks looked drawn direct grid mend mended mends refuse
    refused refuses foretells usual dealt beside borrowed borrow understand lent lend
    """.split()  # noqa: SIM905 - a list of words is easier to read so
)
"""Parts of identifiers."""
IN_TEXTS = """
    told tell tells telling asked ask asks asking bench judged judge judges guesses rival rivals stranger strangers
    shelf shelve hiding journey inwards outwards remember remembers remembered mend mends mended refuse refuses refused
    foretell foretells dealt lend lends lent borrow borrows borrowed carry carries carried whoever nought
""".split()  # noqa: SIM905
PHRASES = ["go on", "goes on", "going on", "puts? in place", "kinds? of cells?", "as such"]
PROSE = re.compile(rf"\b({'|'.join([*IN_TEXTS, *PHRASES])})\b", re.IGNORECASE)
"""Words and phrases of docstrings and messages."""


def words_of(name: str) -> set[str]:
    """Split an identifier into lower-case words."""
    return set(re.findall(r"[a-z]+", re.sub(r"([A-Z])", r" \1", name).lower().replace("_", " ")))


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def violations(text: str) -> list[str]:
    tree = ast.parse(text)
    found = [f"line {line}: {name}" for line, name in names(tree) if words_of(name) & IN_NAMES]
    for line, words in texts(tree):
        found += [f"line {line}: {words[max(0, at.start() - 40) : at.end() + 30]!r}" for at in PROSE.finditer(words)]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_private_words(path: Path) -> None:
    assert not violations(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "code",
    ["def asked_labels(): ...", "told_ng = 1", "class Bench: ...", '"""Say what it was told."""', 'x = "goes on now"'],
)
def test_private_words_are_found(code: str) -> None:
    assert violations(code)
