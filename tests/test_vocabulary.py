"""Private words that the field has better words for do not come back; pages name files that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import genevae

ROOT = Path(genevae.__file__).parent
REPOSITORY = Path(__file__).parents[1]
FILES = [
    *sorted(ROOT.rglob("*.py")),
    *sorted(REPOSITORY.glob("examples/*.py")),
    *sorted(REPOSITORY.glob("docs/**/*.py")),
]
PAGES = [*sorted(REPOSITORY.glob("docs/**/*.md")), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]

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
    foretell foretells dealt lend lends lent borrow borrows borrowed carry carries carried whoever nought dear guess
    judge
""".split()  # noqa: SIM905
PHRASES = ["go on", "goes on", "going on", "puts? in place", "kinds? of cells?", "as such", "now and then", "for ever"]
PROSE = re.compile(rf"\b({'|'.join([*IN_TEXTS, *PHRASES])})\b", re.IGNORECASE)
"""Words and phrases of docstrings, messages and pages."""
PLAIN = frozenset({"ask"})
"""Words that pages may use in their everyday sense."""

CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
PATH = re.compile(r"(?<![\w/.:-])[\w.-]+(?:/[\w.-]+)*\.(?:py|md)\b|(?<=`)\w[\w./-]*/(?=`)")
"""A Python or Markdown file, or a folder in backquotes."""
FOLDER = re.compile(r"`([\w/]+)/`")
NOT_IN_THE_REPOSITORY = frozenset({"checkpoints/"})
"""Folders of a run."""


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


def page_violations(text: str) -> list[str]:
    """Find private words in the prose of a Markdown page, outside code."""
    prose = CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    found = (at for at in PROSE.finditer(prose) if at[0].lower() not in PLAIN)
    return [f"line {prose.count(chr(10), 0, at.start()) + 1}: {at[0]}" for at in found]


def dead_paths(text: str, folder: Path = REPOSITORY) -> list[str]:
    """Find paths that do not exist in the repository, the package, the page's folder or a folder named in their line.

    ``NAME`` in a path stands for any name. Blocks of code are not read: they name the reader's files.
    """
    found: list[str] = []
    for line in re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines():
        bases = [folder, REPOSITORY, ROOT, ROOT.parent, *(ROOT / name for name in FOLDER.findall(line))]
        paths = {at[0] for at in PATH.finditer(line)} - NOT_IN_THE_REPOSITORY
        found += [path for path in paths if not any(any(base.glob(path.replace("NAME", "*"))) for base in bases)]
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT if path.is_relative_to(ROOT) else REPOSITORY).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_private_words(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not violations(text)
    if not path.is_relative_to(ROOT):
        comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
        assert not page_violations("\n".join(comments))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_pages_have_no_private_words_and_name_real_files(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not page_violations(text)
    assert not dead_paths(text, path.parent)


@pytest.mark.parametrize(
    "code",
    ["def asked_labels(): ...", "told_ng = 1", "class Bench: ...", '"""Say what it was told."""', 'x = "goes on now"'],
)
def test_private_words_are_found(code: str) -> None:
    assert violations(code)


def test_private_words_and_dead_paths_of_pages_are_found() -> None:
    assert page_violations("The model is\ntold the batch.") == ["line 2: told"]
    assert page_violations("A dear one: it can only guess.") == ["line 1: dear", "line 1: guess"]
    assert not page_violations("Ask: `told`\n```\nmake bench\n```\n")
    assert dead_paths("See `evaluation/bound.py`, data/order.py and `gone/`.")
    assert dead_paths("Computed by `classification.py`.") == ["classification.py"]
    assert not dead_paths(
        "`metrics/bound.py`, `tests/test_vocabulary.py`, `src/genevae/io/`, `tasks/NAME.py`, docs/guide.md"
    )
    assert not dead_paths("`io/` has `formats.py`; a run has `checkpoints/`")
